//! A tool's input on one line, for events: what matters first, cut before it is copied.

use redact::Redactor;
use serde_json::Value;

/// Shown first, in this order.
const FIRST: [&str; 5] = ["command", "file_path", "pattern", "path", "description"];

/// Compact JSON of at most `max` characters, masked before it is cut.
pub fn input(input: &Value, max: usize, redactor: &Redactor) -> String {
    let Value::Object(fields) = input else {
        return domain::event::preview(&redactor.mask(&input.to_string()), max);
    };
    let first = FIRST.iter().filter_map(|name| fields.get_key_value(*name));
    let rest = fields.iter().filter(|(name, _)| !FIRST.contains(&name.as_str()));
    let mut out = String::from("{");
    for (name, value) in first.chain(rest) {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&format!("{}:", Value::from(redactor.mask(name).into_owned())));
        match value {
            Value::String(text) => {
                let text = redactor.mask(text);
                out.push_str(&Value::from(domain::event::preview(&text, max)).to_string());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
            Value::Array(list) => out.push_str(&format!("[{} items]", list.len())),
            Value::Object(fields) => out.push_str(&format!("{{{} fields}}", fields.len())),
        }
        if out.len() > 4 * max {
            break;
        }
    }
    out.push('}');
    domain::event::preview(&out, max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn input(input: &Value, max: usize) -> String {
        super::input(input, max, &Redactor::default())
    }

    /// D-031: tool input was shown in another language's form.
    #[test]
    fn the_command_comes_first_and_long_values_are_cut() {
        let shown = input(&json!({ "description": "d", "timeout_ms": 5, "command": "ls" }), 200);
        assert_eq!(shown, r#"{"command":"ls","description":"d","timeout_ms":5}"#);
        let shown = input(&json!({ "content": "x".repeat(100_000), "file_path": "a.rs" }), 40);
        assert_eq!(shown, r#"{"file_path":"a.rs","content":"xxxxxx..."#);
        assert_eq!(input(&json!({ "edits": [1, 2] }), 40), r#"{"edits":[2 items]}"#);
        let token = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6");
        let shown = input(&json!({ "command": format!("export T={token}") }), 25);
        assert_eq!(shown, r#"{"command":"export T=[..."#);
    }
}
