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
use self::net::{Net, Shapes};
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
        static SHAPES: LazyLock<Arc<Net>> = LazyLock::new(|| Arc::new(Net::new(&[], Shapes::Known)));
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
        let values = kept(values);
        if values.is_empty() {
            return Redactor::default();
        }
        Redactor { net: Arc::new(Net::new(&values, Shapes::Known)) }
    }

    /// Masks these values and no shapes: for what must otherwise stay as it is to the last byte.
    pub fn of_values(values: &[SecretString]) -> Redactor {
        Redactor { net: Arc::new(Net::new(&kept(values), Shapes::None)) }
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

    /// The same for a text that may have been cut (its pieces end with `...`): the beginning of a value that the cut left
    /// is masked too.
    pub fn mask_preview<'a>(&self, text: &'a str) -> Cow<'a, str> {
        mask::preview(&self.net, text)
    }

    /// Takes secrets out of every string and every key of a JSON value.
    pub fn mask_json(&self, value: &mut serde_json::Value) {
        json::value(&self.net, value, mask::text);
    }

    /// The same for a value whose texts may have been cut, as [`Redactor::mask_preview`] does.
    pub fn mask_json_preview(&self, value: &mut serde_json::Value) {
        json::value(&self.net, value, mask::preview);
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

/// What of these values is looked for: each, and each long line of one that has several.
fn kept(values: &[SecretString]) -> Vec<&str> {
    /// Shorter lines of a key file may be ordinary text.
    const LINE_MIN: usize = 24;
    let mut kept = Vec::new();
    for value in values.iter().map(|v| v.expose_secret().trim()).filter(|v| Redactor::refuses(v).is_none()) {
        kept.push(value);
        if value.contains('\n') {
            let lines = value.lines().map(str::trim);
            kept.extend(lines.filter(|l| l.len() >= LINE_MIN && !l.starts_with("-----")));
        }
    }
    kept.sort_unstable();
    kept.dedup();
    kept
}
