//! What a signed delivery costs beside the same submission with a key, and what the check of the signature is of that.
//!
//! The kinds take turns in short rounds, so that what else the machine does, and a store that grows, falls on all of them
//! alike. A dry run checks a delivery, signature and task, and makes nothing. Senders sign in the same process that
//! measures, as docs/guide/webhooks.md says.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    crowded_with, figure,
    hammer::{CLIENTS, Hammered, hammer},
    running,
};
use crate::bench::{
    Bed, Figure,
    model::{self, Model},
    server::{Person, Server},
    submit::since_epoch,
};

const ROUNDS: u32 = 5;

/// How a sender shows who it is.
enum Sender {
    Owner,
    Key(String),
    Webhook { path: String, secret: String, signature: Signature },
}

#[derive(Clone, Copy)]
enum Signature {
    Plain,
    Strict,
}

/// The rates of deliveries beside those of keys, then one verification alone.
pub fn figures(bed: &Bed, each: Duration) -> Result<Vec<Figure>> {
    let mut figures = rates(bed, each)?;
    figures.extend(verifications(bed, each / 10)?);
    Ok(figures)
}

fn rates(bed: &Bed, each: Duration) -> Result<Vec<Figure>> {
    let model = Model::start(|_| vec![model::text("Nothing to do.")])?;
    model.hold();
    let unlimited = |class: &str| (format!("BGAGENT__RATE__{class}__PER_MINUTE"), "0".to_owned());
    let server = crowded_with(bed, &model, [unlimited("WRITE"), unlimited("WEBHOOK")])?;
    let repository = server.repository()?;
    let mut owner = server.person()?;
    owner.submit(&repository, "Holds the slot.")?;
    running(&model)?;

    let key = json!({ "name": "bench", "scopes": ["tasks:create"] });
    let key = owner.ask("POST", "/v1/api-keys", &key)?;
    let key = key["data"]["key"].as_str().context("an API key without its secret")?.to_owned();
    let plain = || Sender::webhook(&mut server.person()?, Signature::Plain);
    let strict = || Sender::webhook(&mut server.person()?, Signature::Strict);
    let task = json!({ "repo": repository, "task_description": "Waits for ever." });
    let mut looked = task.clone();
    looked["dry_run"] = Value::Bool(true);
    let kinds = [
        ("submit with the owner's key", Sender::Owner, &task),
        ("submit with an API key", Sender::Key(key), &task),
        ("submit by webhook, plain", plain()?, &task),
        ("submit by webhook, strict", strict()?, &task),
        ("dry run by webhook, plain", plain()?, &looked),
        ("dry run by webhook, strict", strict()?, &looked),
    ];
    let mut all: Vec<_> = kinds.iter().map(|_| Hammered::default()).collect();
    let number = AtomicU64::new(0);
    for _ in 0..ROUNDS {
        for ((_, sender, task), all) in kinds.iter().zip(&mut all) {
            let connect = || sender.connect(&server);
            let send =
                |person: &mut Person| sender.send(person, task, number.fetch_add(1, Ordering::Relaxed));
            all.add(hammer(&server, each / ROUNDS, connect, send)?);
        }
    }
    let told = |((what, _, _), all): (&(&str, Sender, &Value), Hammered)| {
        all.told(&format!("{what}, {CLIENTS} clients"))
    };
    Ok(kinds.iter().zip(all).flat_map(told).collect())
}

impl Sender {
    /// Somebody with a webhook of its own.
    fn webhook(owner: &mut Person, signature: Signature) -> Result<Sender> {
        let made = json!({ "name": "bench", "signature": signature.name() });
        let made = owner.ask("POST", "/v1/webhooks", &made)?;
        let of =
            |field: &str| made["data"][field].as_str().with_context(|| format!("a webhook without {field}"));
        let (id, secret) = (of("webhook_id")?, of("secret")?.to_owned());
        Ok(Sender::Webhook { path: format!("/v1/webhooks/tasks?webhook_id={id}"), secret, signature })
    }

    fn connect(&self, server: &Server) -> Result<Person> {
        match self {
            Sender::Key(key) => server.person_with(key),
            Sender::Owner | Sender::Webhook { .. } => server.person(),
        }
    }

