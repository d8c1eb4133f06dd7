//! Signed addresses of objects: whoever has one may read that object until it expires, and nothing else. So a browser, or
//! a program that knows no key, can fetch a large file.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use objects::Key;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// Signs and checks addresses.
#[derive(Debug, Clone)]
pub struct Links {
    key: SecretString,
}

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// This server did not sign it, or it was changed.
    NotOurs,
    /// Its time is over.
    Expired,
}

impl Links {
    /// Addresses under this key.
    pub fn new(key: SecretString) -> Links {
        Links { key }
    }

    /// The path and query of an object's address.
    pub fn sign(&self, object: &Key, expires: Timestamp) -> String {
        let expires = expires.as_second();
        format!(
            "/v1/objects?key={object}&expires={expires}&signature={}",
            self.tag("read object", object, expires)
        )
    }

    /// Whether an address leads to this object now.
    pub fn check(&self, object: &Key, expires: i64, signature: &str, now: Timestamp) -> Result<(), Refused> {
        judge(&self.tag("read object", object, expires), signature, expires, now)
    }

    /// The signature of the right to store that object, once or more often, until then.
    pub fn sign_upload(&self, object: &Key, expires: Timestamp) -> String {
        self.tag("store object", object, expires.as_second())
    }

    /// Whether that right holds now.
    pub fn check_upload(
        &self,
        object: &Key,
        expires: i64,
        signature: &str,
        now: Timestamp,
    ) -> Result<(), Refused> {
        judge(&self.tag("store object", object, expires), signature, expires, now)
    }

    fn tag(&self, right: &str, object: &Key, expires: i64) -> String {
        // HMAC takes a key of any length, so this cannot fail; what it would give then is no tag in hex.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key.expose_secret().as_bytes()) else {
            return "-".into();
        };
        mac.update(format!("{right}\n{object}\n{expires}").as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

fn judge(tag: &str, signature: &str, expires: i64, now: Timestamp) -> Result<(), Refused> {
    match (bool::from(tag.as_bytes().ct_eq(signature.as_bytes())), expires > now.as_second()) {
        (false, _) => Err(Refused::NotOurs),
        (true, false) => Err(Refused::Expired),
        (true, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_good_for_its_object_and_its_time_only() {
        let links = Links::new(SecretString::from("k".to_owned()));
        let at = |second| Timestamp::from_second(second).unwrap();
        let (one, two): (Key, Key) = ("traces/u/1".parse().unwrap(), "traces/u/2".parse().unwrap());
        let address = links.sign(&one, at(100));
        let (_, signature) = address.rsplit_once('=').unwrap();
        assert!(address.starts_with("/v1/objects?key=traces/u/1&expires=100&signature="), "{address}");
        assert_eq!(links.check(&one, 100, signature, at(99)), Ok(()));
        assert_eq!(links.check(&one, 100, signature, at(100)), Err(Refused::Expired));
        assert_eq!(links.check(&one, 101, signature, at(99)), Err(Refused::NotOurs));
        assert_eq!(links.check(&two, 100, signature, at(99)), Err(Refused::NotOurs));
        // Reading is not storing.
        assert_eq!(links.check_upload(&one, 100, signature, at(99)), Err(Refused::NotOurs));
        let storing = links.sign_upload(&one, at(100));
        assert_eq!(links.check_upload(&one, 100, &storing, at(99)), Ok(()));
        assert_eq!(links.check_upload(&one, 100, &storing, at(100)), Err(Refused::Expired));
        assert_eq!(links.check_upload(&two, 100, &storing, at(99)), Err(Refused::NotOurs));
        assert_eq!(links.check(&one, 100, &storing, at(99)), Err(Refused::NotOurs));
        let others = Links::new(SecretString::from("l".to_owned()));
        assert_eq!(others.check(&one, 100, signature, at(99)), Err(Refused::NotOurs));
        for bad in ["", "-", &signature[1..], &signature.to_uppercase()] {
            assert_eq!(links.check(&one, 100, bad, at(99)), Err(Refused::NotOurs), "{bad}");
        }
    }
}
