//! Signatures of webhook deliveries: made, checked, and the secrets they are made with. Pure.
//!
//! `strict` is Standard Webhooks: HMAC-SHA256 over `delivery.time.body`, so that neither can be changed, good for
//! [`limit::WEBHOOK_WINDOW`] around its time. `plain` is ABCA's: over the body alone, good for ever.
//!
//! A secret is derived from the server's webhook key, the webhook and the number of its secret: the database holds none,
//! and whoever reads it cannot sign.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{WebhookId, limit};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use store::Signature;
use subtle::ConstantTimeEq as _;

/// What strict secrets are written with, so that any library for Standard Webhooks takes them.
const STRICT_PREFIX: &str = "whsec_";
/// Signatures of one delivery that are looked at.
const SIGNATURES_MAX: usize = 8;

/// The server's key, from which the secrets of all webhooks are derived.
#[derive(Debug, Clone)]
pub struct WebhookKey(SecretString);

impl WebhookKey {
    /// From the server's key file. It is never blank.
    pub fn new(key: SecretString) -> WebhookKey {
        WebhookKey(key)
    }

    /// The secret of that number, as its holder writes it.
    pub fn secret(&self, webhook: WebhookId, generation: u32, signature: Signature) -> Secret {
        let text = format!("webhook secret\n{webhook}\n{generation}");
        let raw = mac(self.0.expose_secret().as_bytes(), &[text.as_bytes()]);
        Secret::from_raw(raw, signature)
    }
}

/// What deliveries are signed with.
#[derive(Debug, Clone)]
pub struct Secret {
    written: SecretString,
    signature: Signature,
}

impl Secret {
    fn from_raw(raw: [u8; 32], signature: Signature) -> Secret {
        let written = match signature {
            Signature::Strict => format!("{STRICT_PREFIX}{}", STANDARD.encode(raw)),
            Signature::Plain => hex::encode(raw),
        };
        Secret { written: SecretString::from(written), signature }
    }

    /// A secret as somebody wrote it; the form says how it signs. `None` when it is none of ours.
    pub fn read(written: &str) -> Option<Secret> {
        let written = written.trim();
        let signature = match written.strip_prefix(STRICT_PREFIX) {
            Some(rest) => {
                STANDARD.decode(rest).ok().filter(|raw| raw.len() == 32).map(|_| Signature::Strict)?
            }
            None => hex::decode(written).ok().filter(|raw| raw.len() == 32).map(|_| Signature::Plain)?,
        };
        Some(Secret { written: SecretString::from(written.to_owned()), signature })
    }

    /// The text that its holder keeps.
    pub fn written(&self) -> &SecretString {
        &self.written
    }

    /// How it signs.
    pub fn signature(&self) -> Signature {
        self.signature
    }

    /// The key of the HMAC.
    fn key(&self) -> Vec<u8> {
        let written = self.written.expose_secret();
        match self.signature {
            Signature::Strict => {
                STANDARD.decode(written.trim_start_matches(STRICT_PREFIX)).unwrap_or_default()
            }
            // ABCA's clients sign with the text.
            Signature::Plain => written.as_bytes().to_vec(),
        }
    }

    /// The headers of a delivery: name and value.
    pub fn sign(&self, delivery: &str, at: i64, body: &[u8]) -> Vec<(&'static str, String)> {
        match self.signature {
            Signature::Strict => {
                let time = at.to_string();
                let mac = mac(&self.key(), &[delivery.as_bytes(), b".", time.as_bytes(), b".", body]);
                vec![
                    ("webhook-id", delivery.to_owned()),
                    ("webhook-timestamp", time),
                    ("webhook-signature", format!("v1,{}", STANDARD.encode(mac))),
                ]
            }
            Signature::Plain => {
                let mac = mac(&self.key(), &[body]);
                vec![("x-webhook-signature", format!("sha256={}", hex::encode(mac)))]
            }
        }
    }
}

/// What a delivery brings to show whose it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Presented<'a> {
    /// `webhook-id`: of the delivery.
    pub delivery: Option<&'a str>,
    /// `webhook-timestamp`
    pub time: Option<&'a str>,
    /// `webhook-signature`
    pub strict: Option<&'a str>,
    /// `X-Webhook-Signature`
    pub plain: Option<&'a str>,
}

