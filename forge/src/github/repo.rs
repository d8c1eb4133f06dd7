//! Is the repository there, readable, writable, and what should its owner know.

use domain::FailureCode;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::Name;
use super::client::{Answer, Client, misread, unexpected};
use crate::{ForgeError, RepoInfo, fail, near};

/// What the task will do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Read,
    Write,
}

#[derive(Debug, Deserialize)]
struct Repo {
    full_name: String,
    default_branch: Option<String>,
    #[serde(default)]
    archived: bool,
    #[serde(default)]
    disabled: bool,
    permissions: Option<Permissions>,
}

#[derive(Debug, Deserialize)]
struct Permissions {
    #[serde(default)]
    push: bool,
}

#[derive(Debug, Deserialize)]
struct Branch {
    name: String,
}

pub(super) async fn inspect(
    client: &Client,
    name: Name<'_>,
    base: Option<&str>,
    wanted: Wanted,
) -> Result<RepoInfo, ForgeError> {
    let repo = get(client, name).await?;
    match wanted {
        Wanted::Read => {}
        Wanted::Write => writable(client, name, &repo).await?,
    }
    let default_branch = repo.default_branch.clone().unwrap_or_else(|| "main".into());
    let base = base.unwrap_or(&default_branch);
    base_exists(client, name, base).await?;
    let mut warnings = Vec::new();
    if !repo.full_name.eq_ignore_ascii_case(&format!("{}/{}", name.owner, name.name)) {
        warnings.push(format!(
            "The repository is now called {}; the old name works as long as GitHub redirects it.",
            repo.full_name
        ));
    }
    let (modules, attributes) =
        tokio::join!(file(client, name, base, ".gitmodules"), file(client, name, base, ".gitattributes"));
    if modules.is_some() {
        warnings
            .push("The repository has submodules; they are not fetched, their folders stay empty.".into());
    }
    if attributes.is_some_and(|text| text.contains("filter=lfs")) {
        warnings.push("The repository uses git-lfs; its large files stay pointers.".into());
    }
    Ok(RepoInfo { default_branch, warnings })
}

async fn get(client: &Client, name: Name<'_>) -> Result<Repo, ForgeError> {
    let doing = format!("looking at {name}");
    let answer = client.get(client.url(&["repos", name.owner, name.name]), &doing).await?;
    match answer.status {
        StatusCode::OK => serde_json::from_value(answer.body).map_err(|e| misread(e, &doing)),
        StatusCode::NOT_FOUND
        | StatusCode::FORBIDDEN
        | StatusCode::GONE
        | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => {
            let why = format!(
                "{doing}: GitHub answered {}; it does not exist, or the token may not see it",
                answer.message()
            );
            Err(fail::never(FailureCode::RepoNotFoundOrNoAccess, why).about(name.to_string()))
        }
        _ => Err(unexpected(&answer, &doing)),
    }
}

async fn writable(client: &Client, name: Name<'_>, repo: &Repo) -> Result<(), ForgeError> {
    let refuse = |why: String| {
        Err(fail::never(FailureCode::InsufficientGithubRepoPermissions, why).about(name.to_string()))
    };
    if repo.archived {
        return refuse(format!("{name} is archived and cannot be written to; unarchive it first"));
    }
    if repo.disabled {
        return refuse(format!("{name} is disabled by GitHub and cannot be written to"));
    }
    if repo.permissions.as_ref().is_some_and(|p| p.push) {
        return Ok(());
    }
    // REST leaves the flag out for some kinds of token; GraphQL knows.
    match viewer_permission(client, name).await?.as_deref() {
        Some("WRITE" | "MAINTAIN" | "ADMIN") => Ok(()),
        Some(other) => refuse(format!("the token's permission on {name} is {other}; pushing needs WRITE")),
        None => refuse(format!("the token may read {name} but not push to it")),
    }
}

async fn viewer_permission(client: &Client, name: Name<'_>) -> Result<Option<String>, ForgeError> {
    let query = "query($owner: String!, $name: String!) { repository(owner: $owner, name: $name) { viewerPermission } }";
    let body = json!({"query": query, "variables": {"owner": name.owner, "name": name.name}});
    let doing = format!("asking for the token's permission on {name}");
    let answer = client.post(client.graphql_url(), &body, &doing).await?;
    let permission = answer.body.pointer("/data/repository/viewerPermission");
    Ok(permission.and_then(|p| p.as_str()).map(str::to_owned))
}

async fn base_exists(client: &Client, name: Name<'_>, base: &str) -> Result<(), ForgeError> {
    let doing = format!("looking for branch {base} of {name}");
    let answer = client.get(client.url(&["repos", name.owner, name.name, "branches", base]), &doing).await?;
    match answer.status {
        StatusCode::OK => {
            let found: Branch = serde_json::from_value(answer.body).map_err(|e| misread(e, &doing))?;
            if found.name == base {
                return Ok(());
            }
            // GitHub redirects the old name of a renamed branch; git does not.
            let why = format!("branch {base} of {name} is now called {}; name that one", found.name);
            Err(fail::never(FailureCode::BaseBranchNotFound, why).about(base))
        }
        StatusCode::NOT_FOUND => Err(no_branch(client, name, base).await?),
        _ => Err(unexpected(&answer, &doing)),
    }
}

/// Why a branch is not there: the repository is empty, or the name is wrong.
async fn no_branch(client: &Client, name: Name<'_>, base: &str) -> Result<ForgeError, ForgeError> {
    let doing = format!("listing the branches of {name}");
    let mut url = client.url(&["repos", name.owner, name.name, "branches"]);
    url.query_pairs_mut().append_pair("per_page", "100");
    let Answer { status, body } = client.get(url, &doing).await?;
    let branches: Vec<Branch> = match status {
        StatusCode::OK => serde_json::from_value(body).map_err(|e| misread(e, &doing))?,
        _ => Vec::new(),
    };
    if status == StatusCode::OK && branches.is_empty() {
        let why = format!("{name} has no commit on any branch; make a first one");
        return Ok(fail::never(FailureCode::RepoEmpty, why).about(name.to_string()));
    }
    let names: Vec<String> = branches.into_iter().map(|b| b.name).collect();
    let why = format!("{name} has no branch {base}{}", near::offer(base, &names));
    Ok(fail::never(FailureCode::BaseBranchNotFound, why).about(base))
}

/// A small text file at a branch; none when it is not there or GitHub will not say, which only costs a warning.
async fn file(client: &Client, name: Name<'_>, branch: &str, path: &str) -> Option<String> {
    use base64::Engine as _;
    let mut url = client.url(&["repos", name.owner, name.name, "contents", path]);
    url.query_pairs_mut().append_pair("ref", branch);
    let answer = client.get(url, "looking for notable files").await.ok()?;
    let content = answer.body.get("content").filter(|_| answer.status == StatusCode::OK)?.as_str()?;
    let packed: String = content.split_whitespace().collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
