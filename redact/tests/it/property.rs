//! No planted secret survives, however it is written and wherever the text is cut.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use proptest::string::string_regex;
use redact::{MASK, Redactor};
use secrecy::SecretString;
use std::sync::LazyLock;

use crate::sample;

/// How a tool may print a value.
#[derive(Debug, Clone, Copy)]
enum Form {
    Plain,
    Base64 { before: usize, after: usize, url: bool, pad: bool },
    Wrapped { before: usize },
    Percent { upper: bool, plus: bool },
    Json,
    Hex { upper: bool },
    Lines { width: usize },
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![
        Just(Form::Plain),
        (0..7usize, 0..7usize, any::<bool>(), any::<bool>())
            .prop_map(|(before, after, url, pad)| Form::Base64 { before, after, url, pad }),
        (0..80usize).prop_map(|before| Form::Wrapped { before }),
        (any::<bool>(), any::<bool>()).prop_map(|(upper, plus)| Form::Percent { upper, plus }),
        Just(Form::Json),
        any::<bool>().prop_map(|upper| Form::Hex { upper }),
        (1..20usize).prop_map(|width| Form::Lines { width }),
    ]
}

fn lines(text: &str, width: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(width).map(|c| c.iter().collect::<String>()).collect::<Vec<_>>().join("\n")
}

fn write(value: &str, form: Form) -> String {
    match form {
        Form::Plain => value.to_owned(),
        Form::Base64 { before, after, url, pad } => {
            let bytes = [&vec![b'u'; before], value.as_bytes(), &vec![b':'; after]].concat();
            match (url, pad) {
                (true, true) => URL_SAFE.encode(bytes),
                (true, false) => URL_SAFE_NO_PAD.encode(bytes),
                (false, true) => STANDARD.encode(bytes),
                (false, false) => STANDARD_NO_PAD.encode(bytes),
            }
        }
        Form::Wrapped { before } => {
            let bytes = [&vec![b'u'; before], value.as_bytes()].concat();
            lines(&STANDARD.encode(bytes), 76)
        }
        Form::Percent { upper, plus } => value
            .bytes()
            .map(|b| match b {
                b' ' if plus => "+".to_owned(),
                b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
                b if upper => format!("%{b:02X}"),
                b => format!("%{b:02x}"),
            })
            .collect(),
        Form::Json => serde_json::json!(value).to_string(),
        Form::Hex { upper: true } => value.bytes().map(|b| format!("{b:02X}")).collect(),
        Form::Hex { upper: false } => value.bytes().map(|b| format!("{b:02x}")).collect(),
        Form::Lines { width } => lines(value, width),
    }
}

/// Whether a text holds what the value alone decides of what was written.
fn holds(text: &str, written: &str, form: Form) -> bool {
    let Form::Base64 { before, after, .. } = form else { return text.contains(written) };
    let chars: Vec<char> = written.trim_end_matches('=').chars().collect();
    // Base64 mixes bytes with their neighbours: one character at either end may say a little of both.
    let first = (before * 8).div_ceil(6);
    let last = chars.len() - (after * 8).div_ceil(6) - 1;
    let inner = &chars[first..last];
    inner.windows(6).any(|w| text.contains(&w.iter().collect::<String>()))
}

/// Feeds the text in pieces of the given lengths, over and over.
fn stream(redactor: &Redactor, text: &str, cuts: &[usize]) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut stream = redactor.stream();
    let (mut out, mut at, mut n) = (String::new(), 0, 0);
    while at < chars.len() {
        let to = (at + cuts[n % cuts.len()].max(1)).min(chars.len());
        out.push_str(&stream.push(&chars[at..to].iter().collect::<String>()));
        (at, n) = (to, n + 1);
    }
    out + &stream.finish()
}

fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        "[!-~]{8,40}",
        "[A-Za-z0-9]{16,120}",
        "[!-~][ -~]{10,30}[!-~]",
        "[a-z\u{e4}\u{f6}\u{6f22}]{8,20}"
    ]
}

fn prose() -> impl Strategy<Value = String> {
    "[ -~\n\t\u{e4}]{0,60}"
}

/// A whole token of some shape, and what of it must go.
fn token() -> impl Strategy<Value = (String, String)> {
    prop::sample::select(sample::SHAPES).prop_flat_map(|(_, pattern)| {
        let (before, secret, after) = sample::parts(pattern);
        (string_regex(&before).unwrap(), string_regex(&secret).unwrap(), string_regex(&after).unwrap())
            .prop_map(|(before, secret, after)| (format!("{before}{secret}{after}"), secret))
    })
}

/// One that knows a value which no text has by chance. Shared, since making one takes longer than a case.
fn known() -> &'static Redactor {
    static KNOWN: LazyLock<Redactor> = LazyLock::new(|| redactor(&["value-of-this-platform"]));
    &KNOWN
}

