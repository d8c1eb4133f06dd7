//! Cargo: the sources and registries of its configuration, and where it goes without any.

use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::Group;
use super::address::Address;
use super::ask::Ask;
use super::look::Look;
use super::watch::watch;

/// Cargo's folder in a box.
const HOME: &str = "/box/cache/cargo";
/// What a registry that insists on a token gets from the box: the gateway puts the real one in its place.
const PLACEHOLDER: &str = "added-by-the-gateway";

pub(super) async fn ask(ask: &Ask<'_>, look: &Look, group: &mut Group) {
    if !ask.has("cargo") {
        group.say("cargo is not installed");
        return;
    }
    let Configuration { kept: config, trust, addresses } = configuration(ask, group);
    group.trust = trust;
    if !config.is_empty() {
        group.files.push((Path::new(HOME).join("config.toml"), config.to_string()));
    }
    let mut indexes = registries(ask, &addresses, group);
    match default_index(ask, &config, &addresses, group).await {
        Ok(found) => indexes.extend(found),
        Err(failure) => group.miss(failure),
    }
    indexes.sort_by(|a, b| a.address.plain.cmp(&b.address.plain));
    indexes.dedup_by(|a, b| a.address.plain == b.address.plain && a.name.is_none() == b.name.is_none());
    let told = join_all(indexes.iter().map(|index| tell(index, look))).await;
    for (index, told) in indexes.iter().zip(told) {
        files(index, told, group);
    }
}

/// The index of a registry.
#[derive(Debug)]
struct Index {
    /// In `[registries]`; none for the default.
    name: Option<String>,
    address: Address,
}

