//! Breaks text at words.

use console::measure_text_width;

/// Lines of at most `width` columns; a longer word is broken.
pub fn words(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = vec![];
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let long = measure_text_width(word);
        if used > 0 && used + 1 + long > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        for c in word.chars() {
            let columns = measure_text_width(c.encode_utf8(&mut [0; 4]));
            if used + columns > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
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
    let first = width.saturating_sub(measure_text_width(head)).max(8);
    let mut lines = words(text, first).into_iter();
    let begun = lines.next().unwrap_or_default();
    let rest: Vec<String> = lines.collect();
    let mut out = format!("{head}{begun}");
    for line in words(&rest.join(" "), width.saturating_sub(indent)) {
        if !line.is_empty() {
            out.push_str(&format!("\n{:indent$}{line}", ""));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

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
