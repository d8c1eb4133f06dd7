//! Whether a text is JSON that may be handed on.

use domain::limit::ATTACHMENT_JSON_MAX_DEPTH;
use serde::de::IgnoredAny;

/// Proves that the text is one JSON value, not deeper than [`ATTACHMENT_JSON_MAX_DEPTH`]: whoever reads it later may
/// recurse. Keeps nothing, allocates nothing for it.
///
/// # Errors
/// What is wrong and where, for people.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if depth(text) > ATTACHMENT_JSON_MAX_DEPTH {
        return Err(format!(
            "arrays and objects lie more than {ATTACHMENT_JSON_MAX_DEPTH} deep in one another"
        ));
    }
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| error.to_string())
}

/// How deep brackets outside strings lie in one another.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(within) = bytes.next() {
                    match within {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => (),
                    }
                }
            }
            _ => (),
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_value_of_bounded_depth() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        for good in ["{}", "[1,2]", " \"a\" ", "null", "1e999", r#"{"a":"\"[[[[\\"}"#] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for depth in [1, ATTACHMENT_JSON_MAX_DEPTH] {
            assert_eq!(check(&nested(depth)), Ok(()));
            assert_eq!(check(&objects(depth)), Ok(()));
        }
        for deep in [ATTACHMENT_JSON_MAX_DEPTH + 1, 100_000] {
            assert!(check(&nested(deep)).unwrap_err().contains("100 deep"));
            assert!(check(&objects(deep)).unwrap_err().contains("100 deep"));
        }
        for bad in ["", "{", "{'a':1}", "{} {}", "[1,]", "\"\\", "NaN"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert_eq!(check("{\n \"a\": }").unwrap_err(), "expected value at line 2 column 7");
        let brackets = format!("{:?}", "[".repeat(1_000));
        assert_eq!(check(&brackets), Ok(()));
    }
}
