//! The forms in which tools print a value: as it is, and encoded.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{NO_PAD, PAD};

/// Every form of `value`, each once, without line breaks (the search does not see them).
pub fn all(value: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    let mut add = |form: Vec<u8>| {
        let form: Vec<u8> = form.into_iter().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
        if form.len() >= super::VALUE_MIN_BYTES {
            forms.insert(form);
        }
    };
    // A value of several lines is also met with other line ends.
    for value in BTreeSet::from([value.to_owned(), value.replace("\r\n", "\n"), format!("{value}\n")]) {
        let bytes = value.as_bytes();
        base64(bytes, &mut add);
        add(hex(bytes, Case::Lower));
        add(hex(bytes, Case::Upper));
        let once = json(&value);
        add(json(&once).into_bytes());
        add(once.into_bytes());
        for case in [Case::Lower, Case::Upper] {
            for plain in URL_PLAIN {
                add(percent(bytes, plain, case, Space::Percent));
                add(percent(bytes, plain, case, Space::Plus));
            }
        }
        add(html(&value).into_bytes());
        add(value.into_bytes());
    }
    forms
}

/// What encoders leave as it is beside letters and digits: RFC 3986, the same in a path (Python's `quote`), forms,
/// `encodeURIComponent`, `encodeURI`, nothing.
const URL_PLAIN: [&[u8]; 6] = [b"-_.~", b"-_.~/", b"-_.*", b"-_.!~*'()", b"-_.!~*'();/?:@&=+$,#", b""];

#[derive(Clone, Copy)]
enum Case {
    Lower,
    Upper,
}

#[derive(Clone, Copy)]
enum Space {
    Percent,
    Plus,
}

fn digits(byte: u8, case: Case) -> [u8; 2] {
    let digits: &[u8; 16] = match case {
        Case::Lower => b"0123456789abcdef",
        Case::Upper => b"0123456789ABCDEF",
    };
    [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]
}

fn hex(bytes: &[u8], case: Case) -> Vec<u8> {
    bytes.iter().flat_map(|b| digits(*b, case)).collect()
}

fn percent(bytes: &[u8], plain: &[u8], case: Case, space: Space) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() * 3);
    for &byte in bytes {
        match (byte, space) {
            (b' ', Space::Plus) => out.push(b'+'),
            _ if byte.is_ascii_alphanumeric() || plain.contains(&byte) => out.push(byte),
            _ => {
                out.push(b'%');
                out.extend(digits(byte, case));
            }
        }
    }
    out
}

/// The inside of a JSON string. Also what most languages print for debugging.
fn json(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn html(value: &str) -> String {
    value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// The characters that the value alone decides, wherever in a longer text it was encoded, and the whole when it was
/// encoded by itself.
fn base64(bytes: &[u8], add: &mut impl FnMut(Vec<u8>)) {
    let alphabets: [&Alphabet; 2] = [&STANDARD, &URL_SAFE];
    for alphabet in alphabets {
        add(GeneralPurpose::new(alphabet, PAD).encode(bytes).into_bytes());
        let engine = GeneralPurpose::new(alphabet, NO_PAD);
        add(engine.encode(bytes).into_bytes());
        for before in 0..3 {
            let mut shifted = vec![0; before];
            shifted.extend_from_slice(bytes);
            let text = engine.encode(&shifted).into_bytes();
            let first = (before * 8).div_ceil(6);
            let last = shifted.len() * 8 / 6;
            add(text[first..last].to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, form: &str) -> bool {
        all(value).contains(form.as_bytes())
    }

    #[test]
    fn a_value_is_known_as_tools_print_it() {
        let value = "p@ss \"w\u{f6}rd/1\"";
        for form in [
            "p@ss \"w\u{f6}rd/1\"",
            "p@ss \\\"w\u{f6}rd/1\\\"",
            "p@ss \\\\\\\"w\u{f6}rd/1\\\\\\\"",
            "p%40ss%20%22w%C3%B6rd%2F1%22",
            "p%40ss%20%22w%c3%b6rd%2f1%22",
            "p%40ss+%22w%C3%B6rd%2F1%22",
            "p@ss%20%22w%C3%B6rd/1%22",
            "704073732022",
            "p@ss &quot;w\u{f6}rd/1&quot;",
            "cEBzcyAid8O2cmQvMSI",
        ] {
            let found = all(value).iter().any(|f| f.windows(form.len()).any(|w| w == form.as_bytes()));
            assert!(found, "{form}");
        }
        assert!(has("12345678", "MTIzNDU2Nzg") && has("12345678", "MTIzNDU2Nzg="));
    }
}
