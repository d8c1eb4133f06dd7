//! A provider's published keys (RFC 7517), and whether one of them signed a token.
//!
//! A document with keys that are of no use here (encryption, other curves, secrets that nobody should publish, junk) is
//! read for those that are. What a key is decides which signatures it can check: a token cannot choose.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, crypto};
use serde_json::Value;

use crate::token::{Algorithm, Unverified};

/// More keys of a provider are not looked at.
const KEYS_MAX: usize = 100;
/// So many keys are tried on a token that does not say which.
const TRIED_MAX: usize = 8;
/// Bytes of an RSA modulus.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// Bytes of a coordinate on P-256, and of an Ed25519 key.
const POINT_BYTES: usize = 32;

/// One key that checks signatures.
#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The keys of a provider.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| (&key.id, key.algorithm))).finish()
    }
}

/// What the keys say of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// One of them signed it.
    Yes,
    /// The key it names did not.
    Wrong,
    /// The key it names is not among them.
    UnknownKey,
}

impl KeySet {
    /// Reads a JWK Set; `Err` when there is not one key in it that is of use.
    pub fn parse(body: &[u8]) -> Result<KeySet, String> {
        let document: Value = serde_json::from_slice(body).map_err(|e| format!("no JSON: {e}"))?;
        let Some(all) = document.get("keys").and_then(Value::as_array) else {
            return Err("no JWK Set: it has no list of keys".into());
        };
        let keys: Vec<_> = all.iter().take(KEYS_MAX).filter_map(key).collect();
        if keys.is_empty() {
            return Err(format!(
                "{} keys, of which none checks RS256 (2048 bits or more), ES256 or EdDSA",
                all.len()
            ));
        }
        Ok(KeySet { keys })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether one of these signed the token.
    pub fn check(&self, token: &Unverified<'_>) -> Signed {
        let named = |key: &&Key| match (&token.key_id, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            (None, _) | (_, None) => true,
        };
        let of_its_kind = |key: &&Key| key.algorithm == token.algorithm;
        let mut candidates = self.keys.iter().filter(named).filter(of_its_kind).take(TRIED_MAX).peekable();
        if candidates.peek().is_none() {
            return Signed::UnknownKey;
        }
        if candidates.any(|key| key.signed(token)) { Signed::Yes } else { Signed::Wrong }
    }
}

impl Key {
    fn signed(&self, token: &Unverified<'_>) -> bool {
        let algorithm = match self.algorithm {
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        };
        crypto::verify(token.signature, token.signed.as_bytes(), &self.key, algorithm).unwrap_or(false)
    }
}

/// The key, if it can check a signature that we accept.
fn key(jwk: &Value) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    if !matches!(jwk.get("use"), None | Some(Value::Null)) && text("use") != Some("sig") {
        return None;
    }
    match jwk.get("key_ops") {
        None | Some(Value::Null) => (),
        Some(Value::Array(operations)) if operations.iter().any(|op| op == "verify") => (),
        Some(_) => return None,
    }
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let (algorithm, key) = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            let (modulus, exponent) = (trimmed(bytes("n")?), trimmed(bytes("e")?));
            let odd = exponent.last().is_some_and(|last| last & 1 == 1);
            let usable = RSA_BYTES.contains(&modulus.len()) && (1..=4).contains(&exponent.len());
            if !usable || !odd || exponent == [1] {
                return None;
            }
            (Algorithm::Rs256, DecodingKey::from_rsa_raw_components(&modulus, &exponent))
        }
        ("EC", Some("P-256")) => {
            if bytes("x")?.len() != POINT_BYTES || bytes("y")?.len() != POINT_BYTES {
                return None;
            }
            (Algorithm::Es256, DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?)
        }
        ("OKP", Some("Ed25519")) => {
            if bytes("x")?.len() != POINT_BYTES {
                return None;
            }
            (Algorithm::EdDsa, DecodingKey::from_ed_components(text("x")?).ok()?)
        }
        _ => return None,
    };
    match jwk.get("alg") {
        None | Some(Value::Null) => (),
        Some(named) if named.as_str().and_then(Algorithm::of) == Some(algorithm) => (),
        Some(_) => return None,
    }
    Some(Key { id: text("kid").map(str::to_owned), algorithm, key })
}

