//! A token in its parts (RFC 7519 in the compact form of RFC 7515), before anything of it is believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::event::preview;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::claim::Refusal;

/// A longer token is not looked at. Tokens with hundreds of groups stay below.
pub const TOKEN_MAX_BYTES: usize = 16 * 1024;
/// A key's name is not longer.
const KEY_ID_MAX_BYTES: usize = 256;

/// The signatures we accept: those of public keys. There is no way to name another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with PKCS#1 v1.5 and SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// By its name in a header. Both names of Ed25519 are known: RFC 8037 has one, RFC 9864 the other.
    pub fn of(name: &str) -> Option<Algorithm> {
        match name {
            "RS256" => Some(Algorithm::Rs256),
            "ES256" => Some(Algorithm::Es256),
            "EdDSA" | "Ed25519" => Some(Algorithm::EdDsa),
            _ => None,
        }
    }
}

/// A token's parts. Nothing of it has been checked but its form.
#[derive(Debug, Clone, PartialEq)]
pub struct Unverified<'a> {
    /// How it says it is signed.
    pub algorithm: Algorithm,
    /// The name of the key, if it tells one.
    pub key_id: Option<String>,
    /// What it says.
    pub claims: Map<String, Value>,
    /// What was signed: header and claims as they stand.
    pub signed: &'a str,
    /// The signature, still encoded.
    pub signature: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

/// Whether a credential has the form of a token at all: three parts, the first of which opens an object.
pub fn looks_like_one(text: &str) -> bool {
    text.starts_with("ey") && text.split('.').count() == 3
}

/// Takes a token apart.
pub fn parse(text: &str) -> Result<Unverified<'_>, Refusal> {
    if text.len() > TOKEN_MAX_BYTES {
        return Err(Refusal::TooLong { bytes: text.len() });
    }
    let mut parts = text.rsplitn(2, '.');
    let (Some(signature), Some(signed)) = (parts.next(), parts.next()) else {
        return Err(Refusal::Malformed("it does not have three parts"));
    };
    let Some((header, claims)) = signed.split_once('.').filter(|(_, claims)| !claims.contains('.')) else {
        return Err(Refusal::Malformed("it does not have three parts"));
    };
    let header: Header =
        json(header).ok_or(Refusal::Malformed("its header is no JSON object with an alg"))?;
    let algorithm =
        Algorithm::of(&header.alg).ok_or_else(|| Refusal::Algorithm { name: preview(&header.alg, 20) })?;
    if header.crit.is_some() {
        return Err(Refusal::Malformed("its header asks for an extension (crit) that is not known here"));
    }
    // Other kinds of signed documents of the same provider (RFC 8725, 3.11): logout tokens, proofs, events.
    let typ = header.typ.as_deref().map(|typ| typ.trim_start_matches("application/").to_lowercase());
    if !matches!(typ.as_deref(), None | Some("jwt" | "at+jwt")) {
        return Err(Refusal::Malformed("it is a signed document of another kind than an ID or access token"));
    }
    if header.kid.as_ref().is_some_and(|kid| kid.len() > KEY_ID_MAX_BYTES) {
        return Err(Refusal::Malformed("the name of its key is too long"));
    }
    if signature.is_empty() {
        return Err(Refusal::Malformed("it has no signature"));
    }
    let claims = json(claims).ok_or(Refusal::Malformed("its claims are no JSON object"))?;
    Ok(Unverified { algorithm, key_id: header.kid, claims, signed, signature })
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, claims: &str, signature: &str) -> String {
        format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn its_parts_come_out_as_they_stand() {
        let text = token(r#"{"alg":"RS256","kid":"k1","typ":"JWT","x":1}"#, r#"{"sub":"ann"}"#, "c2ln");
        let parts = parse(&text).unwrap();
        assert_eq!((parts.algorithm, parts.key_id.as_deref()), (Algorithm::Rs256, Some("k1")));
        assert_eq!(parts.claims["sub"], "ann");
        assert_eq!(format!("{}.{}", parts.signed, parts.signature), text);
    }

    #[test]
    fn what_is_none_is_told_why() {
        let long = format!("{}.x", "a".repeat(TOKEN_MAX_BYTES));
        let kid = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(KEY_ID_MAX_BYTES + 1));
        for (text, word) in [
            (long.as_str(), "16384"),
            ("abc", "three parts"),
            ("a.b", "three parts"),
            ("a.b.c.d", "three parts"),
            ("!.e30.c2ln", "header"),
            (&token("[]", "{}", "c2ln"), "header"),
            (&token(r#"{"alg":1}"#, "{}", "c2ln"), "header"),
            (&token(r#"{"alg":"RS256","kid":7}"#, "{}", "c2ln"), "header"),
            (&token(r#"{"alg":"none"}"#, "{}", ""), "none"),
            (&token(r#"{"alg":"NONE"}"#, "{}", ""), "NONE"),
            (&token(r#"{"alg":"nonE"}"#, "{}", "c2ln"), "nonE"),
            (&token(r#"{"alg":"HS256"}"#, "{}", "c2ln"), "HS256"),
            (&token(r#"{"alg":"rs256"}"#, "{}", "c2ln"), "rs256"),
            (&token(r#"{"alg":"RS512"}"#, "{}", "c2ln"), "RS512"),
            (&token(r#"{"alg":"RS256","crit":["b64"]}"#, "{}", "c2ln"), "crit"),
            (&token(r#"{"alg":"RS256","typ":"logout+jwt"}"#, "{}", "c2ln"), "another kind"),
            (&token(r#"{"alg":"RS256","typ":"dpop+jwt"}"#, "{}", "c2ln"), "another kind"),
            (&token(&kid, "{}", "c2ln"), "too long"),
            (&token(r#"{"alg":"RS256"}"#, "{}", ""), "no signature"),
            (&token(r#"{"alg":"RS256"}"#, "[1]", "c2ln"), "claims"),
            (&token(r#"{"alg":"RS256"}"#, "{\"a\":", "c2ln"), "claims"),
        ] {
            let told = parse(text).unwrap_err().to_string();
            assert!(told.contains(word), "{word}: {told}");
            assert!(!told.contains("c2ln"), "{told}");
        }
        for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
            parse(&token(&format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#), "{}", "c2ln")).unwrap();
        }
    }

    #[test]
    fn keys_of_ours_do_not_look_like_tokens() {
        for text in ["bgak_0123", "", "ey", "ey.ey", "sk-1.2.3", "a.b.c.d"] {
            assert!(!looks_like_one(text), "{text}");
        }
        assert!(looks_like_one("eyJhbGciOiJub25lIn0.e30."));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ey.A-Za-z0-9_=-]{0,80}", other in "\\PC{0,40}") {
            let _ = parse(&text);
            let _ = parse(&other);
            let _ = parse(&format!("{text}.{other}.{text}"));
        }
    }
}
