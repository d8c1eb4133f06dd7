//! `[objects]`

use std::time::Duration;

use objects_s3::{Addressing, Credentials, Role, Settings};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::{Host, Url};

use super::{ConfigError, Env};

/// The variables that say who asks, and where: those of AWS's own tools.
pub(super) const VARIABLES: [&str; 10] = [
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
];
/// The region of services that know none.
const NO_REGION: &str = "us-east-1";

/// `[objects]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub struct Objects {
    pub kind: Kind,
    pub s3: S3,
}

/// Where objects are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// In the state folder.
    Local,
    /// In a bucket.
    S3,
}

/// `[objects.s3]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub struct S3 {
    pub bucket: String,
    pub prefix: String,
    pub region: String,
    pub endpoint: String,
    #[serde(default)]
    pub path_style: Option<bool>,
    pub allow_http: bool,
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    pub session_token: SecretString,
    pub timeout_s: f64,
}

impl Objects {
    /// Whether the settings fit together. Secrets are not looked at: who is no server has none.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.kind {
            Kind::S3 => self.s3.settings(Credentials::Role(Role::default())).map(drop),
            Kind::Local => {
                let set = [
                    ("bucket", &self.s3.bucket),
                    ("prefix", &self.s3.prefix),
                    ("endpoint", &self.s3.endpoint),
                ];
                match set.iter().find(|(_, value)| !value.is_empty()) {
                    Some((name, _)) => Err(ConfigError(format!(
                        "objects.s3.{name} is set, and objects.kind is \"local\": set objects.kind = \"s3\", or remove it"
                    ))),
                    None => Ok(()),
                }
            }
        }
    }

    /// The bucket; none where objects are in the state folder.
    pub fn bucket(&self, env: &Env) -> Result<Option<Settings>, ConfigError> {
        self.validate()?;
        match self.kind {
            Kind::Local => Ok(None),
            Kind::S3 => self.s3.settings(self.s3.credentials(env)?).map(Some),
        }
    }

    /// As a person may see them.
    pub fn show(&self, secret: impl Fn(&str) -> String) -> Vec<String> {
        let S3 { bucket, prefix, region, endpoint, .. } = &self.s3;
        match self.kind {
            Kind::Local => vec!["objects.kind = \"local\"".into()],
            Kind::S3 => vec![
                "objects.kind = \"s3\"".into(),
                format!("objects.s3: bucket = {bucket:?}, prefix = {prefix:?}, region = {region:?}"),
                format!("objects.s3.endpoint = {endpoint:?}"),
                format!("objects.s3.access_key_id = {}", secret("objects.s3.access_key_id")),
                format!("objects.s3.secret_access_key = {}", secret("objects.s3.secret_access_key")),
                format!("objects.s3.session_token = {}", secret("objects.s3.session_token")),
            ],
        }
    }
}

impl S3 {
    fn settings(&self, credentials: Credentials) -> Result<Settings, ConfigError> {
        let bad = |field: &str, why: &str| Err(ConfigError(format!("objects.s3.{field} {why}")));
        if self.bucket.is_empty() {
            return bad("bucket", "is required with objects.kind = \"s3\"");
        }
        if !(self.timeout_s.is_finite() && (1.0..=600.0).contains(&self.timeout_s)) {
            return bad("timeout_s", &format!("must be 1 to 600, got {}", self.timeout_s));
        }
        let endpoint: Option<Url> = match self.endpoint.as_str() {
            "" => None,
            text => match text.parse() {
                Ok(url) => Some(url),
                // What was given may hold a password.
                Err(e) => {
                    return bad(
                        "endpoint",
                        &format!("must be an address such as https://s3.example.com: {e}"),
                    );
                }
            },
        };
        if let Some(url) = endpoint.as_ref().filter(|url| url.scheme() == "http")
            && !self.allow_http
            && !loopback(url)
        {
            let words = "is http://, which sends objects unencrypted over the network: use https://, or set \
                         objects.s3.allow_http = true when nobody can listen there";
            return bad("endpoint", words);
        }
        let region = match (self.region.as_str(), &endpoint) {
            ("", None) => return bad("region", "is required without objects.s3.endpoint; or set AWS_REGION"),
            ("", Some(_)) => NO_REGION,
            (region, _) => region,
        };
        let path_style = self.path_style.unwrap_or(endpoint.is_some());
        let settings = Settings {
            bucket: self.bucket.clone(),
            prefix: self.prefix.trim_end_matches('/').to_owned(),
            region: region.to_owned(),
            endpoint,
            addressing: if path_style { Addressing::Path } else { Addressing::Host },
            credentials,
            patience: Duration::from_secs_f64(self.timeout_s),
        };
        settings.validate().map_err(|e| ConfigError(format!("objects.s3.{e}")))?;
        Ok(settings)
    }

