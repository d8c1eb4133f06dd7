//! Whether the configured identity providers can be used.

use identity::Verifier;
use server::Config;

use super::check;
use crate::context::now;
use crate::render::doctor::{Check, Verdict};

/// One check a provider; none where there are none.
pub async fn providers(config: &Config) -> Vec<Check> {
    let verifier = match Verifier::new(&config.identity.oidc) {
        Ok(verifier) => verifier,
        Err(why) => return vec![check("identity", Verdict::Fail, why, None)],
    };
    let found = verifier.fetch(now()).await.into_iter();
    let told = found.map(|(name, keys)| match keys {
        Ok(keys) => {
            check("identity", Verdict::Ok, format!("{name}: the provider publishes {keys} keys"), None)
        }
        Err(failure) => check(
            "identity",
            Verdict::Fail,
            format!("{name}: {failure}"),
            Some(format!("Correct [identity.oidc.{name}]; until then nobody new can sign in.")),
        ),
    });
    told.collect()
}
