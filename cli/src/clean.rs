//! Makes foreign text safe to print. Whatever an agent, a repository or a server says may hold terminal escapes,
//! control characters and bidirectional overrides; none of them reach the person's terminal as such.

use serde::Serialize;

/// A text for one line: line breaks and tabs become spaces, everything dangerous becomes visible.
pub fn line(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' | '\t' | '\r' => clean.push(' '),
            c => push(&mut clean, c),
        }
    }
    clean
}

/// A text of several lines: line feeds and tabs stay.
pub fn block(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => clean.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            c => push(&mut clean, c),
        }
    }
    clean
}

/// One compact JSON object. The same characters are escaped inside strings, so that nothing is lost.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string(value)?;
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if dangerous(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                clean.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            clean.push(c);
        }
    }
    Ok(clean)
}

fn push(clean: &mut String, c: char) {
    match c {
        '\0'..='\x1f' => clean.extend(char::from_u32(0x2400 + u32::from(c))),
        '\x7f' => clean.push('\u{2421}'),
        c if dangerous(c) => clean.push_str(&format!("<U+{:04X}>", u32::from(c))),
        c => clean.push(c),
    }
}

/// Controls, line separators, bidirectional marks and what is not seen at all.
fn dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_overrides_become_visible() {
        let evil = "a\x1b[31mred\x1b]0;title\x07 \u{9b}2J \u{202e}gnp.exe\r\nb\tc\x7f";
        assert_eq!(line(evil), "a␛[31mred␛]0;title␇ <U+009B>2J <U+202E>gnp.exe  b c␡");
        assert_eq!(block("a\r\nb\rc\td\x08"), "a\nb␍c\td␈");
        assert_eq!(line("añ漢😀"), "añ漢😀", "letters of all scripts stay");
    }

    #[test]
    fn json_loses_nothing() {
        let evil = "\x1b[0m\u{9b}\u{202e}\u{e0041}ñ";
        let text = json(&serde_json::json!({ "a": evil })).unwrap();
        assert!(!text.chars().any(dangerous), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["a"], evil);
    }
}
