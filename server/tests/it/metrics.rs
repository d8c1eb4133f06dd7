//! The page of the guide, the code and what is served say the same of metrics. After a change:
//! `BGAGENT_REGENERATE_GUIDE=1 cargo test -p server metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::Request;
use server::metrics::{ALL, table};

use crate::support::*;

const BEGIN: &str = "<!-- generated from server/src/metrics.rs; do not edit -->\n";
const END: &str = "<!-- end of generated table -->\n";

fn checkout() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn guide_of_metrics_is_the_table_of_the_code() {
    let path = checkout().join("docs/guide/metrics.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEGIN).expect("the page has the begin mark");
    let (kept, tail) = rest.split_once(END).expect("the page has the end mark");
    if std::env::var_os("BGAGENT_REGENERATE_GUIDE").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{}{END}{tail}", table())).unwrap();
        return;
    }
    assert_eq!(kept, table(), "regenerate: BGAGENT_REGENERATE_GUIDE=1 cargo test -p server metrics");
    // Queries name metrics that are there.
    let known: BTreeSet<&str> = ALL.iter().map(|m| m.name).collect();
    for word in
        tail.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("bgagent_"))
    {
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
        assert!(known.contains(base), "the page's queries name {word}, which there is not");
    }
}

/// Names that our crates count under, wherever they do.
fn counted(folder: &Path, found: &mut BTreeMap<String, &'static str>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            counted(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for kind in ["counter", "gauge", "histogram"] {
                for after in text.split(&format!("metrics::{kind}!(")).skip(1) {
                    let name = after.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                    let name = name.unwrap_or_else(|| panic!("{}: a name is written out", path.display()));
                    found.insert(name.to_owned(), kind);
                }
            }
        }
    }
}

#[test]
fn every_metric_that_is_counted_has_a_row_and_every_row_is_counted() {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(checkout()).unwrap().flatten() {
        let source = entry.path().join("src");
        if entry.path().join("Cargo.toml").exists() && source.is_dir() {
            counted(&source, &mut found);
        }
    }
    let rows: BTreeMap<String, &str> = ALL.iter().map(|m| (m.name.to_owned(), m.kind.as_str())).collect();
    assert_eq!(found, rows);
    assert_eq!(rows.len(), ALL.len(), "a metric has two rows");
    for metric in ALL {
        let counter = metric.kind == server::metrics::Kind::Counter;
        assert_eq!(metric.name.ends_with("_total"), counter, "{}", metric.name);
    }
}

#[tokio::test]
async fn what_is_served_is_what_the_rows_say() {
    let world = World::new();
    let open = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    world.send(open("/v1/identity")).await;
    world.send(open("/nowhere/at/all")).await;
    let text = world.send(open("/metrics")).await.text();
    let kinds: BTreeMap<&str, &str> = ALL.iter().map(|m| (m.name, m.kind.as_str())).collect();
    let mut served = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_eq!(kinds.get(name), Some(&kind), "{line}");
        served.insert(name);
    }
    for name in ["bgagent_tasks", "bgagent_http_requests_total", "bgagent_http_request_seconds"] {
        assert!(served.contains(name), "{name} is not in\n{text}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no words in\n{text}");
    }
    assert!(text.contains("route=\"/v1/identity\"") && !text.contains("/nowhere"), "{text}");
    assert!(text.contains("bgagent_http_request_seconds_bucket"), "{text}");
}
