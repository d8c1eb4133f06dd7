//! When a text to replace is not in the file: what in the file comes nearest, so that the next try is right.

use std::collections::HashMap;
use std::fmt::Write as _;

const SHOWN_LINES: usize = 12;
const CANDIDATES: usize = 3;
/// Below this likeness a hint would mislead.
const LIKE_ENOUGH: f32 = 0.4;

/// A sentence or two, with the nearest lines and their numbers.
pub fn describe(text: &str, wanted: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let wanted: Vec<&str> = wanted.lines().collect();
    let Some((start, score)) = best_start(&lines, &wanted) else {
        return "Nothing in the file is like it: read the file again.".into();
    };
    let height = wanted.len().min(lines.len() - start);
    let window = &lines[start..start + height];
    let spaces_only =
        height == wanted.len() && window.iter().zip(&wanted).all(|(a, b)| squeeze(a) == squeeze(b));
    let mut out = String::from(if spaces_only {
        "These lines differ from it only in white space:\n"
    } else if score >= LIKE_ENOUGH {
        "The nearest lines are:\n"
    } else {
        return "Nothing in the file is like it: read the file again.".into();
    });
    for (n, line) in window.iter().take(SHOWN_LINES).enumerate() {
        let shown = super::super::text::prefix(line, 300);
        let _ = writeln!(out, "{:>6}\t{shown}", start + n + 1);
    }
    if height > SHOWN_LINES {
        let _ = writeln!(out, "       (and {} lines more)", height - SHOWN_LINES);
    }
    out
}

/// Finds where the longest wanted line lies best, then compares whole windows there only: linear in the file.
fn best_start(lines: &[&str], wanted: &[&str]) -> Option<(usize, f32)> {
    let (anchor_at, anchor) = wanted.iter().enumerate().max_by_key(|(_, line)| line.trim().len())?;
    let grams = bigrams(anchor);
    let mut best: Vec<(f32, usize)> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let score = likeness(&grams, line);
        if score > 0.0 && (best.len() < CANDIDATES || best.last().is_some_and(|(least, _)| score > *least)) {
            best.push((score, at));
            best.sort_by(|a, b| b.0.total_cmp(&a.0));
            best.truncate(CANDIDATES);
        }
    }
    let window = |(_, at): (f32, usize)| {
        let start = at.saturating_sub(anchor_at);
        let sum: f32 = wanted
            .iter()
            .take(50)
            .enumerate()
            .map(|(n, line)| lines.get(start + n).map_or(0.0, |other| likeness(&bigrams(line), other)))
            .sum();
        (start, sum / wanted.len().min(50) as f32)
    };
    best.into_iter().map(window).max_by(|a, b| a.1.total_cmp(&b.1))
}

type Bigrams = HashMap<(char, char), u16>;

fn bigrams(line: &str) -> Bigrams {
    let mut grams = Bigrams::new();
    let chars: Vec<char> = line.chars().filter(|c| !c.is_whitespace()).take(400).collect();
    for pair in chars.windows(2) {
        *grams.entry((pair[0], pair[1])).or_default() += 1;
    }
    grams
}

/// Dice's coefficient of the pairs of letters: 1 for the same, 0 for nothing in common. White space does not count.
fn likeness(grams: &Bigrams, line: &str) -> f32 {
    let other = bigrams(line);
    let size = |grams: &Bigrams| grams.values().map(|n| u32::from(*n)).sum::<u32>();
    let common: u32 = other.iter().map(|(pair, n)| u32::from(*grams.get(pair).unwrap_or(&0).min(n))).sum();
    let total = size(grams) + size(&other);
    if total == 0 {
        f32::from(u8::from(squeeze(line).is_empty()))
    } else {
        2.0 * common as f32 / total as f32
    }
}

fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
