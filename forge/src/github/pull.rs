//! Finds the pull request of a branch, or opens it as a draft. There is at most one for each branch, however often
//! this is called and wherever an earlier call broke off.

use domain::{FailureCode, limit};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Name;
use super::client::{Answer, Client, misread, unexpected};
use crate::{ForgeError, PullRequest, PullRequestDraft, fail};

#[derive(Debug, Deserialize)]
struct Pull {
    number: u64,
    html_url: String,
    state: String,
    head: End,
    base: End,
}

#[derive(Debug, Deserialize)]
struct End {
    #[serde(rename = "ref")]
    branch: String,
    /// `OWNER:BRANCH`.
    label: Option<String>,
    /// None when a fork was deleted.
    repo: Option<EndRepo>,
}

#[derive(Debug, Deserialize)]
struct EndRepo {
    full_name: String,
}

/// How GitHub refused to open one.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    NoDrafts,
    Exists,
    NothingToMerge,
    Other,
}

pub(super) async fn open_or_find(
    client: &Client,
    name: Name<'_>,
    draft: &PullRequestDraft,
) -> Result<PullRequest, ForgeError> {
    if let Some(found) = find(client, name, &draft.branch).await? {
        return Ok(found);
    }
    let doing = format!("opening a pull request for {} in {name}", draft.branch);
    let answer = open(client, name, &body(draft, json!(true)), &doing).await?;
    let answer = match refusal(&answer) {
        // Private repositories of some plans have no drafts.
        Some(Refusal::NoDrafts) => open(client, name, &body(draft, json!(false)), &doing).await?,
        Some(Refusal::Exists | Refusal::NothingToMerge | Refusal::Other) | None => answer,
    };
    match (answer.status, refusal(&answer)) {
        (StatusCode::CREATED, _) => {
            let pull: Pull = serde_json::from_value(answer.body).map_err(|e| misread(e, &doing))?;
            Ok(PullRequest { url: pull.html_url, number: Some(pull.number), found: false })
        }
        // Opened meanwhile, or by a request whose answer was lost.
        (_, Some(Refusal::Exists)) => match find(client, name, &draft.branch).await? {
            Some(found) => Ok(found),
            None => Err(unexpected(&answer, &doing)),
        },
        (_, Some(Refusal::NothingToMerge)) => {
            let why = format!(
                "{doing}: there is nothing in it that {} does not have ({})",
                draft.base,
                answer.message()
            );
            Err(fail::never(FailureCode::NoPr, why).about(draft.branch.as_str()))
        }
        (StatusCode::UNPROCESSABLE_ENTITY, _) => {
            let why = format!("{doing}: GitHub refused it: {}", answer.message());
            Err(fail::never(FailureCode::NoPr, why).about(draft.branch.as_str()))
        }
        (StatusCode::FORBIDDEN, _) => {
            let why = format!(
                "{doing}: GitHub answered {}; the token needs Pull requests: read and write",
                answer.message()
            );
            Err(fail::never(FailureCode::InsufficientGithubRepoPermissions, why).about(name.to_string()))
        }
        (StatusCode::NOT_FOUND, _) => {
            let why = format!(
                "{doing}: GitHub answered {}; the token may not open pull requests there, or the repository is gone",
                answer.message()
            );
            Err(fail::never(FailureCode::RepoNotFoundOrNoAccess, why).about(name.to_string()))
        }
        _ => Err(unexpected(&answer, &doing)),
    }
}

/// The pull request of this branch: the open one, else the newest closed one. First by head, then, because GitHub
/// ignores a head whose owner has been renamed, among the newest open ones.
async fn find(client: &Client, name: Name<'_>, branch: &str) -> Result<Option<PullRequest>, ForgeError> {
    let head = format!("{}:{branch}", name.owner);
    let by_head = [
        ("head", head.as_str()),
        ("state", "all"),
        ("sort", "created"),
        ("direction", "desc"),
        ("per_page", "30"),
    ];
    let newest = [("state", "open"), ("sort", "created"), ("direction", "desc"), ("per_page", "30")];
    for query in [&by_head[..], &newest[..]] {
        let pulls = list(client, name, query).await?;
        let mut ours = pulls.into_iter().filter(|p| is_ours(p, branch)).collect::<Vec<_>>();
        ours.sort_by_key(|p| (p.state != "open", std::cmp::Reverse(p.number)));
        if let Some(pull) = ours.into_iter().next() {
            return Ok(Some(PullRequest { url: pull.html_url, number: Some(pull.number), found: true }));
        }
    }
    Ok(None)
}

/// Of this very branch, and not of a fork's branch of the same name.
fn is_ours(pull: &Pull, branch: &str) -> bool {
    let full_name = |end: &End| end.repo.as_ref().map(|r| r.full_name.to_ascii_lowercase());
    let owner = |end: &End| Some(end.label.as_ref()?.split_once(':')?.0.to_ascii_lowercase());
    let same_repository = match (full_name(&pull.head), full_name(&pull.base)) {
        (Some(head), Some(base)) => head == base,
        // A fork that was deleted.
        (None, Some(_)) | (Some(_), None) => false,
        // Hosts that imitate GitHub leave both out; the label tells the owner.
        (None, None) => owner(&pull.head).is_some_and(|head| Some(head) == owner(&pull.base)),
    };
    pull.head.branch == branch && same_repository
}

async fn list(client: &Client, name: Name<'_>, query: &[(&str, &str)]) -> Result<Vec<Pull>, ForgeError> {
    let doing = format!("listing the pull requests of {name}");
    let mut url = client.url(&["repos", name.owner, name.name, "pulls"]);
    url.query_pairs_mut().extend_pairs(query);
    let answer = client.get(url, &doing).await?;
    match answer.status {
        StatusCode::OK => serde_json::from_value(answer.body).map_err(|e| misread(e, &doing)),
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => {
            let why = format!("{doing}: GitHub answered {}", answer.message());
            Err(fail::never(FailureCode::RepoNotFoundOrNoAccess, why).about(name.to_string()))
        }
        _ => Err(unexpected(&answer, &doing)),
    }
}

async fn open(client: &Client, name: Name<'_>, body: &Value, doing: &str) -> Result<Answer, ForgeError> {
    client.post(client.url(&["repos", name.owner, name.name, "pulls"]), body, doing).await
}

fn body(draft: &PullRequestDraft, is_draft: Value) -> Value {
    let cut = |text: &str, max: usize| text.chars().take(max).collect::<String>();
    json!({
        "title": cut(&draft.title, limit::PR_TITLE_MAX_CHARS),
        "body": cut(&draft.body, limit::PR_BODY_MAX_CHARS),
        "head": draft.branch,
        "base": draft.base,
        "draft": is_draft,
    })
}

fn refusal(answer: &Answer) -> Option<Refusal> {
    if answer.status != StatusCode::UNPROCESSABLE_ENTITY {
        return None;
    }
    let said = answer.message().to_ascii_lowercase();
    Some(if said.contains("already exists") {
        Refusal::Exists
    } else if said.contains("draft") {
        Refusal::NoDrafts
    } else if said.contains("no commits between") {
        Refusal::NothingToMerge
    } else {
        Refusal::Other
    })
}
