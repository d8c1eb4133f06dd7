//! npm: the registry and the registries of scopes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use serde_json::Value;

use super::Group;
use super::address::Address;
use super::ask::Ask;
use super::look::Look;
use super::watch::watch;

/// The home folder in a box.
const HOME: &str = "/home/agent";

pub(super) async fn ask(ask: &Ask<'_>, look: &Look, group: &mut Group) {
    if !ask.has("npm") {
        group.say("npm is not installed");
        return;
    }
    // Its cache and logs are the question's: the person's home stays as it is.
    let cache = ask.scratch().join("cache").display().to_string();
    let env = [("npm_config_loglevel", "silent"), ("npm_config_cache", cache.as_str())];
    let answer = match ask.run("npm", ["config", "ls", "-l", "--json"], &env).await {
        Ok(answer) => answer,
        Err(failure) => {
            group.miss(failure);
            return;
        }
    };
    let Ok(Value::Object(told)) = serde_json::from_str(&answer.out) else {
        group.miss("npm did not tell its configuration");
        return;
    };
    let text = |key: &str| told.get(key).and_then(Value::as_str);
    group.trust = text("cafile").map(PathBuf::from).into_iter().collect();

    // A registry whose address holds a password is kept back by npm itself; the files have it.
    let mut own = BTreeMap::new();
    for file in ["globalconfig", "userconfig"] {
        if let Some(ini) = text(file).and_then(|path| std::fs::read_to_string(path).ok()) {
            own.extend(entries(&ini, ask));
        }
    }
    own.extend(
        ask.vars("npm_config_")
            .map(|(name, value)| (name["npm_config_".len()..].to_owned(), value.to_owned())),
    );
    for key in own.keys() {
        if let Some(host) = authenticated(key) {
            group.want(host);
        }
    }
    let mut registries: BTreeMap<String, String> = told
        .iter()
        .filter(|(key, _)| is_registry(key))
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    for (key, value) in own.into_iter().filter(|(key, _)| is_registry(key)) {
        registries.entry(key).or_insert(value);
    }

    let mut npmrc = String::new();
    let mut indexes = vec![];
    for (key, value) in &registries {
        let Some(address) = group.take(value) else { continue };
        npmrc.push_str(&format!("{key}={}\n", address.plain));
        if key == "registry" {
            let text = format!("npmRegistryServer: {:?}\n", address.plain);
            group.files.push((Path::new(HOME).join(".yarnrc.yml"), text));
        }
        indexes.push(address);
    }
    if !registries.contains_key("registry") {
        default_registry(ask, group).await;
    }
    if !npmrc.is_empty() {
        group.files.push((Path::new(HOME).join(".npmrc"), npmrc));
    }
    let told = join_all(indexes.iter().map(|index| tell(index, look))).await;
    for (index, told) in indexes.iter().zip(told) {
        files(index, told, group);
    }
}

fn is_registry(key: &str) -> bool {
    key == "registry" || (key.starts_with('@') && key.ends_with(":registry"))
}

/// The host and port that a key like `//host/path/:_authToken` is for.
fn authenticated(key: &str) -> Option<String> {
    let (place, what) = key.strip_prefix("//")?.rsplit_once(':')?;
    let secret = ["_authToken", "_auth", "_password", "username", "certfile", "keyfile"].contains(&what);
    // Written without a scheme: the port of https, unless there is one.
    let site = Address::read(&format!("https://{place}"))?.site;
    secret.then(|| site.to_string())
}

/// The keys of an `npmrc`, with `${NAME}` replaced as npm does.
fn entries(ini: &str, ask: &Ask<'_>) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let line = line.trim();
        if line.starts_with(['#', ';', '[']) {
            return None;
        }
        let (key, value) = line.split_once('=')?;
        Some((key.trim().to_owned(), expand(value.trim().trim_matches(['"', '\'']), ask)))
    };
    ini.lines().filter_map(pair).collect()
}

fn expand(text: &str, ask: &Ask<'_>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else { break };
        out.push_str(before);
        out.push_str(ask.var(name.trim_end_matches('?')).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    out
}

/// npm did not say its registry: it is let to go there, and watched.
async fn default_registry(ask: &Ask<'_>, group: &mut Group) {
    let cache = ask.scratch().join("cache").display().to_string();
    let seen = watch(async |proxy: String| {
        let env = [
            ("npm_config_proxy", proxy.as_str()),
            ("npm_config_https_proxy", proxy.as_str()),
            ("npm_config_fetch_retries", "0"),
            ("npm_config_cache", cache.as_str()),
        ];
        ask.run("npm", ["ping"], &env).await
    })
    .await;
    match seen {
        Ok((_, sites)) if !sites.is_empty() => sites.into_iter().for_each(|site| group.host(site)),
        Ok((Err(failure), _)) => group.miss(failure),
        Ok((Ok(_), _)) => group.miss("npm asked for no host"),
        Err(failure) => group.miss(format!("npm cannot be watched: {failure}")),
    }
}

/// What a registry says of a package that it has, as a rule: npm itself. One of a scope may not have it.
async fn tell(index: &Address, look: &Look) -> Result<Value, String> {
    let url = index.below("npm/latest").ok_or("its address cannot be read")?;
    let page = look.page(url, "application/json").await?;
    serde_json::from_str(&page.text).map_err(|_| "the answer was no JSON".to_owned())
}

/// Learns from a registry where its packages are.
fn files(index: &Address, told: Result<Value, String>, group: &mut Group) {
    match told {
        Ok(told) => {
            if let Some(tarball) = told.pointer("/dist/tarball").and_then(Value::as_str) {
                group.learn(tarball);
            }
        }
        Err(failure) => group.miss(format!(
            "npm's registry {} did not say where its packages are ({failure}): if that is elsewhere, list that host in \
             egress.allow",
            index.site
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tool;
    use super::*;

    #[test]
    fn keys_with_credentials_name_their_host() {
        assert_eq!(authenticated("//npm.example/x/:_authToken").as_deref(), Some("npm.example:443"));
        assert_eq!(authenticated("//npm.example:8081/:_password").as_deref(), Some("npm.example:8081"));
        assert_eq!(authenticated("//npm.example/:always-auth"), None);
        assert_eq!(authenticated("registry"), None);
    }

    #[test]
    fn an_npmrc_is_read_as_npm_reads_it() {
        let env = [("HOST".to_owned(), "npm.example".to_owned())].into();
        let place = tempfile::tempdir().unwrap();
        let ask = Ask::new(Tool::Npm, &env, place.path()).unwrap();
        let ini =
            "; words\n# words\nregistry = https://u:p@${HOST}/x/\n@a:registry=\"https://b.example\"\n[x]\n";
        let told = entries(ini, &ask);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            told,
            [pair("registry", "https://u:p@npm.example/x/"), pair("@a:registry", "https://b.example")]
        );
    }
}
