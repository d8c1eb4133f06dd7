//! Names of objects.

use std::fmt;
use std::str::FromStr;

/// Bytes of a key.
const MAX_BYTES: usize = 512;
/// Bytes of one of its parts: what file systems take.
const SEGMENT_MAX_BYTES: usize = 200;

/// The name of an object: parts of letters, digits, `.`, `_`, `=` and `-`, divided by `/`; no part begins with a dot. So
/// it is the same as a path below a folder and as a key of an object service, and can name nothing outside of either.
///
/// A key is never the beginning of another one up to a `/` (`a` beside `a/b`): a file is no folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no key of an object: parts of letters, digits and `._=-` that begin with no dot, divided by `/`, 512 bytes at most"
)]
pub struct BadKey(String);

impl Key {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last `/`.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for Key {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Key, BadKey> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._=-".contains(c);
        let good = |part: &str| {
            !part.is_empty()
                && part.len() <= SEGMENT_MAX_BYTES
                && !part.starts_with('.')
                && part.chars().all(plain)
        };
        match text.len() <= MAX_BYTES && text.split('/').all(good) {
            true => Ok(Key(text.to_owned())),
            false => Err(BadKey(text.chars().take(100).collect())),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Any text as one part of a key: what a part may not hold becomes `=XX`, so that two texts are never one part. A text
/// that is too long ends in a digest of it.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (n, byte) in text.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && n > 0);
        match plain {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("={byte:02X}")),
        }
    }
    if out.is_empty() {
        return "=".into();
    }
    if out.len() > SEGMENT_MAX_BYTES {
        // FNV-1a over the whole text, twice; `==` cannot come from a text.
        let sum =
            |seed: u64| text.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        out.truncate(SEGMENT_MAX_BYTES - 40);
        out.push_str(&format!("=={:016x}{:016x}", sum(0xcbf2_9ce4_8422_2325), sum(0x9e37_79b9_7f4a_7c15)));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_names_nothing_outside() {
        for good in ["a", "traces/u/01ARZ.jsonl.gz", "a_b-c=2E/d"] {
            assert_eq!(good.parse::<Key>().unwrap().as_str(), good);
        }
        let long = "x/".repeat(300) + "x";
        for bad in
            ["", "/a", "a/", "a//b", "..", "a/../b", ".hidden", "a/.b", "a b", "a\0", "ä", "a\\b", &long]
        {
            assert!(bad.parse::<Key>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_a_part_of_a_key(a in ".{0,300}", b in ".{0,300}") {
            prop_assert!(segment(&a).parse::<Key>().is_ok());
            prop_assert_eq!(segment(&a) == segment(&b), a == b);
        }
    }
}
