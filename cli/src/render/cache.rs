//! Dependency caches as people see them.

use compute::cache::{Cache, Generation};

use domain::event::preview;

use super::table::table;
use super::{MISSING, View};
use crate::clean;

/// Characters of the commands.
const COMMANDS_CHARS: usize = 40;

/// What new boxes are lent.
pub fn cache(repo: &str, generation: &Generation) -> String {
    format!(
        "New boxes of {} are lent {} file{}, {} (generation {}).",
        clean::line(repo),
        generation.files,
        if generation.files == 1 { "" } else { "s" },
        size(generation.bytes),
        generation.number
    )
}

/// All of them.
pub fn caches(all: &[Cache], view: &View) -> String {
    if all.is_empty() {
        return "No repository has a cache.".into();
    }
    let row = |cache: &Cache| {
        let current = cache.current.as_ref();
        let of = |told: &dyn Fn(&Generation) -> String| {
            current.map_or_else(|| MISSING.into(), |g| clean::line(&told(g)))
        };
        [
            clean::line(&cache.repo),
            of(&|g| g.number.to_string()),
            of(&|g| size(g.bytes)),
            of(&|g| g.files.to_string()),
            of(&|g| preview(&g.commands.join("; "), COMMANDS_CHARS)),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let mut text = table(["REPO", "GENERATION", "SIZE", "FILES", "FILLED BY"], &rows, view);
    let older: usize = all.iter().map(|cache| cache.older).sum();
    if older > 0 {
        text.push_str(&format!("\n({older} older, removed when no box uses them)"));
    }
    text
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_rows_and_the_older_ones_are_counted() {
        let generation = Generation {
            number: 7,
            path: "/state/caches/cat/000007".into(),
            commands: vec!["cargo fetch --locked".into(), "npm ci --ignore-scripts --no-audit".into()],
            commit: "abc".into(),
            bytes: 5_300_000,
            files: 812,
        };
        let told = [
            Cache { repo: "octo/cat".into(), current: Some(generation.clone()), older: 1 },
            Cache { repo: "octo/dog\u{1b}".into(), current: None, older: 1 },
        ];
        let view = View { width: None, ..crate::render::sample::view() };
        insta::assert_snapshot!(caches(&told, &view));
        assert_eq!(caches(&[], &view), "No repository has a cache.");
        assert_eq!(
            cache("octo/cat", &generation),
            "New boxes of octo/cat are lent 812 files, 5.1 MiB (generation 7)."
        );
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!([0, 1_023, 1_024, 5_300_000_000].map(size), ["0 B", "1023 B", "1.0 KiB", "4.9 GiB"]);
    }
}
