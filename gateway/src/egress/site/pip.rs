//! pip: the index, further indexes, links, and the host that its own default keeps files on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::Value;

use super::Group;
use super::address::Address;
use super::ask::Ask;
use super::look::{Look, Page};
use super::watch::watch;

/// Asks pip from inside, in one start of Python. These names are pip's own and may change: then it is asked from
/// outside.
const ASK: &str = "\
import json
from pip._internal.configuration import Configuration
from pip._internal.models.index import PyPI
c = Configuration(isolated=False)
c.load()
flat = {}
for k, v in c.items():
    flat.update(v if isinstance(v, dict) else {k: v})
print(json.dumps({'config': {k: str(v) for k, v in flat.items()}, 'index': PyPI.simple_url, 'files': PyPI.file_storage_domain}))
";
/// Hosts that one index page may name.
const PAGE_HOSTS_MAX: usize = 8;

/// What pip said.
#[derive(Debug, Default, Deserialize)]
struct Told {
    /// Keys as `pip config list` has them: `section.key`, `:env:.key`.
    config: BTreeMap<String, String>,
    /// Its default index.
    index: Option<String>,
    /// Where that keeps its files.
    files: Option<String>,
}

impl Told {
    /// The value that holds for `pip install`: of the environment, else of the command's section, else of all.
    fn get(&self, key: &str) -> Option<&str> {
        [":env:", "install", "download", "global"]
            .iter()
            .find_map(|section| self.config.get(&format!("{section}.{key}")))
            .map(String::as_str)
            .filter(|value| !value.trim().is_empty())
    }
}