fn trimmed(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::mint::{Mint, Of};
    use crate::token;

    fn set(keys: Value) -> Result<KeySet, String> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn each_kind_of_key_checks_its_own_signatures_and_no_others() {
        let mints = [Mint::new("r", Of::Rsa), Mint::new("e", Of::P256), Mint::new("d", Of::Ed25519)];
        let all = set(mints.iter().map(Mint::jwk).collect()).unwrap();
        assert_eq!(all.len(), 3);
        for mint in &mints {
            let text = mint.token(&json!({ "sub": "ann" }));
            assert_eq!(all.check(&token::parse(&text).unwrap()), Signed::Yes);
            let others = set(mints.iter().filter(|m| m.id != mint.id).map(Mint::jwk).collect()).unwrap();
            assert_eq!(others.check(&token::parse(&text).unwrap()), Signed::UnknownKey);
            let (signed, signature) = text.rsplit_once('.').unwrap();
            let other = mint.token(&json!({ "sub": "bob" }));
            let forged = format!("{}.{signature}", other.rsplit_once('.').unwrap().0);
            assert_eq!(all.check(&token::parse(&forged).unwrap()), Signed::Wrong);
            let cut = format!("{signed}.{}", &signature[..signature.len() - 2]);
            assert_eq!(all.check(&token::parse(&cut).unwrap()), Signed::Wrong);
        }
    }

    #[test]
    fn a_token_that_names_no_key_is_tried_on_those_of_its_kind() {
        let (one, two) = (Mint::new("1", Of::P256), Mint::new("2", Of::P256));
        let both = set(json!([one.jwk(), two.jwk()])).unwrap();
        let text = two.token_with(&json!({ "alg": "ES256" }), &json!({}));
        assert_eq!(both.check(&token::parse(&text).unwrap()), Signed::Yes);
        let named_other = two.token_with(&json!({ "alg": "ES256", "kid": "1" }), &json!({}));
        assert_eq!(both.check(&token::parse(&named_other).unwrap()), Signed::Wrong);
    }

    #[test]
    fn junk_among_the_keys_is_left_out() {
        let good = Mint::new("good", Of::P256);
        let with = |name: &str, value: Value| {
            let mut jwk = Mint::new("other", Of::P256).jwk();
            jwk[name] = value;
            jwk
        };
        let junk = json!([
            7, null, "key", [], {}, { "kty": "RSA" }, { "kty": 7 },
            { "kty": "oct", "k": "c2VjcmV0", "kid": "good" },
            { "kty": "RSA", "n": "AQAB", "e": "AQAB" },
            { "kty": "RSA", "n": "!!!", "e": "AQAB" },
            { "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" },
            { "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" },
            { "kty": "OKP", "crv": "X25519", "x": "AA" },
            { "kty": "OKP", "crv": "Ed25519", "x": "AA" },
            with("use", json!("enc")), with("use", json!(7)), with("key_ops", json!(["sign"])),
            with("alg", json!("RS256")), with("alg", json!("none")), with("alg", json!(1)),
        ]);
        let mut all = junk.as_array().unwrap().clone();
        all.push(good.jwk());
        let keys = set(all.into()).unwrap();
        assert_eq!(keys.len(), 1, "{keys:?}");
        assert_eq!(keys.check(&token::parse(&good.token(&json!({}))).unwrap()), Signed::Yes);
        let told = set(junk).unwrap_err();
        assert!(told.contains("20 keys"), "{told}");
        for body in ["", "[]", "{\"keys\":7}", "<html>"] {
            assert!(KeySet::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_document_makes_it_panic(name in "(kty|crv|n|e|x|y|use|alg|kid|key_ops)", value in "\\PC{0,20}", body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = KeySet::parse(&body);
            let mut jwk = Mint::new("k", Of::Ed25519).jwk();
            jwk[name] = value.into();
            let _ = set(json!([jwk]));
        }
    }
}