    fn credentials(&self, env: &Env) -> Result<Credentials, ConfigError> {
        let bad = |words: &str| Err(ConfigError(words.to_owned()));
        let (id, secret, token) = (
            self.access_key_id.trim(),
            self.secret_access_key.expose_secret(),
            self.session_token.expose_secret(),
        );
        match (id.is_empty(), secret.is_empty(), token.is_empty()) {
            (false, false, without) => Ok(Credentials::Keys {
                access_key_id: id.to_owned(),
                secret_access_key: self.secret_access_key.clone(),
                session_token: (!without).then(|| self.session_token.clone()),
            }),
            (false, true, _) => bad("objects.s3.secret_access_key is required with objects.s3.access_key_id"),
            (true, false, _) => bad("objects.s3.access_key_id is required with objects.s3.secret_access_key"),
            (true, true, false) => bad(
                "objects.s3.session_token belongs to an access_key_id and a secret_access_key: set them too",
            ),
            (true, true, true) => {
                let role = role(env);
                let told_off =
                    env.get("AWS_EC2_METADATA_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
                if role == Role::default() && told_off {
                    return bad(
                        "objects.s3.access_key_id is empty, and this machine gives no role (AWS_EC2_METADATA_DISABLED): \
                         set objects.s3.access_key_id and objects.s3.secret_access_key",
                    );
                }
                Ok(Credentials::Role(role))
            }
        }
    }
}

/// The role that the environment names.
fn role(env: &Env) -> Role {
    let of = |name: &str| env.get(name).map(|v| v.trim()).filter(|v| !v.is_empty()).map(str::to_owned);
    Role {
        web_identity: of("AWS_WEB_IDENTITY_TOKEN_FILE").zip(of("AWS_ROLE_ARN")),
        container: of("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        pod: of("AWS_CONTAINER_CREDENTIALS_FULL_URI").zip(of("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")),
    }
}

fn loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/secret-of-the-test";

    fn read(text: &str, more: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let mut env = Env::from([("HOME".to_owned(), "/home/x".to_owned()), ("S".into(), SECRET.into())]);
        env.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let config = Config::from_text(text, "bgagent.toml", &env).map_err(|e| e.to_string())?;
        let shown = format!("{config:?} {}", config.show());
        assert!(!shown.contains("of-the-test"), "{shown}");
        let masked: Vec<String> =
            config.secrets.values().iter().map(|v| v.expose_secret().to_owned()).collect();
        assert!(!text.contains("env:S") || masked.contains(&SECRET.to_owned()));
        config.objects.bucket(&env).map_err(|e| e.to_string())
    }

    const KEYS: &str = "access_key_id = \"A\"\nsecret_access_key = \"env:S\"\n";

    fn s3(rest: &str) -> String {
        format!("[objects]\nkind = \"s3\"\n[objects.s3]\nbucket = \"traces\"\n{rest}")
    }

    #[test]
    fn objects_are_in_the_state_folder_until_a_bucket_is_named() {
        assert!(read("", &[]).unwrap().is_none());
        let keys =
            [("AWS_REGION", "eu-central-1"), ("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "b")];
        assert!(read("", &keys).unwrap().is_none(), "keys for something else change nothing");
        let bucket = read(&s3("prefix = \"team/a/\""), &keys).unwrap().unwrap();
        assert_eq!((bucket.prefix.as_str(), bucket.region.as_str()), ("team/a", "eu-central-1"));
        assert_eq!((bucket.addressing, bucket.endpoint.is_none()), (Addressing::Host, true));
        assert!(
            matches!(&bucket.credentials, Credentials::Keys { access_key_id, .. } if access_key_id == "A")
        );
    }

    #[test]
    fn keys_of_the_file_and_of_the_environment_are_not_mixed() {
        let shell = [
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "of-the-shell"),
            ("AWS_SECRET_ACCESS_KEY", "secret-of-the-shell"),
            ("AWS_SESSION_TOKEN", "token-of-the-shell"),
        ];
        let keys = |text: &str, more: &[(&str, &str)]| match read(text, more).unwrap().unwrap().credentials {
            Credentials::Keys { access_key_id, session_token, .. } => {
                (access_key_id, session_token.is_some())
            }
            Credentials::Role(role) => panic!("{role:?}"),
        };
        assert_eq!(keys(&s3(""), &shell), ("of-the-shell".into(), true));
        assert_eq!(keys(&s3(KEYS), &shell), ("A".into(), false), "a token is of its own keys");
        let mut ours = shell.to_vec();
        ours.push(("BGAGENT__OBJECTS__S3__ACCESS_KEY_ID", "B"));
        ours.push(("BGAGENT__OBJECTS__S3__SECRET_ACCESS_KEY", "b"));
        assert_eq!(keys(&s3(""), &ours), ("B".into(), false));
        let error = read(&s3("access_key_id = \"A\""), &shell).unwrap_err();
        assert!(error.contains("objects.s3.secret_access_key is required"), "{error}");
    }

    #[test]
    fn another_service_is_named_by_its_address() {
        let at = |rest: &str| read(&s3(&format!("{KEYS}{rest}")), &[]);
        let minio = at("endpoint = \"http://127.0.0.1:9000\"").unwrap().unwrap();
        assert_eq!((minio.addressing, minio.region.as_str()), (Addressing::Path, "us-east-1"));
        assert!(
            at("endpoint = \"http://[::1]:9000\"").is_ok() && at("endpoint = \"http://localhost\"").is_ok()
        );
        assert!(at("endpoint = \"http://minio.internal\"\nallow_http = true").is_ok());
        let hosted = at("endpoint = \"https://s3.example.com\"\npath_style = false").unwrap().unwrap();
        assert_eq!(hosted.addressing, Addressing::Host);
    }

    #[test]
    fn without_keys_the_machines_role_asks() {
        let role = |env: &[(&str, &str)]| match read(&s3("region = \"eu-central-1\""), env)
            .unwrap()
            .unwrap()
            .credentials
        {
            Credentials::Role(role) => role,
            Credentials::Keys { .. } => panic!("there are no keys"),
        };
        assert_eq!(role(&[]), Role::default());
        let pod = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://a/c"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/t"),
        ];
        assert_eq!(role(&pod).pod, Some(("http://a/c".into(), "/t".into())));
        let task = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/c")];
        assert_eq!(role(&task).container.as_deref(), Some("/v2/c"));
        let service = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")];
        assert_eq!(role(&service).web_identity, Some(("/t".into(), "arn:aws:iam::1:role/r".into())));
    }

    #[test]
    fn what_contradicts_is_told_by_its_name() {
        let local = "[objects.s3]\nbucket = \"b\"".to_owned();
        let none = ("AWS_EC2_METADATA_DISABLED", "true");
        for (text, words) in [
            (local, "objects.s3.bucket is set, and objects.kind is \"local\""),
            ("[objects]\nkind = \"gcs\"".into(), "expected `local` or `s3`"),
            ("[objects]\nkind = \"s3\"".into(), "objects.s3.bucket is required"),
            (s3("buckt = \"x\""), "buckt"),
            (s3(KEYS), "objects.s3.region is required"),
            (s3(&format!("{KEYS}region = \"eu central\"")), "objects.s3.region must be"),
            (s3(&format!("{KEYS}endpoint = \"s3.example.com\"")), "objects.s3.endpoint must be an address"),
            (s3(&format!("{KEYS}endpoint = \"http://s3.example.com\"")), "objects.s3.allow_http"),
            (s3(&format!("{KEYS}endpoint = \"http://10.0.0.1\"")), "objects.s3.allow_http"),
            (s3(&format!("{KEYS}endpoint = \"https://u:of-the-test@h\"")), "objects.s3.endpoint must be"),
            (s3(&format!("{KEYS}region = \"r\"\nprefix = \"../x\"")), "objects.s3.prefix must be"),
            (s3(&format!("{KEYS}region = \"r\"\ntimeout_s = 0")), "objects.s3.timeout_s must be 1 to 600"),
            (s3("region = \"r\"\naccess_key_id = \"A\""), "objects.s3.secret_access_key is required"),
            (s3("region = \"r\"\nsecret_access_key = \"env:S\""), "objects.s3.access_key_id is required"),
            (s3("region = \"r\"\nsession_token = \"env:S\""), "objects.s3.session_token belongs to"),
            (s3("region = \"r\""), "this machine gives no role"),
        ] {
            let error = read(&text, &[none]).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
            assert!(!error.contains("of-the-test"), "{error}");
        }
    }

    /// The command line reads the same file, without the secrets.
    #[test]
    fn who_is_no_server_needs_no_secret() {
        let text =
            s3("region = \"r\"\naccess_key_id = \"env:NOT_HERE\"\nsecret_access_key = \"env:NOT_HERE\"");
        let env = Env::from([("HOME".to_owned(), "/home/x".to_owned())]);
        Config::read_text(&text, "bgagent.toml", &env, super::super::secret::Need::Client).unwrap();
        let error = Config::from_text(&text, "bgagent.toml", &env).unwrap_err().to_string();
        assert!(error.contains("objects.s3.access_key_id (env:NOT_HERE)"), "{error}");
    }
}