/// A delivery that is signed as its webhook wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// Good once.
    Strict {
        /// What the sender calls it.
        delivery: String,
        /// Second since 1970.
        at: i64,
    },
    /// Good for ever.
    Plain,
}

/// Why a delivery is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// It brings nothing to check.
    #[error(
        "a delivery is signed: with the headers webhook-id, webhook-timestamp and webhook-signature (strict), or X-Webhook-Signature (plain)"
    )]
    Missing,
    /// A header does not have its form.
    #[error("{0}")]
    Malformed(&'static str),
    /// The signature is of another secret, another body, or of the other kind.
    #[error(
        "no active webhook of that id has signed this: check webhook_id, the secret, that it is signed as the webhook wants (strict or plain), and that the body is sent as it was signed"
    )]
    Mismatch,
    /// It was signed too long ago.
    #[error("the delivery was signed {0} s ago, at most {max} are allowed: sign it anew for each try", max = limit::WEBHOOK_WINDOW.as_secs())]
    Stale(i64),
    /// It is signed for a time to come.
    #[error("the delivery is signed for {0} s from now, at most {max} are allowed: set the sender's clock", max = limit::WEBHOOK_WINDOW.as_secs())]
    Future(i64),
}

/// Checks a delivery against the secrets that are good now. A reason but [`Unsigned::Mismatch`] for what is not yet known
/// to be signed says nothing that the sender did not say.
pub fn check(
    presented: &Presented<'_>,
    body: &[u8],
    secrets: &[Secret],
    now: i64,
) -> Result<Signed, Unsigned> {
    let Some(kind) = secrets.first().map(Secret::signature) else { return Err(Unsigned::Mismatch) };
    match kind {
        Signature::Strict => strict(presented, body, secrets, now),
        Signature::Plain => plain(presented, body, secrets),
    }
}

fn strict(presented: &Presented<'_>, body: &[u8], secrets: &[Secret], now: i64) -> Result<Signed, Unsigned> {
    let Presented { delivery: Some(delivery), time: Some(time), strict: Some(given), .. } = *presented else {
        return Err(if presented.plain.is_some() { Unsigned::Mismatch } else { Unsigned::Missing });
    };
    // A point would let a delivery's end pass for its time.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if delivery.is_empty() || delivery.len() > limit::DELIVERY_ID_MAX_CHARS || !delivery.bytes().all(plain) {
        return Err(Unsigned::Malformed(
            "webhook-id must be 1 to 64 letters, digits, dashes and underscores",
        ));
    }
    let digits = !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit());
    let at: i64 = time
        .parse()
        .ok()
        .filter(|_| digits)
        .ok_or(Unsigned::Malformed("webhook-timestamp must be seconds since 1970, in digits"))?;
    let given = given
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1,"))
        .take(SIGNATURES_MAX)
        .filter_map(|one| STANDARD.decode(one).ok())
        .collect::<Vec<_>>();
    let parts: [&[u8]; 5] = [delivery.as_bytes(), b".", time.as_bytes(), b".", body];
    // Every pair is compared, whichever matches.
    let same = secrets.iter().fold(false, |found, secret| {
        let want = mac(&secret.key(), &parts);
        given.iter().fold(found, |found, given| found | bool::from(given.as_slice().ct_eq(&want)))
    });
    if !same {
        return Err(Unsigned::Mismatch);
    }
    let window = i64::try_from(limit::WEBHOOK_WINDOW.as_secs()).unwrap_or(i64::MAX);
    match now.saturating_sub(at) {
        age if age > window => Err(Unsigned::Stale(age)),
        age if age < -window => Err(Unsigned::Future(-age)),
        _ => Ok(Signed::Strict { delivery: delivery.to_owned(), at }),
    }
}

fn plain(presented: &Presented<'_>, body: &[u8], secrets: &[Secret]) -> Result<Signed, Unsigned> {
    let Some(given) = presented.plain else {
        return Err(if presented.strict.is_some() { Unsigned::Mismatch } else { Unsigned::Missing });
    };
    let given = hex::decode(given.strip_prefix("sha256=").unwrap_or(given)).unwrap_or_default();
    let same = secrets.iter().fold(false, |found, secret| {
        found | bool::from(given.as_slice().ct_eq(&mac(&secret.key(), &[body])))
    });
    if same { Ok(Signed::Plain) } else { Err(Unsigned::Mismatch) }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length, so this cannot fail; what it would give instead is equal to nothing.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
