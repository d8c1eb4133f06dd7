//! Links that come and go while the file tools look: whatever the moment, nothing outside the tree is read or written.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use worker::guidance::Guidance;
use worker::tool::{Environment, ToolContext, Tools, Workspace};

const SECRET: &str = "the-secret-of-the-host";
/// Calls of each tool at least, and swaps meanwhile.
const CALLS: usize = 300;

struct World {
    place: tempfile::TempDir,
    tools: Tools,
    swapping: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    swapper: Option<std::thread::JoinHandle<()>>,
}

/// `tree/at` is, in turn, a folder with the file `file`, and a link to a folder outside with a file of that name.
fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("tree");
    let outside = place.path().join("outside");
    for (folder, text) in [(root.join("real"), "harmless\n"), (outside.clone(), SECRET)] {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file"), text).unwrap();
        std::fs::write(folder.join("AGENTS.md"), text).unwrap();
    }
    symlink(&outside, root.join("link")).unwrap();
    std::fs::rename(root.join("real"), root.join("at")).unwrap();
    let workspace = Workspace::open(&root, Environment::clean([])).unwrap();
    let guidance = Guidance::of(workspace.tree());
    let tools = Tools::new(workspace, guidance);
    let swapping = Arc::new(AtomicBool::new(true));
    let swaps = Arc::new(AtomicU64::new(0));
    let (go_on, count, folder) = (swapping.clone(), swaps.clone(), root);
    let swapper = std::thread::spawn(move || {
        while go_on.load(Ordering::Relaxed) {
            swap(&folder.join("at"), &folder.join("link"));
            count.fetch_add(1, Ordering::Relaxed);
        }
        // Ends with the folder in its place.
        if folder.join("at").symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
            swap(&folder.join("at"), &folder.join("link"));
        }
    });
    World { place, tools, swapping, swaps, swapper: Some(swapper) }
}

/// Exchanges two names at once, as a hostile program would.
fn swap(one: &Path, other: &Path) {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
}

impl World {
    async fn call(&self, tool: &str, input: &Value) -> String {
        let ctx = ToolContext { cancel: CancellationToken::new(), live: &|_| () };
        self.tools.run(tool, input, &ctx).await.as_text()
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.place.path().join("outside").join(name)
    }

    /// Calls a tool often, and until there were swaps meanwhile and `words` were in an answer.
    async fn often(&self, tool: &str, input: Value, words: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let swaps = self.swaps.load(Ordering::Relaxed);
        let (mut calls, mut found) = (0, false);
        while calls < CALLS || !found || self.swaps.load(Ordering::Relaxed) - swaps < CALLS as u64 {
            assert!(Instant::now() < deadline, "{tool}: {words:?} was never in an answer");
            let answer = self.call(tool, &input).await;
            assert!(!answer.contains(SECRET), "{tool} told what is outside: {answer}");
            found |= answer.contains(words);
            calls += 1;
        }
    }

    fn end(mut self) {
        self.swapping.store(false, Ordering::Relaxed);
        self.swapper.take().unwrap().join().unwrap();
        assert_eq!(std::fs::read_to_string(self.outside("file")).unwrap(), SECRET);
        let mut names: Vec<_> =
            std::fs::read_dir(self.outside("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["AGENTS.md", "file"], "nothing was made outside");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_and_searching_never_leave_the_tree() {
    let w = world();
    w.often("Read", json!({ "file_path": "at/file" }), "harmless").await;
    w.often("Grep", json!({ "pattern": ".", "output_mode": "content" }), "").await;
    w.often("Grep", json!({ "pattern": "secret", "path": "at", "output_mode": "content" }), "").await;
    w.often("Glob", json!({ "pattern": "**/file" }), "").await;
    w.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writing_and_editing_never_leave_the_tree() {
    let w = world();
    w.often("Read", json!({ "file_path": "at/file" }), "").await;
    w.often("Write", json!({ "file_path": "at/new/file", "content": "x" }), "created").await;
    w.often("Write", json!({ "file_path": "at/file", "content": "x" }), "").await;
    let edit =
        json!({ "file_path": "at/file", "old_string": "host", "new_string": "x", "replace_all": true });
    w.often("Edit", edit, "").await;
    let edits = json!({ "file_path": "at/file", "edits": [{ "old_string": "secret", "new_string": "x" }] });
    w.often("MultiEdit", edits, "").await;
    w.end();
}