pub(super) async fn ask(ask: &Ask<'_>, look: &Look, group: &mut Group) {
    let told = match inside(ask).await {
        Some(told) => told,
        None => match outside(ask).await {
            Ok(told) => told,
            Err(failure) => {
                group.miss(failure);
                return;
            }
        },
    };
    group.trust = told.get("cert").map(PathBuf::from).into_iter().collect();
    if told
        .get("no-index")
        .is_some_and(|value| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str()))
    {
        group.env.push(("PIP_NO_INDEX".into(), "1".into()));
    } else {
        index(ask, &told, look, group).await;
    }
    links(&told, group);
    if let Some(hosts) = told.get("trusted-host") {
        group.env.push(("PIP_TRUSTED_HOST".into(), hosts.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
}

/// Asks pip's own modules.
async fn inside(ask: &Ask<'_>) -> Option<Told> {
    for python in ["python3", "python"] {
        if let Ok(answer) = ask.run(python, ["-c", ASK], &[]).await
            && let Ok(told) = serde_json::from_str(answer.out.trim())
        {
            return Some(told);
        }
    }
    None
}

/// Asks pip as a person would.
async fn outside(ask: &Ask<'_>) -> Result<Told, String> {
    let program = ["pip", "pip3"].into_iter().find(|name| ask.has(name)).ok_or("pip is not installed")?;
    let answer = ask.run(program, ["--no-input", "config", "list"], &[]).await?;
    let pair = |line: &str| {
        let (key, value) = line.split_once('=')?;
        Some((key.trim().to_owned(), value.trim().trim_matches('\'').replace("\\n", "\n")))
    };
    Ok(Told { config: answer.out.lines().filter_map(pair).collect(), ..Told::default() })
}

/// The index and the further ones.
async fn index(ask: &Ask<'_>, told: &Told, look: &Look, group: &mut Group) {
    let mut indexes = vec![];
    if let Some(configured) = told.get("index-url").or_else(|| told.get("pypi-url")) {
        match group.take(configured) {
            Some(address) => {
                group.env.push(("PIP_INDEX_URL".into(), address.plain.clone()));
                group.env.push(("UV_DEFAULT_INDEX".into(), address.plain.clone()));
                indexes.push(address);
            }
            None => group.say("pip's index is no address of http or https, so boxes do not get it"),
        }
    } else if let Some(default) = &told.index {
        group.take(default);
        match &told.files {
            Some(host) => drop(group.take(&format!("https://{host}/"))),
            None => indexes.extend(Address::read(default)),
        }
    } else {
        default_index(ask, group).await;
    }
    let mut extra = vec![];
    for text in told.get("extra-index-url").into_iter().flat_map(str::split_whitespace) {
        if let Some(address) = group.take(text) {
            extra.push(address.plain.clone());
            indexes.push(address);
        }
    }
    if !extra.is_empty() {
        group.env.push(("PIP_EXTRA_INDEX_URL".into(), extra.join(" ")));
        group.env.push(("UV_INDEX".into(), extra.join(" ")));
    }
    let pages = join_all(indexes.iter().map(|index| tell(index, look))).await;
    for (index, page) in indexes.iter().zip(pages) {
        files(index, page, group);
    }
}

/// Links: pages count as hosts, folders are passed on for those that a box can see.
fn links(told: &Told, group: &mut Group) {
    let mut all = vec![];
    for text in told.get("find-links").into_iter().flat_map(str::split_whitespace) {
        match group.take(text) {
            Some(address) => all.push(address.plain),
            None if text.starts_with('/') => all.push(text.to_owned()),
            None => (),
        }
    }
    if !all.is_empty() {
        group.env.push(("PIP_FIND_LINKS".into(), all.join(" ")));
    }
}

/// pip did not say its default: it is let to go there, and watched.
async fn default_index(ask: &Ask<'_>, group: &mut Group) {
    let program = if ask.has("pip") { "pip" } else { "pip3" };
    let dest = ask.scratch().display().to_string();
    let seen = watch(async |proxy: String| {
        let args = [
            "--no-input",
            "--disable-pip-version-check",
            "--retries=0",
            "--timeout=3",
            "--proxy",
            &proxy,
            "download",
            "--no-deps",
            "--no-cache-dir",
            "--dest",
            &dest,
            "pip",
        ];
        ask.run(program, args, &[]).await
    })
    .await;
    match seen {
        Ok((_, sites)) if !sites.is_empty() => {
            sites.into_iter().for_each(|site| group.host(site));
            group.say(
                "where pip's default index keeps its files is not known: list that host in egress.allow",
            );
        }
        Ok((Err(failure), _)) => group.miss(failure),
        Ok((Ok(_), _)) => group.miss("pip asked for no host"),
        Err(failure) => group.miss(format!("pip cannot be watched: {failure}")),
    }
}

/// The page of a package that an index has, as a rule: pip itself.
async fn tell(index: &Address, look: &Look) -> Result<Page, String> {
    let url = index.below("pip/").ok_or("its address cannot be read")?;
    let accept =
        "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";
    look.page(url, accept).await
}

/// Learns from a page where files are.
fn files(index: &Address, page: Result<Page, String>, group: &mut Group) {
    let page = match page {
        Ok(page) => page,
        Err(failure) => {
            group.miss(format!(
                "pip's index {} did not say where its files are ({failure}): if that is elsewhere, list that host in \
                 egress.allow",
                index.site
            ));
            return;
        }
    };
    let before = group.hosts.len();
    for link in links_of(&page.text) {
        if let Ok(url) = page.url.join(&link) {
            group.learn(url.as_str());
        }
        if group.hosts.len() == before + PAGE_HOSTS_MAX {
            break;
        }
    }
}

/// The addresses on an index page, JSON or HTML, even a page that was cut.
fn links_of(page: &str) -> Vec<String> {
    if page.trim_start().starts_with('{') {
        let whole: Result<Value, _> = serde_json::from_str(page);
        if let Ok(whole) = whole {
            let files = whole.get("files").and_then(Value::as_array).into_iter().flatten();
            return files.filter_map(|file| Some(file.get("url")?.as_str()?.to_owned())).collect();
        }
        let urls = page.split("\"url\":").skip(1);
        return urls
            .filter_map(|rest| Some(rest.trim_start().strip_prefix('"')?.split('"').next()?.to_owned()))
            .collect();
    }
    let hrefs = page.split("href=\"").skip(1);
    let link = |rest: &str| Some(rest.split_once('"')?.0.replace("&amp;", "&"));
    hrefs.filter_map(link).filter(|link| !link.starts_with('#')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_on_pages_of_every_form() {
        let html = "<a href=\"https://f.example/a?x=1&amp;y=2\">a</a> <a href=\"../../p/b\">b</a> <a href=\"https://cut";
        assert_eq!(links_of(html), ["https://f.example/a?x=1&y=2", "../../p/b"]);
        let json = r#"{"files": [{"url": "https://f.example/a"}, {"url": "b"}]}"#;
        assert_eq!(links_of(json), ["https://f.example/a", "b"]);
        assert_eq!(links_of(&json[..json.len() - 4]), ["https://f.example/a", "b"]);
    }

    #[test]
    fn the_environment_is_over_the_section_and_that_over_all() {
        let config = [("global.index-url", "g"), ("install.index-url", "i"), (":env:.index-url", "e")];
        let mut told = Told::default();
        for (key, value) in config {
            told.config.insert(key.into(), value.into());
            assert_eq!(told.get("index-url"), Some(value));
        }
    }
}