    /// Sends a task; no two numbers are the same.
    fn send(&self, person: &mut Person, task: &Value, number: u64) -> Result<()> {
        let Sender::Webhook { path, secret, signature } = self else { return person.give(task).map(drop) };
        let body = task.to_string();
        let headers = match signature {
            Signature::Plain => plain(secret, &body)?,
            Signature::Strict => strict(secret, number, since_epoch().as_secs(), &body)?,
        };
        person.deliver(path, &headers, &body).map(drop)
    }
}

impl Signature {
    fn name(self) -> &'static str {
        match self {
            Signature::Plain => "plain",
            Signature::Strict => "strict",
        }
    }
}

type Headers = Vec<(&'static str, String)>;

/// ABCA's: over the body, with the secret's text.
fn plain(secret: &str, body: &str) -> Result<Headers> {
    let mac = mac(secret.as_bytes(), body)?;
    Ok(vec![("x-webhook-signature", format!("sha256={}", hex::encode(mac)))])
}

/// Standard Webhooks.
fn strict(secret: &str, number: u64, at: u64, body: &str) -> Result<Headers> {
    let key = secret.strip_prefix("whsec_").context("a strict secret begins with whsec_")?;
    let key = STANDARD.decode(key).context("reading a strict secret")?;
    let id = format!("msg_{number}");
    let mac = mac(&key, &format!("{id}.{at}.{body}"))?;
    Ok(vec![
        ("webhook-id", id),
        ("webhook-timestamp", at.to_string()),
        ("webhook-signature", format!("v1,{}", STANDARD.encode(mac))),
    ])
}

fn mac(key: &[u8], text: &str) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).context("taking a secret for a key")?;
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

/// One verification as the server does it, in a process that does nothing else.
fn verifications(bed: &Bed, each: Duration) -> Result<Vec<Figure>> {
    told(&bed.example("server", "webhook_verify", &[each.as_millis().to_string().as_ref()])?)
}

/// From lines of a kind, the bytes of a body, and nanoseconds.
fn told(said: &str) -> Result<Vec<Figure>> {
    let one = |line: &str| -> Result<Figure> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, bytes, nanoseconds] = words[..] else { bail!("a verification told as `{line}`") };
        let nanoseconds: f64 =
            nanoseconds.parse().with_context(|| format!("a verification told as `{line}`"))?;
        Ok(figure(format!("one verification alone, {kind}, {bytes} bytes"), nanoseconds / 1e3, "us"))
    };
    let figures = said.lines().map(one).collect::<Result<Vec<_>>>()?;
    if figures.is_empty() {
        bail!("no verification was told");
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_here_is_what_openssl_signs() {
        // The commands of docs/guide/webhooks.md, with these values.
        let body = r#"{"repo":"octo/cat"}"#;
        let headers = strict("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 7, 1_614_265_330, body).unwrap();
        let value = |name| headers.iter().find(|(of, _)| *of == name).unwrap().1.as_str();
        assert_eq!((value("webhook-id"), value("webhook-timestamp")), ("msg_7", "1614265330"));
        assert_eq!(value("webhook-signature"), "v1,JHIwxxMRJRP2loPg3xrgNISMdKYoTXd43RCFM8ypilA=");
        let headers = plain(&"0123456789abcdef".repeat(4), body).unwrap();
        assert_eq!(
            headers,
            [(
                "x-webhook-signature",
                "sha256=feb05b5b4e49d5d029fc93e8a9b12ce6a1133a1e6808cdaa46ce061a154de808".to_owned()
            )]
        );
    }

    #[test]
    fn a_verification_is_told_in_microseconds() {
        let figures = told("strict 128 2345\nplain 10240 61000\n").unwrap();
        let lines: Vec<_> = figures.iter().map(|f| (f.what.as_str(), f.value, f.unit)).collect();
        assert_eq!(
            lines,
            [
                ("one verification alone, strict, 128 bytes", 2.345, "us"),
                ("one verification alone, plain, 10240 bytes", 61.0, "us")
            ]
        );
        for nothing in ["", "strict 128", "strict 128 soon"] {
            assert!(told(nothing).is_err(), "{nothing}");
        }
    }
}
