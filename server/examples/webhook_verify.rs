//! `webhook_verify MILLISECONDS`: what the signature of one delivery costs, for `cargo xtask bench api`.
//!
//! For each kind of signature and size of body it verifies as long as told, as the server does for each delivery: the
//! secret is derived from the server's key, then the signature is compared. Nothing is read from or written to a store.
//! Each line that it prints: the kind, the bytes of the body, nanoseconds of one verification (the median of batches).

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use domain::WebhookId;
use secrecy::SecretString;
use server::webhook::{Presented, WebhookKey, check};
use store::Signature;

/// Bytes of a short task, and of one with the longest description.
const BODIES: [usize; 2] = [128, 10_240];
/// Verifications between two looks at the clock: so few that most batches are not interrupted.
const BATCH: u32 = 10;
const NOW: i64 = 1_767_225_600;

fn main() -> anyhow::Result<()> {
    let within = std::env::args().nth(1).context("webhook_verify MILLISECONDS")?;
    let within = Duration::from_millis(within.parse().context("MILLISECONDS must be a whole number")?);
    let key = WebhookKey::new(SecretString::from("a key of a bench, which signs nothing else"));
    let webhook: WebhookId = "01KB5X2C4E6G8J0K2M4N6P8Q0R".parse()?;
    for signature in [Signature::Strict, Signature::Plain] {
        for bytes in BODIES {
            let body = vec![b'x'; bytes];
            let headers = key.secret(webhook, 1, signature).sign("msg_0123456789abcdef", NOW, &body);
            let value = |name| headers.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_str());
            let presented = Presented {
                delivery: value("webhook-id"),
                time: value("webhook-timestamp"),
                strict: value("webhook-signature"),
                plain: value("x-webhook-signature"),
            };
            let verify = || {
                let secrets = [key.secret(webhook, 1, signature)];
                check(black_box(&presented), black_box(&body), &secrets, NOW)
            };
            verify().context("verifying what was signed just now")?;
            println!("{} {bytes} {:.0}", signature.as_str(), median(within, || drop(black_box(verify()))));
        }
    }
    Ok(())
}

/// Nanoseconds of one call: the median of batches, so that what else the machine does at times is left out.
fn median(within: Duration, call: impl Fn()) -> f64 {
    let until = Instant::now() + within;
    let mut batches = Vec::new();
    while batches.is_empty() || Instant::now() < until {
        let begun = Instant::now();
        (0..BATCH).for_each(|_| call());
        batches.push(begun.elapsed());
    }
    batches.sort_unstable();
    batches[batches.len() / 2].as_secs_f64() * 1e9 / f64::from(BATCH)
}
