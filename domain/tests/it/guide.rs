//! The guide's tables say what the code does. After a change of the table of failures:
//! `BGAGENT_REGENERATE_GUIDE=1 cargo test -p domain guide`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use domain::{EventKind, Failure, FailureCode};

const BEGIN: &str = "<!-- generated from domain/src/failure/code.rs; do not edit -->\n";
const END: &str = "<!-- end of generated table -->\n";

fn page(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/guide").join(name)
}

fn failures_table() -> String {
    let mut table = String::from(
        "| code | what happened | category | class | again? | what to do |\n|---|---|---|---|---|---|\n",
    );
    for code in FailureCode::ALL {
        let c = Failure::new(code, "").classify();
        let again = if c.retryable { "yes" } else { "no" };
        table += &format!(
            "| `{code}` | **{}.** {} | {} | {} | {again} | {} |\n",
            c.title,
            c.description,
            c.category.as_str(),
            c.error_class.as_str(),
            c.remedy
        );
    }
    table
}

#[test]
fn guide_of_failures_is_the_table_of_the_code() {
    let path = page("failures.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEGIN).expect("the page has the begin mark");
    let (table, tail) = rest.split_once(END).expect("the page has the end mark");
    let made = failures_table();
    if std::env::var_os("BGAGENT_REGENERATE_GUIDE").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{made}{END}{tail}")).unwrap();
        return;
    }
    assert_eq!(table, made, "regenerate: BGAGENT_REGENERATE_GUIDE=1 cargo test -p domain guide");
}

#[test]
fn guide_of_events_describes_each_kind_once_and_no_other() {
    let text = std::fs::read_to_string(page("events.md")).unwrap();
    let rows: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix("| `")).filter_map(|l| l.split('`').next()).collect();
    let described: BTreeSet<&str> = rows.iter().copied().filter(|r| !r.contains(':')).collect();
    let kinds: BTreeSet<String> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(described, kinds.iter().map(String::as_str).collect(), "rows of docs/guide/events.md");
    assert_eq!(rows.len(), described.len(), "a kind is described twice");
}

#[test]
fn guide_of_events_says_who_writes_what() {
    let text = std::fs::read_to_string(page("events.md")).unwrap();
    let (server, boxes) = text.split_once("## Written by boxes").expect("the page has both parts");
    for &kind in EventKind::ALL {
        let row = format!("| `{}` |", kind.as_str());
        assert_eq!(boxes.contains(&row), kind.from_box(), "{row}");
        assert_eq!(server.contains(&row), !kind.from_box(), "{row}");
    }
}
