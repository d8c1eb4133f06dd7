//! Makes an event's data small enough: its longest texts are shortened, nothing else.

use domain::event::preview;
use serde_json::{Value, json};

/// Characters that texts are cut to, one after the other, until the whole fits.
const STEPS: [usize; 4] = [8_000, 1_000, 200, 40];

/// `metadata`, at most `max` bytes of JSON; an object in any case.
pub(super) fn to_limit(mut metadata: Value, max: usize) -> Value {
    if !metadata.is_object() {
        metadata = json!({ "value": metadata });
    }
    let bytes = length(&metadata);
    if bytes <= max {
        return metadata;
    }
    for step in STEPS {
        shorten(&mut metadata, step);
        if length(&metadata) + 64 <= max {
            if let Value::Object(map) = &mut metadata {
                map.insert("cut_from_bytes".into(), json!(bytes));
            }
            return metadata;
        }
    }
    json!({ "cut_from_bytes": bytes })
}

fn length(value: &Value) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}

fn shorten(value: &mut Value, max: usize) {
    match value {
        Value::String(text) if text.len() > max => *text = preview(text, max),
        Value::Array(items) => items.iter_mut().for_each(|item| shorten(item, max)),
        Value::Object(map) => map.values_mut().for_each(|item| shorten(item, max)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D-028: one large event silenced all others.
    #[test]
    fn what_fits_is_untouched_and_what_does_not_keeps_its_small_fields() {
        let small = json!({ "tool": "Bash", "output": "x".repeat(100) });
        assert_eq!(to_limit(small.clone(), 65_536), small);
        let big = json!({ "tool": "Bash", "output": "ñ".repeat(10_000_000), "turn": 3 });
        let cut = to_limit(big, 65_536);
        assert!(length(&cut) <= 65_536);
        assert_eq!((cut["tool"].as_str(), cut["turn"].as_u64()), (Some("Bash"), Some(3)));
        assert!(cut["output"].as_str().unwrap().ends_with("..."));
        assert!(cut["cut_from_bytes"].as_u64().unwrap() > 10_000_000);
    }

    #[test]
    fn many_small_texts_end_as_a_bare_note() {
        let many = json!({ "all": vec!["x".repeat(30); 100_000] });
        assert!(length(&to_limit(many, 65_536)) < 100);
    }
}
