//! Page tokens: opaque, signed, bound to what they page through. A token that was tampered with, or is of another list
//! or another task, is an error that says so; it never silently starts again from the beginning.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::link::Links;

/// Signs and checks page tokens.
#[derive(Debug, Clone)]
pub struct Cursors {
    key: SecretString,
}

impl Cursors {
    /// Tokens under this key.
    pub fn new(key: SecretString) -> Cursors {
        Cursors { key }
    }

    /// Addresses of objects, signed with the same key; neither signature is ever the other.
    pub fn links(&self) -> Links {
        Links::new(self.key.clone())
    }

    /// A token for `place` in the list `of` (a task's events, a user's tasks under a filter).
    pub fn sign(&self, of: &str, place: &str) -> String {
        format!("{place}.{}", self.tag(of, place))
    }

    /// The place of a token, if it is ours and of this list.
    pub fn open<'a>(&self, of: &str, token: &'a str) -> Option<&'a str> {
        let (place, tag) = token.rsplit_once('.')?;
        bool::from(self.tag(of, place).as_bytes().ct_eq(tag.as_bytes())).then_some(place)
    }

    fn tag(&self, of: &str, place: &str) -> String {
        // HMAC takes a key of any length, so this cannot fail; an empty tag would match only an empty one.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key.expose_secret().as_bytes()) else {
            return "-".into();
        };
        mac.update(format!("cursor\n{}\n{of}\n{place}", of.len()).as_bytes());
        hex::encode(&mac.finalize().into_bytes()[..16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_own_list_only() {
        let cursors = Cursors::new(SecretString::from("k".to_owned()));
        let token = cursors.sign("events:A", "17");
        assert_eq!(cursors.open("events:A", &token), Some("17"));
        assert_eq!(cursors.open("events:B", &token), None);
        assert_eq!(cursors.open("events:A", &token.replacen("17", "18", 1)), None);
        assert_eq!(cursors.open("events:A", "17"), None);
        assert_eq!(cursors.open("events:A", ""), None);
    }
}
