//! Breaks text at words.

use console::{measure_text_width, strip_ansi_codes};

/// Lines of at most `width` columns; a longer word is broken.
pub fn words(text: &str, width: usize) -> Vec<String> {
    lines(text, width, width)
}

/// The first line of at most `first` columns, the others of at most `width`.
fn lines(text: &str, first: usize, width: usize) -> Vec<String> {
    let mut room = first.max(8);
    let width = width.max(8);
    let mut lines = vec![];
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let long = measure_text_width(word);
        let further_down = used == 0 && lines.is_empty() && long > room && long <= width;
        if further_down || used > 0 && used + 1 + long > room {
            lines.push(std::mem::take(&mut line));
            (used, room) = (0, width);
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        for c in word.chars() {
            let columns = measure_text_width(c.encode_utf8(&mut [0; 4]));
            if used + columns > room {
                lines.push(std::mem::take(&mut line));
                (used, room) = (0, width);
            }
            line.push(c);
            used += columns;
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// `head` and then the text, wrapped to `width` columns with the following lines indented by `indent`.
pub fn hanging(head: &str, text: &str, indent: usize, width: Option<usize>) -> String {
    let Some(width) = width else { return format!("{head}{text}").trim_end().to_owned() };
    if measure_text_width(head) + measure_text_width(text) <= width {
        return format!("{head}{text}").trim_end().to_owned();
    }
    // The first line is as wide as the others: the head stands where their indentation is, or beyond it.
    let first = width.saturating_sub(measure_text_width(head));
    let mut lines = lines(text, first, width.saturating_sub(indent)).into_iter();
    let mut out = format!("{head}{}", lines.next().unwrap_or_default()).trim_end().to_owned();
    for line in lines.filter(|line| !line.is_empty()) {
        out.push_str(&format!("\n{:indent$}{line}", ""));
    }
    out
}

/// Lines that are wider than `width` are broken between words, the rest indented like them (or a little more). A word stays
/// whole whatever its length, so that an address or the name of a branch can be copied.
pub fn fit(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    text.split('\n').map(|line| fit_line(line, width)).collect::<Vec<_>>().join("\n")
}

fn fit_line(line: &str, width: usize) -> String {
    if measure_text_width(line) <= width {
        return line.to_owned();
    }
    let plain = strip_ansi_codes(line);
    let margin = plain.len() - plain.trim_start_matches(' ').len();
    let indent = (margin + 2).min(width / 4);
    // Spaces before a word belong to it, but where a line is broken.
    let (mut out, mut used, mut gap) = (String::new(), 0, 0);
    for (n, word) in line.split(' ').enumerate() {
        gap += usize::from(n > 0);
        let columns = measure_text_width(word);
        if columns == 0 {
            out.push_str(word);
            continue;
        }
        if used > margin && used + gap + columns > width {
            out.push_str(&format!("\n{:indent$}", ""));
            used = indent;
        } else {
            out.push_str(&" ".repeat(gap));
            used += gap;
        }
        out.push_str(word);
        (used, gap) = (used + columns, 0);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_broken_stays_one_word() {
        let url = "local:/tmp/repository#bgagent/01M8HKPF2ZS9MDGG93TG4GJX2H/add-a-file";
        let text = hanging("[17:37:28] Pull request ", url, 15, Some(40));
        assert_eq!(text.replace("\n               ", ""), format!("[17:37:28] Pull request {url}"));
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
    }

    #[test]
    fn lines_keep_to_the_width_also_with_wide_letters_and_long_words() {
        assert_eq!(words("a bb ccc dddd", 8), ["a bb ccc", "dddd"]);
        assert_eq!(words("abcdefghijklm n", 8), ["abcdefgh", "ijklm n"]);
        assert_eq!(words("漢字漢字漢字", 8), ["漢字漢字", "漢字"]);
        assert_eq!(words("", 8), [""]);
    }

    #[test]
    fn a_word_that_fits_into_a_line_of_its_own_is_not_broken() {
        let whole = "0123456789abcdefghij";
        assert_eq!(hanging("* commit ", whole, 2, Some(24)), format!("* commit\n  {whole}"));
        assert_eq!(hanging("* commit ", whole, 2, Some(20)), "* commit 0123456789a\n  bcdefghij");
    }

    #[test]
    fn lines_fit_and_words_stay_whole() {
        let fit = |text: &str| super::fit(text, Some(20));
        assert_eq!(fit("short\n  short"), "short\n  short");
        assert_eq!(fit("Nudge 1 submitted for task 2."), "Nudge 1 submitted\n  for task 2.");
        assert_eq!(
            fit("  Branch:        bgagent/x/a-long-name-of-it"),
            "  Branch:\n    bgagent/x/a-long-name-of-it"
        );
        assert_eq!(fit("a-word-that-is-longer-than-it"), "a-word-that-is-longer-than-it");
        assert_eq!(fit("a  b    c"), "a  b    c");
        assert_eq!(
            fit("\u{1b}[31m    - one two three four\u{1b}[0m"),
            "\u{1b}[31m    - one two three\n     four\u{1b}[0m",
            "colours take no room; indented by a quarter of the width at most"
        );
        assert_eq!(super::fit("one two three four five six", None), "one two three four five six");
    }

    #[test]
    fn what_hangs_is_indented() {
        assert_eq!(hanging("> ", "one two three four", 4, Some(13)), "> one two\n    three\n    four");
        assert_eq!(hanging("> ", "one two three four", 4, None), "> one two three four");
    }
}
