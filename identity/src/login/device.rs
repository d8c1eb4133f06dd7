//! Signing in with a code on any other device (RFC 8628).

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use super::{Answer, Client, LoginError, Tokens};
use crate::discovery::{self, FetchError};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Between two questions when the provider does not say, and what `slow_down` adds.
const INTERVAL_S: u64 = 5;
/// No provider makes us ask less often.
const INTERVAL_MAX_S: u64 = 60;
/// No code is waited for longer.
const EXPIRES_MAX_S: u64 = 1_800;

/// A code, and where to enter it.
#[derive(Clone)]
pub struct Device {
    /// What the person enters.
    pub user_code: String,
    /// Where.
    pub verification_url: Url,
    /// The same with the code in it.
    pub complete_url: Option<Url>,
    /// For how long.
    pub expires_in: Duration,
    code: String,
    interval: Duration,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("verification_url", &self.verification_url.as_str())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Raw {
    device_code: String,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: Option<u64>,
    interval: Option<u64>,
}

/// What follows from an answer to the question whether somebody has entered the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    AskAgain(Duration),
    GiveUp,
}

impl Client {
    /// Asks for a code.
    pub async fn device(&self) -> Result<Device, LoginError> {
        let issuer = &self.provider.issuer;
        let none = || LoginError::Unsupported {
            issuer: issuer.clone(),
            what: "it gives no codes for other devices",
            instead: "Use `bgagent login --browser` on a machine with a browser.",
        };
        let url = self.metadata.device.as_ref().ok_or_else(none)?;
        let scopes = self.provider.scopes.join(" ");
        let mut form = vec![("scope", scopes.as_str())];
        form.extend(self.parameters());
        let body = match self.post(url, &form).await? {
            Answer::Granted(body) => body,
            Answer::NotGranted(refused) => return Err(self.refused(refused)),
        };
        let bad = |why: &str| LoginError::Provider { issuer: issuer.clone(), why: why.to_owned() };
        let raw: Raw =
            serde_json::from_slice(&body).map_err(|_| bad("its answer with the code has another form"))?;
        let base = discovery::issuer(issuer).map_err(bad)?;
        let address = |text: &str| {
            discovery::endpoint(&base, text)
                .map_err(|why| bad(&format!("the address to enter the code at is not believed: {why}")))
        };
        Ok(Device {
            verification_url: address(&raw.verification_uri)?,
            complete_url: raw.verification_uri_complete.as_deref().map(address).transpose()?,
            user_code: domain::event::preview(&raw.user_code, 40),
            expires_in: Duration::from_secs(raw.expires_in.unwrap_or(EXPIRES_MAX_S).clamp(1, EXPIRES_MAX_S)),
            interval: Duration::from_secs(raw.interval.unwrap_or(INTERVAL_S).clamp(1, INTERVAL_MAX_S)),
            code: raw.device_code,
        })
    }

    /// Waits until somebody has entered the code. `now` is asked when they have.
    pub async fn entered(&self, device: &Device, now: impl Fn() -> Timestamp) -> Result<Tokens, LoginError> {
        let deadline = Instant::now() + device.expires_in;
        let late = LoginError::TooLate { minutes: device.expires_in.as_secs().div_ceil(60) };
        let mut interval = device.interval;
        let form = [("grant_type", GRANT), ("device_code", &device.code)];
        loop {
            if timeout_at(deadline, sleep(interval)).await.is_err() {
                return Err(late);
            }
            let (next, told) = match self.post_token(&form).await {
                Ok(Answer::Granted(body)) => return self.tokens(&body, None, now()),
                Ok(Answer::NotGranted(refused)) => (next(&refused.error, interval), self.refused(refused)),
                // RFC 8628, 3.5: a connection that fails is tried again, more slowly.
                Err(
                    error @ LoginError::Fetch(
                        FetchError::Unreachable { .. } | FetchError::Status { status: 500.., .. },
                    ),
                ) => (Next::AskAgain(slower(interval)), error),
                Err(error) => return Err(error),
            };
            match next {
                Next::AskAgain(after) => interval = after,
                Next::GiveUp => return Err(told),
            }
        }
    }
}

fn next(error: &str, interval: Duration) -> Next {
    match error {
        "authorization_pending" => Next::AskAgain(interval),
        "slow_down" => Next::AskAgain(slower(interval)),
        _ => Next::GiveUp,
    }
}

fn slower(interval: Duration) -> Duration {
    (interval + Duration::from_secs(INTERVAL_S)).min(Duration::from_secs(INTERVAL_MAX_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_again_only_when_the_provider_says_so_and_never_faster() {
        let s = Duration::from_secs;
        for (error, interval, want) in [
            ("authorization_pending", 5, Next::AskAgain(s(5))),
            ("slow_down", 5, Next::AskAgain(s(10))),
            ("slow_down", 58, Next::AskAgain(s(60))),
            ("access_denied", 5, Next::GiveUp),
            ("expired_token", 5, Next::GiveUp),
            ("", 5, Next::GiveUp),
        ] {
            assert_eq!(next(error, s(interval)), want, "{error}");
        }
    }
}
