//! Which words an agent works by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Hex digits of a version; *ABCA*'s number.
const DIGITS: usize = 12;

/// The version of what the platform says to the model: made of the words and the tools themselves, so that it changes with
/// them and with nothing else. Equal over tasks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PromptVersion(String);

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("prompt_version must be {DIGITS} digits of lower-case hex")]
pub struct BadPromptVersion;

impl PromptVersion {
    /// The first digits of a hash over the words.
    pub fn of_hash(hash: &[u8; 32]) -> PromptVersion {
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        PromptVersion(hex[..DIGITS].to_owned())
    }
}

impl FromStr for PromptVersion {
    type Err = BadPromptVersion;

    fn from_str(text: &str) -> Result<Self, BadPromptVersion> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.len() == DIGITS && text.bytes().all(digit) {
            true => Ok(PromptVersion(text.to_owned())),
            false => Err(BadPromptVersion),
        }
    }
}

impl TryFrom<String> for PromptVersion {
    type Error = BadPromptVersion;

    fn try_from(text: String) -> Result<Self, BadPromptVersion> {
        text.parse()
    }
}

impl From<PromptVersion> for String {
    fn from(version: PromptVersion) -> String {
        version.0
    }
}

impl fmt::Display for PromptVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_twelve_digits_of_hex() {
        let version = PromptVersion::of_hash(&[0xab; 32]);
        assert_eq!(version.to_string(), "abababababab");
        assert_eq!("abababababab".parse(), Ok(version));
        for bad in [
            "",
            "ababababab",
            "ABABABABABAB",
            "abababababab ",
            "ababababababab",
            "ghghghghghgh",
            "äbabababab",
        ] {
            assert_eq!(bad.parse::<PromptVersion>(), Err(BadPromptVersion), "{bad}");
        }
    }
}
