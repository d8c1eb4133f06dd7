//! What is asked of a push before anything leaves this machine.

use domain::FailureCode;
use git::Git;

use crate::{ForgeError, PushRequest, fail};

/// Refuses what could be read as another ref, a pattern or an option, and a commit the mirror does not have.
pub(crate) async fn push_request(request: &PushRequest<'_>) -> Result<(), ForgeError> {
    let sha = request.head_sha;
    let branch = format!("refs/heads/{}", request.branch);
    let named = Git::new().args(["check-ref-format", &branch]).run().await.is_ok();
    if !named || sha.len() != 40 || !sha.bytes().all(|b| b.is_ascii_hexdigit()) {
        let why = format!("{:?} at {sha:?} is no branch at a commit", request.branch);
        return Err(fail::never(FailureCode::InternalError, why));
    }
    match git::rev_parse(request.mirror, sha).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => {
            let why =
                format!("the mirror {} does not hold {sha}, which the box pushed", request.mirror.display());
            Err(fail::never(FailureCode::DeliverableLost, why).about(request.branch))
        }
        Err(error) => Err(fail::push(error, request.repo, request.branch)),
    }
}
