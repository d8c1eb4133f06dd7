//! The list of attempts in `docs/security.md` is made from the table that is run.

use std::path::Path;

use super::AREAS;
use super::table::{Attempt, Bare};

const BEGIN: &str =
    "<!-- attempts: made by `BGAGENT_WRITE_DOCS=1 cargo nextest run -p cli -E 'test(escape::page)'` -->";
const END: &str = "<!-- end of the attempts -->";

#[test]
fn the_page_lists_what_is_run() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page has a place for the list");
    let (_, after) = rest.split_once(END).expect("the list has an end");
    let made = format!("{before}{BEGIN}\n\n{}\n{END}{after}", list());
    if std::env::var_os("BGAGENT_WRITE_DOCS").is_some() {
        std::fs::write(&page, &made).unwrap();
    }
    assert!(
        made == text || std::env::var_os("BGAGENT_WRITE_DOCS").is_some(),
        "write the list again: {BEGIN}"
    );
}

#[test]
fn names_are_unique_and_there_are_enough() {
    let mut names: Vec<_> =
        AREAS.iter().flat_map(|(_, _, attempts)| attempts.iter().map(|a| a.name)).collect();
    assert!(names.len() >= 150, "{}", names.len());
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

fn list() -> String {
    let mut text = String::new();
    for (name, about, attempts) in AREAS {
        text.push_str(&format!(
            "### {about}\n\n`cargo nextest run -p cli -E 'test(escape::{name})'`\n\n\
             | attempt | what it tries | without a box | what stops it in a box |\n|---|---|---|---|\n"
        ));
        text.extend(attempts.iter().map(row));
        text.push('\n');
    }
    text
}

fn row(attempt: &Attempt) -> String {
    let bare = match attempt.bare {
        Bare::Works => "works".to_owned(),
        Bare::WorksAsRoot => "works as root".to_owned(),
        Bare::Stopped => "stopped too".to_owned(),
        Bare::Either => "as the machine is".to_owned(),
        Bare::Untried(why) => format!("not tried: {why}"),
    };
    let cell = |text: &str| text.replace('|', "\\|");
    format!(
        "| `{}` | {} | {} | {} |\n",
        attempt.name,
        cell(attempt.tries),
        cell(&bare),
        cell(attempt.stopped_by)
    )
}
