//! Makes foreign text safe to print. Whatever an agent, a repository or a server says may hold terminal escapes,
//! control characters and bidirectional overrides; none of them reach the person's terminal as such.

pub use domain::text::{block, line};
use serde::Serialize;

/// One compact JSON object. The same characters are escaped inside strings, so that nothing is lost.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(json_text(&serde_json::to_string(value)?))
}

/// A text that is JSON already, in one line.
pub fn json_text(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if domain::text::is_dangerous(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                clean.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            clean.push(c);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_loses_nothing() {
        let evil = "\x1b[0m\u{9b}\u{202e}\u{e0041}ñ";
        let text = json(&serde_json::json!({ "a": evil })).unwrap();
        assert!(!text.chars().any(domain::text::is_dangerous), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["a"], evil);
    }
}
