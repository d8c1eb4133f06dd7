//! A tool's input on one line, for events: what matters first, cut before it is copied.

use serde_json::Value;

/// Shown first, in this order.
const FIRST: [&str; 5] = ["command", "file_path", "pattern", "path", "description"];

/// Compact JSON of at most `max` characters.
pub fn input(input: &Value, max: usize) -> String {
    let Value::Object(fields) = input else {
        return domain::event::preview(&input.to_string(), max);
    };
    let first = FIRST.iter().filter_map(|name| fields.get_key_value(*name));
    let rest = fields.iter().filter(|(name, _)| !FIRST.contains(&name.as_str()));
    let mut out = String::from("{");
    for (name, value) in first.chain(rest) {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&format!("{}:", Value::from(name.as_str())));
        match value {
            Value::String(text) => out.push_str(&Value::from(domain::event::preview(text, max)).to_string()),
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

    #[test]
    fn the_command_comes_first_and_long_values_are_cut() {
        let shown = input(&json!({ "description": "d", "timeout_ms": 5, "command": "ls" }), 200);
        assert_eq!(shown, r#"{"command":"ls","description":"d","timeout_ms":5}"#);
        let shown = input(&json!({ "content": "x".repeat(100_000), "file_path": "a.rs" }), 40);
        assert_eq!(shown, r#"{"file_path":"a.rs","content":"xxxxxx..."#);
        assert_eq!(input(&json!({ "edits": [1, 2] }), 40), r#"{"edits":[2 items]}"#);
    }
}
