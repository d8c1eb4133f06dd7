//! Takes secrets out of text before it is stored, logged, sent to a forge or shown to a model.
//!
//! Two nets: the exact values that this platform was configured with (also in base64, URL, JSON and hex form, and broken
//! over lines), and the shapes of well-known tokens. Both are thrown by one pass that may be interrupted anywhere
//! ([`Stream`]): a text that comes in pieces is masked as the whole is.
//!
//! What this cannot do: a program that wants to hide a secret (spelt backwards, encrypted) can. Masking is for what is
//! shown by accident; that a box has no secrets in the first place is for those who build it.

mod find;
mod form;
mod json;
mod mask;
mod net;
mod shape;
mod stream;
mod walk;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use secrecy::{ExposeSecret, SecretString};

pub use self::find::Finding;
use self::net::Net;
pub use self::stream::Stream;

/// What stands where a secret stood.
pub const MASK: &str = "[redacted]";

/// Values shorter than this are no secrets worth the name, and masking them would eat ordinary words.
pub const VALUE_MIN_BYTES: usize = 8;

/// Knows what to mask. Cheap to clone.
#[derive(Clone)]
pub struct Redactor {
    net: Arc<Net>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl Default for Redactor {
    /// Masks shapes alone.
    fn default() -> Redactor {
        static SHAPES: LazyLock<Arc<Net>> = LazyLock::new(|| Arc::new(Net::new(&[])));
        Redactor { net: Arc::clone(&SHAPES) }
    }
}

/// Why a value is not masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Masking it would eat ordinary words.
    #[error(
        "shorter than {VALUE_MIN_BYTES} characters, so it is not masked in what is shown: use a longer one"
    )]
    Short,
    /// It would be found in its own mask.
    #[error("looks like the mark that stands for a secret, so it is not masked: use another one")]
    Mask,
}

impl Redactor {
    /// Masks these values, in every form, and every known shape of a token. Values that [`Redactor::refuses`] are left
    /// out: ask it first and tell the person.
    pub fn new(values: &[SecretString]) -> Redactor {
        let mut kept: Vec<&str> = values
            .iter()
            .map(|v| v.expose_secret().trim())
            .filter(|v| Redactor::refuses(v).is_none())
            .collect();
        kept.sort_unstable();
        kept.dedup();
        if kept.is_empty() {
            return Redactor::default();
        }
        Redactor { net: Arc::new(Net::new(&kept)) }
    }

    /// Why this value cannot be masked; `None` when it can.
    pub fn refuses(value: &str) -> Option<Refusal> {
        let value = value.trim();
        if value.len() < VALUE_MIN_BYTES {
            Some(Refusal::Short)
        } else if MASK.contains(value) || value.contains(MASK) {
            Some(Refusal::Mask)
        } else {
            None
        }
    }

    /// The text without secrets; the very text when there are none.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        mask::text(&self.net, text)
    }

    /// Takes secrets out of every string and every key of a JSON value.
    pub fn mask_json(&self, value: &mut serde_json::Value) {
        json::value(&self.net, value);
    }

    /// The same for a JSON text of any size, without reading it into a value: `None` when there is nothing to mask.
    /// Numbers, order and spaces stay as they are. What is not JSON is masked as a plain text.
    pub fn mask_json_bytes(&self, body: &[u8]) -> Option<Vec<u8>> {
        json::bytes(&self.net, body)
    }

    /// Masks a text that comes in pieces.
    pub fn stream(&self) -> Stream {
        Stream::new(Arc::clone(&self.net))
    }

    /// What is in these bytes (a file, say) that should not be, with the lines, from the first to the last.
    pub fn scan(&self, bytes: &[u8]) -> Vec<Finding> {
        find::scan(&self.net, bytes)
    }
}
