//! Signs tokens as a provider does, for tests.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A kind of key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    Rsa,
    P256,
    Ed25519,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A key that signs.
pub(crate) struct Mint {
    pub(crate) id: String,
    pair: Pair,
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Mint {
    pub(crate) fn new(id: &str, of: Of) -> Mint {
        let pair = match of {
            Of::Rsa => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            Of::P256 => Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            Of::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().unwrap()),
        };
        Mint { id: id.to_owned(), pair }
    }

    /// Its public part, as a provider publishes it.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => json!({
                "kty": "RSA", "alg": "RS256",
                "n": encoded(pair.public_key().modulus().big_endian_without_leading_zero()),
                "e": encoded(pair.public_key().exponent().big_endian_without_leading_zero()),
            }),
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "x": encoded(&point[1..33]), "y": encoded(&point[33..]) })
            }
            Pair::Ed25519(pair) => {
                let x = encoded(pair.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x })
            }
        };
        jwk["kid"] = self.id.clone().into();
        jwk["use"] = "sig".into();
        jwk
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({ "alg": self.algorithm(), "kid": self.id, "typ": "JWT" }), claims)
    }

    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let message = signed.as_bytes();
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::P256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        };
        format!("{signed}.{}", encoded(signature))
    }
}
