//! Where a replay happens: the commit the task started from, in a repository of its own, and a server's settings.

use std::path::{Path, PathBuf};

use git::Git;
use toml::{Table, Value};
use trace::Trajectory;
use trace::line::Header;
use trace::play::Played;

use crate::clean;
use crate::connect::Overrides;
use crate::context::Context;
use crate::failure::Failure;

/// The repository, below the folder of the replay.
pub const REPO: &str = "repo.git";
/// Parts of a configuration that a replay has no use for, some with credentials in them.
const LEFT_OUT: [&str; 5] = ["model", "api", "forge", "server", "state_dir"];

/// Where the commit is.
#[derive(Debug, Clone)]
pub struct Source {
    /// A git repository.
    path: PathBuf,
    /// The commit, whole.
    pub sha: String,
}

/// Finds the commit that a task started from.
pub async fn source(header: &Header, repo: Option<&Path>) -> Result<Source, Failure> {
    let Some(sha) = header.base_sha.clone() else {
        return Err(Failure::new("the trace does not say which commit the task started from")
            .hint("Its box ended before it had the repository: there is nothing to run again."));
    };
    let here = std::env::current_dir().unwrap_or_default();
    let own = Path::new(&header.repo);
    let places: Vec<PathBuf> = match repo {
        Some(repo) => vec![repo.to_owned()],
        None => [own.is_absolute().then(|| own.to_owned()), Some(here)].into_iter().flatten().collect(),
    };
    for place in &places {
        if let Ok(Some(_)) = git::rev_parse(place.as_path(), &format!("{sha}^{{commit}}")).await {
            return Ok(Source { path: place.clone(), sha });
        }
    }
    let looked: Vec<_> = places.iter().map(|p| clean::line(&p.to_string_lossy())).collect();
    let repo = clean::line(&header.repo);
    Err(Failure::new(format!(
        "the commit {sha} that the task started from is not in {}",
        looked.join(" or ")
    ))
    .hint(format!("Name a clone of {repo} that has it with --repo PATH (perhaps after `git fetch`).")))
}