/// The person's configuration.
#[derive(Debug, Default)]
struct Configuration {
    /// What says where packages are, without credentials.
    kept: Table,
    /// The certificates it names.
    trust: Vec<PathBuf>,
    /// Its addresses: section, name, and the address as it is.
    addresses: Vec<(&'static str, String, Address)>,
}

fn configuration(ask: &Ask<'_>, group: &mut Group) -> Configuration {
    let mut found = Configuration {
        trust: ask.var("CARGO_HTTP_CAINFO").map(PathBuf::from).into_iter().collect(),
        ..Configuration::default()
    };
    let folder = ask.var("CARGO_HOME").map(PathBuf::from).or_else(|| Some(ask.home()?.join(".cargo")));
    let Some(folder) = folder else { return found };
    // The name without an ending wins, as it does in cargo.
    let Some(text) =
        ["config", "config.toml"].iter().find_map(|name| std::fs::read_to_string(folder.join(name)).ok())
    else {
        return found;
    };
    let whole: Table = match text.parse() {
        Ok(whole) => whole,
        Err(_) => {
            group.say(format!("the configuration of cargo in {} is no TOML", folder.display()));
            return found;
        }
    };
    if let Some(bundle) = whole.get("http").and_then(|http| http.get("cainfo")).and_then(Value::as_str) {
        found.trust.push(folder.join(bundle));
    }
    (found.kept, found.addresses) = without_credentials(&whole, group);
    found
}

/// `[source]`, `[registries]` and `registry.default`, with the keys that are known to hold no secret.
fn without_credentials(whole: &Table, group: &mut Group) -> (Table, Vec<(&'static str, String, Address)>) {
    let (mut kept, mut addresses) = (Table::new(), vec![]);
    for (section, keys) in [
        (
            "source",
            &["replace-with", "registry", "local-registry", "directory", "git", "branch", "tag", "rev"][..],
        ),
        ("registries", &["index", "protocol"]),
    ] {
        let mut entries = Table::new();
        for (name, entry) in whole.get(section).and_then(Value::as_table).into_iter().flatten() {
            let Some(entry) = entry.as_table() else { continue };
            let mut own = Table::new();
            for (key, value) in entry.iter().filter(|(key, _)| keys.contains(&key.as_str())) {
                let Some(text) = value.as_str() else { continue };
                let plain = match key.as_str() {
                    "registry" | "index" | "git" => match group.take(text) {
                        Some(address) => {
                            let plain = address.plain.clone();
                            addresses.push((section, name.clone(), address));
                            plain
                        }
                        None => text.to_owned(),
                    },
                    "directory" | "local-registry" => {
                        group.say(format!(
                            "cargo's source {name} is the folder {text}: boxes see it when compute.read names it"
                        ));
                        text.to_owned()
                    }
                    _other => text.to_owned(),
                };
                own.insert(key.clone(), Value::String(plain));
            }
            entries.insert(name.clone(), Value::Table(own));
        }
        if !entries.is_empty() {
            kept.insert(section.to_owned(), Value::Table(entries));
        }
    }
    if let Some(default) = whole.get("registry").and_then(|r| r.get("default")).filter(|d| d.is_str()) {
        kept.insert(
            "registry".into(),
            Value::Table(Table::from_iter([("default".to_owned(), default.clone())])),
        );
    }
    (kept, addresses)
}

/// The registries with a name, of the configuration and the environment.
fn registries(ask: &Ask<'_>, known: &[(&str, String, Address)], group: &mut Group) -> Vec<Index> {
    let named = known.iter().filter(|(section, ..)| *section == "registries");
    let mut all: Vec<Index> = named
        .map(|(_, name, address)| Index { name: Some(name.clone()), address: address.clone() })
        .collect();
    for (variable, value) in ask.vars("CARGO_REGISTRIES_").filter(|(name, _)| name.ends_with("_INDEX")) {
        if let Some(address) = group.take(value) {
            let name = variable.trim_start_matches("CARGO_REGISTRIES_").trim_end_matches("_INDEX").to_owned();
            group.env.push((variable.to_owned(), address.plain.clone()));
            all.push(Index { name: Some(name), address });
        }
    }
    if let Some(default) = ask.var("CARGO_REGISTRY_DEFAULT") {
        group.env.push(("CARGO_REGISTRY_DEFAULT".into(), default.to_owned()));
    }
    all
}

/// Where cargo goes for a package of no registry in particular: it is let to, and watched.
async fn default_index(
    ask: &Ask<'_>,
    config: &Table,
    known: &[(&str, String, Address)],
    group: &mut Group,
) -> Result<Vec<Index>, String> {
    let home = ask.scratch().join("home");
    let project = ask.scratch().join("project");
    let manifest = "[package]\nname = \"ask\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[lib]\npath = \"lib.rs\"\n\n\
                    [dependencies]\nserde = \"1\"\n\n[workspace]\n";
    for (path, text) in [
        (home.join("config.toml"), config.to_string()),
        (project.join("Cargo.toml"), manifest.to_owned()),
        (project.join("lib.rs"), String::new()),
    ] {
        let made =
            path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        made.map_err(|e| format!("cargo cannot be asked: {}: {e}", path.display()))?;
    }
    let home = home.display().to_string();
    let manifest = project.join("Cargo.toml").display().to_string();
    let (answer, sites) = watch(async |proxy: String| {
        let env = [
            ("CARGO_HOME", home.as_str()),
            ("CARGO_HTTP_PROXY", proxy.as_str()),
            ("CARGO_NET_RETRY", "0"),
            ("CARGO_NET_OFFLINE", "false"),
            ("CARGO_NET_GIT_FETCH_WITH_CLI", "false"),
            ("RUSTUP_AUTO_INSTALL", "0"),
        ];
        ask.run("cargo", ["fetch", "--quiet", "--manifest-path", &manifest], &env).await
    })
    .await
    .map_err(|e| format!("cargo cannot be watched: {e}"))?;
    let answer = answer?;
    if sites.is_empty() && !answer.success {
        let folders = config.get("source").is_some();
        if !folders {
            let end = answer.err.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word");
            return Err(format!("cargo asked for no host and ended with: {}", words(end)));
        }
    }
    let mut found = vec![];
    for site in sites {
        let scheme = if site.tls { "https" } else { "http" };
        // Cargo tells the whole address where it failed; the root of the host is the usual place.
        let begin = format!("{scheme}://{}", site.host);
        let told =
            answer.err.split('`').find(|part| part.starts_with(&begin) && part.ends_with("config.json"));
        let index = told.map_or_else(
            || format!("{scheme}://{site}/"),
            |url| url.trim_end_matches("config.json").to_owned(),
        );
        group.host(site);
        if let Some(address) = Address::read(&format!("sparse+{index}")) {
            // As it is configured, with its credential, for our own look.
            let configured = known.iter().find(|(.., known)| known.plain == address.plain);
            let address = configured.map_or(address, |(.., known)| known.clone());
            found.push(Index { name: None, address });
        }
    }
    Ok(found)
}

/// What an index says about itself; nothing when it cannot be asked that.
async fn tell(index: &Index, look: &Look) -> Option<Result<Json, String>> {
    if !index.address.plain.starts_with("sparse+") {
        return None;
    }
    let page = look.page(index.address.below("config.json")?, "application/json").await;
    let json = |text: String| serde_json::from_str(&text).map_err(|_| "the answer was no JSON".to_owned());
    Some(page.and_then(|page| json(page.text)))
}

/// Learns from an index where its packages are, and whether it wants to know who asks.
fn files(index: &Index, told: Option<Result<Json, String>>, group: &mut Group) {
    let site = &index.address.site;
    let told = match told {
        Some(Ok(told)) => told,
        Some(Err(failure)) => {
            group.miss(format!("the index at {site} did not say where its packages are: {failure}"));
            return;
        }
        None => {
            group.say(format!(
                "the index at {site} is a git repository, which does not tell where its packages are: list that host in \
                 egress.allow"
            ));
            return;
        }
    };
    for key in ["dl", "api"] {
        if let Some(place) = told.get(key).and_then(Json::as_str) {
            // It may be a pattern with `{crate}` and the like after the host.
            group.learn(place.split('{').next().unwrap_or_default());
        }
    }
    if told.get("auth-required").and_then(Json::as_bool) == Some(true)
        && let Some(name) = &index.name
    {
        let variable = format!("CARGO_REGISTRIES_{}_TOKEN", name.to_ascii_uppercase().replace('-', "_"));
        group.env.push((variable, PLACEHOLDER.into()));
        group.want(site.to_string());
    }
}

/// A line of a tool as it can be shown.
fn words(line: &str) -> String {
    domain::event::preview(&line.chars().filter(|c| !c.is_control()).collect::<String>(), 160)
}

#[cfg(test)]
mod tests {
    use super::super::Tool;
    use super::*;

    #[test]
    fn what_boxes_get_of_a_configuration_holds_no_credential() {
        let whole: Table = "\
            [source.crates-io]\nreplace-with = \"mirror\"\n\
            [source.mirror]\nregistry = \"sparse+https://me:s3cret@mirror.example:8443/index/\"\n\
            [registries.own]\nindex = \"sparse+https://own.example/\"\ntoken = \"s3cret\"\n\
            [registry]\ndefault = \"own\"\ntoken = \"s3cret\"\n\
            [http]\nproxy = \"http://me:s3cret@proxy.example\"\n"
            .parse()
            .unwrap();
        let mut group = Group::new(Tool::Cargo);
        let kept = without_credentials(&whole, &mut group).0.to_string();
        assert!(!kept.contains("s3cret") && !kept.contains("proxy"), "{kept}");
        assert!(kept.contains("sparse+https://mirror.example:8443/index/"), "{kept}");
        let hosts: Vec<String> = group.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["mirror.example:8443", "own.example:443"]);
        assert_eq!(group.wants, ["mirror.example:8443"]);
    }
}
