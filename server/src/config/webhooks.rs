//! `[webhooks]`: what holds for webhooks that are made here.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use store::Signature;

/// `[webhooks]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// How deliveries are signed where whoever makes the webhook does not say: `strict`, or `plain` for *ABCA*'s clients,
    /// which know no other signature and cannot ask for it.
    #[serde(deserialize_with = "signature")]
    pub signature: Signature,
}

fn signature<'de, D: Deserializer<'de>>(from: D) -> Result<Signature, D::Error> {
    let name = String::deserialize(from)?;
    Signature::from_wire(&name).ok_or_else(|| {
        D::Error::custom(format!("webhooks.signature must be \"strict\" or \"plain\", got {name:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_one_of_two_and_a_mistake_is_told() {
        let read = |text: &str| toml::from_str::<Webhooks>(text);
        assert_eq!(read("signature = \"strict\"").unwrap().signature, Signature::Strict);
        assert_eq!(read("signature = \"plain\"").unwrap().signature, Signature::Plain);
        let wrong = read("signature = \"Plain\"").unwrap_err().to_string();
        assert!(
            wrong.contains("webhooks.signature must be \"strict\" or \"plain\", got \"Plain\""),
            "{wrong}"
        );
        assert!(read("").is_err(), "the defaults have it");
    }
}
