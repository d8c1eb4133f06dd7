//! The page of transcripts in the guide.

use std::path::PathBuf;

use super::Typed;
use super::mask::Masks;

/// Objects of a stream before the last.
const FIRST: usize = 4;
/// Characters of an object.
const OBJECT_CHARS: usize = 240;
/// What keeps a box differs from machine to machine.
const BOX: &str = "box_ready enforced=namespaces, seccomp, Landlock 7";
/// Before the further lines of an entry.
const GOES_ON: &str = "           ";

/// `docs/guide/session.md`.
pub struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// As it is checked in.
    pub fn read() -> Page {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/session.md");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Page { path, text }
    }

    /// Its transcript of this name is this one; or becomes it, when that is asked for.
    #[expect(clippy::disallowed_methods, reason = "whoever runs the tests says whether to write")]
    pub fn holds(&self, name: &str, shown: &str) {
        let begin = format!("<!-- session: {name} -->\n```console\n");
        let from = self.text.find(&begin).unwrap_or_else(|| panic!("no transcript {name:?}")) + begin.len();
        let to = from + self.text[from..].find("```\n").expect("the transcript ends");
        let there = &self.text[from..to];
        if std::env::var("BGAGENT_TEST_UPDATE").is_ok() {
            let page = [&self.text[..from], shown, &self.text[to..]].concat();
            std::fs::write(&self.path, page).unwrap();
            return;
        }
        let (wanted, got) = (comparable(there), comparable(shown));
        if wanted == got {
            return;
        }
        let only = |of: &[String], other: &[String]| {
            of.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
        };
        panic!(
            "{name} is not what the page says (BGAGENT_TEST_UPDATE=1 writes it).\nOnly on the page:\n  {}\nOnly now:\n  {}\nNow:\n{shown}",
            only(&wanted, &got),
            only(&got, &wanted)
        );
    }
}

/// The session as it stands on the page.
pub fn transcript(typed: &[Typed], masks: &Masks) -> String {
    let one = |typed: &Typed| {
        let seen = [typed.seen.trim_end(), typed.err.trim_end()];
        let seen: Vec<&str> = seen.into_iter().filter(|text| !text.is_empty()).collect();
        let text = masks.text(&format!("$ {}\n{}\n", typed.words, seen.join("\n")));
        let mut lines: Vec<String> = vec![];
        for line in text.lines().filter(|line| !comes_and_goes(line)) {
            let of_the_box = lines.last().is_some_and(|before| before.ends_with(BOX));
            match (line.find("box_ready enforced="), of_the_box && line.starts_with(GOES_ON)) {
                (Some(at), _) => lines.push(format!("{}{BOX}", &line[..at])),
                (None, true) => (),
                (None, false) => lines.push(line.to_owned()),
            }
        }
        let objects = lines.iter().filter(|line| line.starts_with('{')).count();
        if objects > 0 {
            lines = short(&lines, objects);
        }
        lines.join("\n")
    };
    typed.iter().map(one).collect::<Vec<_>>().join("\n\n") + "\n"
}

/// A stream of objects has its first and its last on the page, each cut where a reader has the idea.
fn short(lines: &[String], objects: usize) -> Vec<String> {
    let mut shown: Vec<String> = vec![];
    let mut n = 0;
    for line in lines {
        if !line.starts_with('{') {
            shown.push(line.clone());
            continue;
        }
        n += 1;
        if n <= FIRST || n == objects {
            shown.push(domain::event::preview(line, OBJECT_CHARS));
        } else if n == FIRST + 1 {
            shown.push("...".into());
        }
    }
    shown
}

/// On a slow machine only, or of the machine's mood.
fn comes_and_goes(line: &str) -> bool {
    let state = |line: &str| {
        line.strip_suffix(" ...").is_some_and(|s| domain::Status::ALL.iter().any(|known| known.as_str() == s))
    };
    let running = ["Bash has run for", "\"tool_running\"", "agent_milestone tool_running"];
    running.iter().any(|words| line.contains(words)) || state(line)
}

/// What two processes write at the same time may change places: entries, sorted; an entry that goes on in the next lines is
/// one line.
fn comparable(text: &str) -> Vec<String> {
    let mut entries: Vec<String> = vec![];
    // On a machine that is busy enough, a cancelled box does not get to saving its work.
    let saved = |line: &&str| line.starts_with("Work so far is on branch") || line.starts_with("  (1c5ea543");
    for line in text.lines().filter(|line| !saved(line)) {
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        match entries.last_mut() {
            Some(entry) if line.starts_with(GOES_ON) => *entry = format!("{entry} {words}"),
            _ => entries.push(words),
        }
    }
    entries.sort();
    entries
}
