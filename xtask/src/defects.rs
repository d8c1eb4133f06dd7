//! `docs/defects.md` names a test for each defect of the reference, and each of those tests names its defect.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{layout, place};

/// The page.
const PAGE: &str = "docs/defects.md";

/// A row of the page: a defect, and a test that shows ours is right.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    id: String,
    tests: Vec<(String, String)>,
    open: bool,
}

/// Everything about the page and the tests that does not fit together; empty when all does.
pub fn violations() -> Result<Vec<String>> {
    let text = fs::read_to_string(place::checkout().join(PAGE)).with_context(|| format!("reading {PAGE}"))?;
    let mut found = Vec::new();
    let rows = rows(&text, &mut found);
    if rows.is_empty() {
        found.push(format!("{PAGE}: no row found"));
    }
    for row in &rows {
        if row.tests.is_empty() && !row.open {
            found.push(format!("{PAGE}: {} names no test, and is not said to be open", row.id));
        }
        for (file, test) in &row.tests {
            match fs::read_to_string(place::checkout().join(file)) {
                Ok(source) => {
                    found.extend(unnamed(&source, test, &row.id).map(|why| format!("{file}: {why}")))
                }
                Err(error) => found.push(format!("{PAGE}: {}: {file}: {error}", row.id)),
            }
        }
    }
    for file in layout::rust_files()? {
        let source = fs::read_to_string(place::checkout().join(&file))?;
        found.extend(strays(&file, &source, &rows));
    }
    Ok(found)
}

/// Rows whose first cell is `D-` and a number; a number that comes twice is told.
fn rows(text: &str, found: &mut Vec<String>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let Some(id) = cells.first().filter(|id| is_id(id)) else { continue };
        let [_, _, _, tests] = cells[..] else {
            found.push(format!("{PAGE}: {id}: {} cells, not 4", cells.len()));
            continue;
        };
        if rows.iter().any(|row| row.id == *id) {
            found.push(format!("{PAGE}: {id} comes twice"));
        }
        let named = tests.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::"));
        let tests_of = named.map(|(file, test)| (file.to_owned(), test.to_owned())).collect();
        rows.push(Row { id: (*id).to_owned(), tests: tests_of, open: tests.contains("open") });
    }
    rows
}

fn is_id(text: &str) -> bool {
    text.strip_prefix("D-").is_some_and(|n| n.len() == 3 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Why the test does not show the defect: it is not there, or its comment does not name the id.
fn unnamed(source: &str, test: &str, id: &str) -> Option<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let begins = |line: &str| {
        let at = line.find(&format!("fn {test}"))?;
        line[at + 3 + test.len()..].starts_with('(').then_some(())
    };
    let Some(at) = lines.iter().position(|line| begins(line).is_some()) else {
        return Some(format!("there is no `{test}` ({id})"));
    };
    let above = lines[..at].iter().rev().take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let named =
        above.filter_map(|line| line.strip_prefix("/// ")).any(|line| ids(line).any(|found| found == id));
    (!named).then(|| format!("the comment of `{test}` does not name {id}"))
}

/// The ids that a comment begins with: `D-001, D-002: what they are of`.
fn ids(comment: &str) -> impl Iterator<Item = &str> {
    let named = comment.split_once(':').map_or("", |(before, _)| before);
    let all = named.split(", ").all(is_id);
    named.split(", ").filter(move |_| all)
}

/// Ids in comments that the page does not have.
fn strays(file: &Path, source: &str, rows: &[Row]) -> Vec<String> {
    let named = source.lines().filter_map(|line| line.trim().strip_prefix("/// ")).flat_map(ids);
    let unknown = named.filter(|id| !rows.iter().any(|row| row.id == *id));
    unknown.map(|id| format!("{}: {PAGE} has no {id}", file.display())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_the_tests_fit_together() {
        assert_eq!(violations().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn rows_are_read() {
        let mut found = vec![];
        let page = "| id | a | b | c |\n|---|---|---|---|\n| D-001 | bad | good | `a/b.rs::c`, `d.rs::e` |\n\
                    | D-002 | bad | bad too | open |\n| D-002 | x | y | `a.rs::b` |\n| D-003 | x | y |\n";
        let rows = rows(page, &mut found);
        let test = |file: &str, name: &str| (file.to_owned(), name.to_owned());
        assert_eq!(rows[0].tests, [test("a/b.rs", "c"), test("d.rs", "e")]);
        assert!(rows[1].open && rows[1].tests.is_empty());
        assert_eq!(found, [format!("{PAGE}: D-002 comes twice"), format!("{PAGE}: D-003: 3 cells, not 4")]);
    }

    #[test]
    fn a_test_names_its_defect() {
        let source =
            "/// D-001, D-002: a cursor.\n#[tokio::test]\nasync fn one() {}\n\n#[test]\nfn two() {}\n";
        assert_eq!(unnamed(source, "one", "D-001"), None);
        assert_eq!(unnamed(source, "one", "D-002"), None);
        assert_eq!(unnamed(source, "one", "D-003").unwrap(), "the comment of `one` does not name D-003");
        assert_eq!(unnamed(source, "two", "D-001").unwrap(), "the comment of `two` does not name D-001");
        assert_eq!(unnamed(source, "on", "D-001").unwrap(), "there is no `on` (D-001)");
        let row = Row { id: "D-001".into(), tests: vec![], open: true };
        assert_eq!(strays(Path::new("a.rs"), source, &[row]), [format!("a.rs: {PAGE} has no D-002")]);
    }
}
