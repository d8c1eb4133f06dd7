//! The image that a repository names for its containers, read from the mirror: no work tree and no box is needed for it.

use compute::container::devcontainer;
use domain::{Failure, FailureCode, IsolationTier, Task};
use git::Git;

use crate::Orchestrator;

/// Longer than any such file.
const FILE_MAX_BYTES: usize = 256 * 1024;

impl Orchestrator {
    /// Whether the repository may be asked for its image, which needs its mirror up to date.
    pub(crate) fn asks_for_image(&self, task: &Task) -> bool {
        let policy = &self.parts().policy;
        // One of its own, that is: the one for all is what the worker runs in, whatever the repository names for its tools.
        let named = policy.boxes.of(&task.spec.repo).image != policy.boxes.default.image;
        policy.devcontainer && !named && policy.tier_of(&task.spec) == IsolationTier::Container
    }

    /// The image that the repository names at the task's base, if it names one.
    pub(crate) async fn image(&self, task: &Task) -> Result<Option<String>, Failure> {
        let mirror = self.parts().mirrors.path(&task.spec.repo);
        let base = task.results.base_branch.as_deref().unwrap_or_default();
        for path in devcontainer::PATHS {
            let read = Git::new()
                .dir(&mirror)
                .args(["cat-file", "blob", &format!("refs/heads/{base}:{path}")])
                .exits(&[0, 128])
                .stdout_max(FILE_MAX_BYTES)
                .doing(format!("reading {path} of {}", task.spec.repo))
                .run()
                .await
                .map_err(|e| Failure::new(FailureCode::RepoSetupFailed, e.to_string()))?;
            if read.code == 0 {
                let text = String::from_utf8_lossy(&read.stdout);
                return devcontainer::image(&text).map_err(|why| {
                    Failure::new(FailureCode::IsolationUnavailable, why).resource("container")
                });
            }
        }
        Ok(None)
    }
}
