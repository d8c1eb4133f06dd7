//! Breaks text at words.

use console::measure_text_width;

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
        if used > 0 && used + 1 + long > room {
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
    let mut out = format!("{head}{}", lines.next().unwrap_or_default());
    for line in lines.filter(|line| !line.is_empty()) {
        out.push_str(&format!("\n{:indent$}{line}", ""));
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
    fn what_hangs_is_indented() {
        assert_eq!(hanging("> ", "one two three four", 4, Some(13)), "> one two\n    three\n    four");
        assert_eq!(hanging("> ", "one two three four", 4, None), "> one two three four");
    }
}
