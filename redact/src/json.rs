//! Masking JSON: the texts in it, as they are meant and not as they are escaped.

use std::borrow::Cow;

use serde_json::Value;

use crate::mask;
use crate::net::Net;

/// How one text is masked.
type Text = for<'a> fn(&Net, &'a str) -> Cow<'a, str>;

pub fn value(net: &Net, value: &mut Value, text: Text) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => (),
        Value::String(own) => {
            if let Cow::Owned(clean) = text(net, own) {
                *own = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| self::value(net, item, text)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| self::value(net, field, text));
            if fields.keys().any(|key| matches!(text(net, key), Cow::Owned(_))) {
                let old = std::mem::take(fields);
                fields.extend(old.into_iter().map(|(key, field)| (text(net, &key).into_owned(), field)));
            }
        }
    }
}

/// `None` when there is nothing to mask.
pub fn bytes(net: &Net, body: &[u8]) -> Option<Vec<u8>> {
    let mut clean: Option<Vec<u8>> = None;
    let (mut copied, mut at) = (0, 0);
    loop {
        let between = body[at..].iter().position(|b| !is_between(*b)).unwrap_or(body.len() - at);
        let start = at + between;
        match body.get(start) {
            None => break,
            Some(b'"') => (),
            Some(_) => return plain(net, body),
        }
        let Some((stop, escaped)) = end_of_text(body, start + 1) else { return plain(net, body) };
        at = stop + 1;
        if let Some(masked) = literal(net, &body[start..at], escaped) {
            let clean = clean.get_or_insert_with(|| Vec::with_capacity(body.len()));
            clean.extend_from_slice(&body[copied..start]);
            clean.extend_from_slice(masked.as_bytes());
            copied = at;
        }
    }
    let mut clean = clean?;
    clean.extend_from_slice(&body[copied..]);
    Some(clean)
}

/// What stands between the texts of a JSON document.
fn is_between(byte: u8) -> bool {
    const WORDS: &[u8] = b"truefalsn";
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'[' | b']' | b'{' | b'}')
        || matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'E')
        || WORDS.contains(&byte)
}

/// The offset of the quote that ends the text which begins at `start`, and whether anything in it is escaped.
fn end_of_text(body: &[u8], start: usize) -> Option<(usize, bool)> {
    let (mut at, mut escaped) = (start, false);
    loop {
        at += memchr::memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[at] == b'"' {
            return Some((at, escaped));
        }
        escaped = true;
        at += 2;
    }
}

/// A text with its quotes, masked; `None` when nothing is in it.
fn literal(net: &Net, quoted: &[u8], escaped: bool) -> Option<String> {
    let inner = &quoted[1..quoted.len() - 1];
    if inner.len() < crate::VALUE_MIN_BYTES {
        return None;
    }
    if !escaped && mask::find(net, inner).is_empty() {
        return None;
    }
    // Half of a surrogate pair is no text: then what is there is masked as it is written.
    let text = match serde_json::from_slice::<String>(quoted) {
        Ok(text) => text,
        Err(_) => {
            let text = String::from_utf8_lossy(inner);
            return match mask::text(net, &text) {
                Cow::Borrowed(_) => None,
                Cow::Owned(clean) => Some(format!("\"{clean}\"")),
            };
        }
    };
    match mask::text(net, &text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(clean) => Some(Value::from(clean).to_string()),
    }
}

fn plain(net: &Net, body: &[u8]) -> Option<Vec<u8>> {
    match mask::text(net, &String::from_utf8_lossy(body)) {
        Cow::Borrowed(_) => None,
        Cow::Owned(clean) => Some(clean.into_bytes()),
    }
}
