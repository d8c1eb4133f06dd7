//! Where the bucket is, and who asks.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use objects::Key;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::cause::Place;

/// Tries after the first one.
const RETRIES: usize = 4;
/// The first pause before another try; it doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A connection is made within this, or not.
const CONNECT: Duration = Duration::from_secs(5);

/// Where the bucket is, and who asks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub bucket: String,
    /// What keys are put below: empty for none, or a [`Key`].
    pub prefix: String,
    /// Its region, which is part of every signature.
    pub region: String,
    /// Where the service is; the region's address of Amazon when absent. `http://` sends unencrypted.
    pub endpoint: Option<Url>,
    /// How the bucket is named in addresses.
    pub addressing: Addressing,
    /// Who asks.
    pub credentials: Credentials,
    /// How long to wait for an answer or its next piece, and how long to go on trying.
    pub patience: Duration,
}

/// How the bucket is named in addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    Host,
}

/// Who asks.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Keys that are configured.
    Keys {
        /// The public half.
        access_key_id: String,
        /// The secret half.
        secret_access_key: SecretString,
        /// With keys that are good for a while.
        session_token: Option<SecretString>,
    },
    /// What this machine or container has been given by Amazon; fetched, and again before it expires.
    Role(Role),
}

/// Where the credentials of a role come from: the first of the three that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// Of a Kubernetes service account: `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`.
    pub web_identity: Option<(String, String)>,
    /// Of an ECS task: `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`.
    pub container: Option<String>,
    /// Of an EKS pod: `AWS_CONTAINER_CREDENTIALS_FULL_URI`, `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`.
    pub pod: Option<(String, String)>,
    // Without any, the instance's.
}

/// Settings that cannot be used: which field, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// The name of the field.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub why: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.why)
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Whether they can be used at all, as far as that is seen without asking the service.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let wrong = |field, why: String| Err(SettingsError { field, why });
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let (bucket, chars) = (&self.bucket, self.bucket.chars());
        if !((3..=63).contains(&bucket.len())
            && bucket.chars().all(plain)
            && edge(chars.clone().next())
            && edge(chars.clone().next_back()))
        {
            return wrong(
                "bucket",
                format!("must be the name of a bucket (3 to 63 letters, digits and -._), got {bucket:?}"),
            );
        }
        if !self.prefix.is_empty() && self.prefix.parse::<Key>().is_err() {
            let words =
                "must be empty or parts of letters, digits and ._=- divided by /, which begin with no dot";
            return wrong("prefix", format!("{words}, got {:?}", self.prefix));
        }
        if self.region.is_empty() || !self.region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            let words = "must be the bucket's region, such as eu-central-1";
            return wrong("region", format!("{words}, got {:?}", self.region));
        }
        if let Some(url) = &self.endpoint {
            let bare = url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none();
            if !(matches!(url.scheme(), "http" | "https") && url.host().is_some() && bare) {
                let words = "must be http:// or https:// with a host, without a user, ? and #";
                return wrong("endpoint", words.into());
            }
            if self.addressing == Addressing::Host && url.domain().is_none() {
                let words = "= false puts the bucket's name before the endpoint's, which is an IP address";
                return wrong("path_style", format!("{words}; leave path_style out, or name a host"));
            }
        }
        Ok(())
    }

    pub(crate) fn place(&self) -> Place {
        Place { bucket: self.bucket.clone(), prefix: self.prefix.clone(), region: self.region.clone() }
    }

    pub(crate) fn client(&self) -> Result<AmazonS3, SettingsError> {
        self.validate()?;
        let plain = self.endpoint.as_ref().is_some_and(|url| url.scheme() == "http");
        let options = ClientOptions::new()
            .with_user_agent(HeaderValue::from_static(concat!("bgagent/", env!("CARGO_PKG_VERSION"))))
            .with_allow_http(plain)
            .with_connect_timeout(CONNECT.min(self.patience))
            // A body that comes takes as long as it takes, while something comes. One that goes, a part at most, has to
            // be there, and answered, in that time.
            .with_timeout_disabled()
            .with_read_timeout(self.patience);
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: PAUSE, max_backoff: PAUSE_MAX, base: 2.0 },
            max_retries: RETRIES,
            retry_timeout: self.patience,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_client_options(options)
            .with_retry(retry)
            // One request for one object: what every service can, and what tells of each object by itself.
            .with_disable_bulk_delete(true)
            .with_virtual_hosted_style_request(self.addressing == Addressing::Host);
        if let Some(url) = self.address() {
            builder = builder.with_endpoint(url.as_str().trim_end_matches('/'));
        }
        builder = match &self.credentials {
            Credentials::Keys { access_key_id, secret_access_key, session_token } => {
                let keys = builder
                    .with_access_key_id(access_key_id)
                    .with_secret_access_key(secret_access_key.expose_secret());
                match session_token {
                    Some(token) => keys.with_token(token.expose_secret()),
                    None => keys,
                }
            }
            Credentials::Role(role) => {
                role.sources().fold(builder, |b, (key, value)| b.with_config(key, value))
            }
        };
        // The message of an error can hold what was configured: it is not passed on.
        builder.build().map_err(|_| SettingsError {
            field: "endpoint",
            why: "cannot be used together with the bucket and the region; check all three".into(),
        })
    }

    /// The address of the service, with the bucket's name before it where it belongs there.
    fn address(&self) -> Option<Url> {
        let mut url = self.endpoint.clone()?;
        if self.addressing == Addressing::Host
            && let Some(host) = url.domain().map(|host| format!("{}.{host}", self.bucket))
        {
            // A name before a good name is one; the service says so where not.
            let _ = url.set_host(Some(&host));
        }
        Some(url)
    }
}