/// Makes the repository, the transcript and the settings; answers what the server is started with.
pub async fn lay_out(
    cx: &Context,
    folder: &Path,
    recorded: &Trajectory,
    played: &Played,
    source: &Source,
) -> Result<Overrides, Failure> {
    let header = &recorded.header;
    make_repo(&folder.join(REPO), header.base_branch.as_deref().unwrap_or("main"), source).await?;
    write(&folder.join("recorded.json"), &played.transcript.to_string())?;
    let config = folder.join("bgagent.toml");
    write(&config, &settings(&person(cx)?, folder, recorded).to_string())?;
    let foreign = |name: &String| {
        name == "BGAGENT_FAULT_POINT"
            || LEFT_OUT.iter().any(|part| name.starts_with(&format!("BGAGENT__{}", part.to_uppercase())))
            || ["ANTHROPIC_", "OPENAI_", "GITHUB_", "BGAGENT_API"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
    };
    Ok(Overrides {
        set: vec![("BGAGENT_CONFIG".into(), config.to_string_lossy().into_owned())],
        remove: cx.env.keys().filter(|name| foreign(name)).cloned().collect(),
    })
}

/// A bare repository with one branch, at the commit; its objects are lent by the source.
async fn make_repo(path: &Path, branch: &str, source: &Source) -> Result<(), Failure> {
    let failed = |e: git::GitError| Failure::new(e.to_string()).hint("`bgagent doctor` checks git.");
    let folder = |path: &Path| {
        std::fs::create_dir_all(path).map_err(|e| Failure::new(format!("making {}: {e}", path.display())))
    };
    let layout = git::layout(&source.path).await.map_err(failed)?;
    folder(path)?;
    let format = if source.sha.len() == 64 { "sha256" } else { "sha1" };
    let init = Git::new().dir(path).args(["init", "--quiet", "--bare", "--template="]);
    let init = init.arg(format!("--initial-branch={branch}")).arg(format!("--object-format={format}"));
    init.doing("making the repository of the replay").run().await.map_err(failed)?;
    let info = path.join("objects/info");
    folder(&info)?;
    write(&info.join("alternates"), &format!("{}\n", layout.common_dir.join("objects").display()))?;
    if let Ok(bounds) = std::fs::read_to_string(layout.common_dir.join("shallow")) {
        write(&path.join("shallow"), &bounds)?;
    }
    let name = format!("refs/heads/{branch}");
    let set = Git::new().dir(path).args(["update-ref", "--no-deref", name.as_str(), source.sha.as_str()]);
    set.doing("putting the branch at its commit").run().await.map(drop).map_err(failed)
}

/// The person's configuration file.
fn person(cx: &Context) -> Result<Table, Failure> {
    let file = server::paths::config_file(&cx.env);
    match std::fs::read_to_string(&file) {
        Ok(text) => text.parse().map_err(|e| Failure::usage(format!("{}: {e}", file.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Table::new()),
        Err(e) => Err(Failure::new(format!("reading {}: {e}", file.display()))),
    }
}

/// The person's settings, with the trace in the place of the models. What holds for the task's repository holds for that of
/// the replay.
fn settings(person: &Table, folder: &Path, recorded: &Trajectory) -> Table {
    let header = &recorded.header;
    let mut table = person.clone();
    for part in LEFT_OUT {
        table.remove(part);
    }
    let path = |name: &str| Value::String(folder.join(name).to_string_lossy().into_owned());
    if let Some(repos) = table.get_mut("repos").and_then(Value::as_table_mut) {
        let own = repos.get(&header.repo).cloned();
        repos.clear();
        if let Some(own) = own {
            repos.insert(folder.join(REPO).to_string_lossy().into_owned(), own);
        }
    }
    let mut provider = Table::new();
    provider.insert("kind".into(), "script".into());
    provider.insert("path".into(), path("recorded.json"));
    for (name, value) in
        [("context_window", header.context_window), ("max_output_tokens", header.max_output_tokens)]
    {
        if let Some(value) = value.and_then(|n| i64::try_from(n).ok()) {
            provider.insert(name.into(), value.into());
        }
    }
    let providers = Table::from_iter([("replay".to_owned(), Value::Table(provider))]);
    let model = Table::from_iter([
        ("default".to_owned(), Value::from("replay/recorded")),
        ("providers".to_owned(), Value::Table(providers)),
    ]);
    // A model without a price is told to the agent as well: what had one has one.
    let mut model = model;
    if was_priced(recorded) {
        let mut price = Table::new();
        for (name, value) in [("model", "recorded"), ("as_of", "2026-01-01")] {
            price.insert(name.into(), value.into());
        }
        for name in ["input", "output"] {
            price.insert(name.into(), Value::Float(0.0));
        }
        model.insert("prices".into(), Value::Array(vec![Value::Table(price)]));
    } else {
        model.insert("prices".into(), Value::Array(Vec::new()));
    }
    let listen = Table::from_iter([("listen".to_owned(), Value::from("127.0.0.1:0"))]);
    table.insert("model".into(), Value::Table(model));
    table.insert("state_dir".into(), path("state"));
    table.insert("server".into(), Value::Table(listen));
    table
}

fn was_priced(recorded: &Trajectory) -> bool {
    let mut costs = recorded.events.iter().filter(|event| event.event_type == "agent_cost_update");
    costs.any(|event| event.metadata.get("call_cost_usd").is_some())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    made.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Failure::new(format!("writing {}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_persons_settings_hold_but_for_models_and_credentials() {
        let person: Table = r#"
            state_dir = "/home/me/state"
            [model.providers.x]
            kind = "anthropic"
            api_key = "sk-secret"
            [forge.github]
            token = "ghp-secret"
            [egress]
            allow = ["example.org"]
            [repos."octo/cat".push]
            secrets = "warn"
            [repos."octo/dog".push]
            secrets = "off"
        "#
        .parse()
        .unwrap();
        let header = serde_json::json!({
            "schema": 1, "version": "0", "task_id": "t", "user_id": "u", "repo": "octo/cat", "workflow": "w",
            "description": "d", "branch": "b", "max_turns": 3, "attempt": 1, "created_at": "2026-01-01T00:00:00Z",
            "context_window": 1000,
        });
        let header: Header = serde_json::from_value(header).unwrap();
        let recorded = |cost: serde_json::Value| Trajectory {
            header: header.clone(),
            calls: vec![],
            events: vec![trace::line::Event {
                event_id: String::new(),
                event_seq: 1,
                event_type: "agent_cost_update".into(),
                metadata: cost,
            }],
            work: None,
            outcome: None,
            truncated: false,
        };
        let unpriced = settings(&person, Path::new("/tmp/r"), &recorded(serde_json::json!({})));
        assert_eq!(unpriced["model"]["prices"].as_array().unwrap().len(), 0);
        let table =
            settings(&person, Path::new("/tmp/r"), &recorded(serde_json::json!({ "call_cost_usd": 0.1 })));
        assert_eq!(table["model"]["prices"][0]["model"].as_str(), Some("recorded"));
        assert!(!table.to_string().contains("secret\""), "{table}");
        assert_eq!(table["egress"], person["egress"]);
        assert_eq!(table["state_dir"].as_str(), Some("/tmp/r/state"));
        assert_eq!(table["model"]["default"].as_str(), Some("replay/recorded"));
        assert_eq!(table["model"]["providers"]["replay"]["context_window"].as_integer(), Some(1000));
        let repos = table["repos"].as_table().unwrap();
        assert_eq!(repos.keys().collect::<Vec<_>>(), ["/tmp/r/repo.git"]);
        assert_eq!(repos["/tmp/r/repo.git"]["push"]["secrets"].as_str(), Some("warn"));
    }
}