/// One that knows values which overlap.
fn overlapping() -> &'static Redactor {
    static KNOWN: LazyLock<Redactor> =
        LazyLock::new(|| redactor(&["value-one-1", "value-two-2", "1value-t"]));
    &KNOWN
}

fn redactor(values: &[&str]) -> Redactor {
    Redactor::new(&values.iter().map(|v| SecretString::from((*v).to_owned())).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_value_survives(
        value in secret(),
        form in form(),
        before in prose(),
        after in prose(),
        cuts in prop::collection::vec(1..40usize, 1..6),
    ) {
        prop_assume!(Redactor::refuses(&value).is_none());
        let redactor = redactor(&[&value, "another-value-of-this-platform"]);
        let written = write(&value, form);
        let text = format!("{before}\n\n\n\n\n{written}\n\n\n\n\n{after}");
        let whole = redactor.mask(&text).into_owned();
        prop_assert!(whole.contains(MASK), "{form:?}: {text:?}");
        prop_assert!(!holds(&whole, &written, form), "{form:?}: {whole:?}");
        prop_assert_eq!(&stream(&redactor, &text, &cuts), &whole);
        prop_assert_eq!(&*redactor.mask(&whole), &whole);
        let mut json = serde_json::json!({ "a": [text.clone()], written.clone(): 1 });
        let body = serde_json::to_vec(&json).unwrap();
        redactor.mask_json(&mut json);
        let bytes = redactor.mask_json_bytes(&body).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(), &json);
        prop_assert_eq!(json["a"][0].as_str().unwrap(), &whole);
    }

    /// D-068: kinds of keys were not known.
    #[test]
    fn no_shape_survives(
        (written, secret) in token(),
        before in prose(),
        after in prose(),
        cuts in prop::collection::vec(1..90usize, 1..6),
    ) {
        let redactor = Redactor::default();
        let text = format!("{before} {written} {after}");
        let whole = redactor.mask(&text).into_owned();
        prop_assert!(!whole.contains(&secret), "{text:?} -> {whole:?}");
        prop_assert!(!has_half(&whole, &secret), "{text:?} -> {whole:?}");
        prop_assert_eq!(&stream(&redactor, &text, &cuts), &whole);
        prop_assert_eq!(&*redactor.mask(&whole), &whole);
        prop_assert!(!redactor.scan(text.as_bytes()).is_empty());
    }

    /// D-067: the tail of large output was not scanned.
    #[test]
    fn many_secrets_in_one_text_are_masked_in_pieces_as_in_the_whole(
        parts in prop::collection::vec(prop_oneof![
            token().prop_map(|t| t.0), prose(), secret(), Just("value-one-1".to_owned()), Just("one-1value-two-2".to_owned()),
            Just("sk-".to_owned()), Just("eyJ".to_owned()), Just("://a:".to_owned()), Just("@h.x/".to_owned()),
            Just("-----BEGIN PRIVATE KEY-----".to_owned()), Just("Bearer ".to_owned()), Just("ghp_".to_owned()),
        ], 0..12),
        cuts in prop::collection::vec(1..60usize, 1..6),
    ) {
        let redactor = overlapping();
        let text = parts.concat();
        let whole = redactor.mask(&text).into_owned();
        prop_assert!(!whole.contains("value-one-1") && !whole.contains("value-two-2"));
        prop_assert_eq!(&stream(redactor, &text, &cuts), &whole);
        // Not that masking once more changes nothing: where tokens touch, masking one may show the end of the other.
    }

    #[test]
    fn what_is_no_secret_stays(text in "[ -~\n\t\u{e4}\u{6f22}]{0,400}", cuts in prop::collection::vec(1..40usize, 1..6)) {
        let redactor = known();
        // Random printable text is no token but by a chance that the shapes are too long for.
        prop_assert_eq!(&*redactor.mask(&text), &text);
        prop_assert_eq!(&stream(redactor, &text, &cuts), &text);
    }

    #[test]
    fn json_of_any_kind_stays(text in "[ -~\n]{0,80}", key in "[ -~]{0,12}", n in any::<i64>()) {
        let redactor = known();
        let body = serde_json::to_vec(&serde_json::json!({ key: [text, n, null, true, 1.5e-7] })).unwrap();
        prop_assert_eq!(redactor.mask_json_bytes(&body), None);
    }
}

/// Whether a long piece of the secret is left.
fn has_half(text: &str, secret: &str) -> bool {
    let chars: Vec<char> = secret.chars().collect();
    let size = (chars.len() / 2).max(8);
    chars.windows(size).any(|w| text.contains(&w.iter().collect::<String>()))
}