impl Role {
    fn sources(&self) -> impl Iterator<Item = (AmazonS3ConfigKey, String)> {
        use AmazonS3ConfigKey as Of;
        let mut all = Vec::new();
        if let Some((file, arn)) = &self.web_identity {
            all.extend([(Of::WebIdentityTokenFile, file.clone()), (Of::RoleArn, arn.clone())]);
        } else if let Some(uri) = &self.container {
            all.push((Of::ContainerCredentialsRelativeUri, uri.clone()));
        } else if let Some((uri, file)) = &self.pod {
            all.extend([
                (Of::ContainerCredentialsFullUri, uri.clone()),
                (Of::ContainerAuthorizationTokenFile, file.clone()),
            ]);
        }
        all.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            bucket: "traces".into(),
            prefix: String::new(),
            region: "eu-central-1".into(),
            endpoint: None,
            addressing: Addressing::Host,
            credentials: Credentials::Keys {
                access_key_id: "AKIA".into(),
                secret_access_key: "s3cr3t-of-the-test".into(),
                session_token: Some("t0ken-of-the-test".into()),
            },
            patience: Duration::from_secs(1),
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_by_its_field() {
        let url = |text: &str| Some(text.parse().unwrap());
        settings().validate().unwrap();
        for (field, bad) in [
            ("bucket", Settings { bucket: "no".into(), ..settings() }),
            ("bucket", Settings { bucket: "a/b".into(), ..settings() }),
            ("bucket", Settings { bucket: "-abc".into(), ..settings() }),
            ("prefix", Settings { prefix: "/a".into(), ..settings() }),
            ("prefix", Settings { prefix: "a/../b".into(), ..settings() }),
            ("region", Settings { region: String::new(), ..settings() }),
            ("region", Settings { region: "eu central".into(), ..settings() }),
            ("endpoint", Settings { endpoint: url("ftp://s3.example.com"), ..settings() }),
            ("endpoint", Settings { endpoint: url("https://u:p@s3.example.com"), ..settings() }),
            ("endpoint", Settings { endpoint: url("https://s3.example.com/?x=1"), ..settings() }),
            ("path_style", Settings { endpoint: url("https://192.0.2.1"), ..settings() }),
        ] {
            let error = bad.validate().unwrap_err();
            assert_eq!(error.field, field, "{error}");
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
    }

    #[test]
    fn the_bucket_is_named_where_it_belongs() {
        let at = |addressing, endpoint: &str| {
            let endpoint = Some(endpoint.parse().unwrap());
            Settings { addressing, endpoint, ..settings() }.address().unwrap().to_string()
        };
        assert_eq!(
            at(Addressing::Host, "https://s3.example.com:9000"),
            "https://traces.s3.example.com:9000/"
        );
        assert_eq!(at(Addressing::Path, "https://s3.example.com"), "https://s3.example.com/");
    }

    #[test]
    fn no_secret_is_shown() {
        let settings = settings();
        let shown = format!("{settings:?} {:?} {:?}", settings.client().unwrap(), settings.place());
        assert!(shown.contains("eu-central-1") && !shown.contains("of-the-test"), "{shown}");
    }
}
