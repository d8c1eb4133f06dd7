//! Configuration: the defaults (one commented file that is also the documentation), `bgagent.toml` over them, the
//! environment over that. Read once, at start.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use compute::BoxSpec;
use domain::money::Price;
use domain::{BoxLimits, IsolationTier, PerRepo, RepoRef};
use gateway::model::{Kind, ModelConfig, ProviderConfig};
use hmac::{Hmac, KeyInit, Mac};
use orchestrator::config::{KeepSessions, Policy};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::Sha256;
use toml::{Table, Value};

use crate::paths;

pub mod budgets;
pub mod limits;
pub mod objects;
pub mod screening;
pub mod secret;
pub mod telemetry;
pub mod webhooks;

use self::limits::{Limits, RepoLimits};
use self::secret::{Need, Secrets};

/// Every setting at its default, with comments.
pub const DEFAULTS: &str = include_str!("config/defaults.toml");

/// The model of an Anthropic key when nobody names one.
const ANTHROPIC_MODEL: &str = "claude-sonnet-4-6";
/// The model of an OpenAI key when nobody names one.
const OPENAI_MODEL: &str = "gpt-5";

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept.
    pub state_dir: PathBuf,
    /// `[server]`
    pub server: Server,
    /// `[api]`
    pub api: Api,
    /// `[log]`
    pub log: Log,
    /// `[model]`
    pub model: ModelConfig,
    /// `[forge]`
    pub forge: Forge,
    /// `[compute]`
    pub compute: Compute,
    /// `[git]`
    pub git: GitSettings,
    /// `[limits]`
    pub limits: Limits,
    /// `[budgets]`
    pub budgets: budgets::Budgets,
    /// `[objects]`
    pub objects: objects::Objects,
    /// `[retention]`
    pub retention: Retention,
    /// `[attachments]`
    pub attachments: Attachments,
    /// `[webhooks]`
    pub webhooks: webhooks::Webhooks,
    /// `[screening]`
    pub screening: screening::Screening,
    /// `[egress]`
    pub egress: gateway::egress::Settings,
    /// `[push]`
    pub push: gateway::push::Settings,
    /// `[identity]`: where people sign in.
    pub identity: IdentityProviders,
    /// `[teams.NAME]`: who shares tasks with whom.
    pub teams: domain::access::Teams,
    /// `[telemetry]`: where spans go.
    pub telemetry: telemetry::Telemetry,
    /// `[rate]`: how much one caller may ask.
    pub rate: crate::rate::Rates,
    /// `[repos."NAME"]`: what holds for one repository, complete.
    pub repos: BTreeMap<String, Repo>,
    /// The secrets among these settings, and where each comes from.
    #[serde(skip)]
    pub secrets: Secrets,
}

/// `[identity]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityProviders {
    /// `[identity.oidc.NAME]`: OpenID Connect providers.
    pub oidc: BTreeMap<String, ::identity::Settings>,
}

/// `[repos."NAME"]`, over the sections of the same names.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repo {
    /// `[repos."NAME".compute]`
    pub compute: RepoCompute,
    /// `[repos."NAME".egress]`
    pub egress: gateway::egress::Settings,
    /// `[repos."NAME".push]`
    pub push: gateway::push::Settings,
    /// `[repos."NAME".limits]`
    pub limits: RepoLimits,
}

/// What of `[compute]` a repository can have for itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepoCompute {
    /// Folders of the host that tools may read.
    pub read: Vec<PathBuf>,
    /// Image of the tools' container.
    pub image: String,
    /// Bounds of a box.
    pub limits: BoxLimits,
    /// Commands that fill the dependency cache.
    pub warm: Vec<String>,
}

impl RepoCompute {
    /// What boxes are made of.
    pub fn plan(&self, egress: &gateway::egress::Settings) -> BoxSpec {
        let group = |name: &&String| name.parse::<gateway::egress::site::Tool>().is_ok();
        BoxSpec {
            registries: egress.allow.iter().filter(group).cloned().collect(),
            limits: self.limits.clone(),
            read: self.read.clone(),
            image: Some(self.image.clone()).filter(|image| !image.is_empty()),
            ..BoxSpec::default()
        }
    }
}

/// `[server]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address of the people's API.
    pub listen: String,
    /// Stop by itself after this many idle seconds; 0 is never.
    pub idle_exit_s: u64,
    /// Where others reach this server; empty for the address it listens on.
    pub public_url: String,
    /// Proxies whose word on a request's address is believed.
    pub trusted_proxies: crate::peer::Proxies,
    /// `unix:/path`, `host:port`, or empty for a socket in the state folder.
    pub gateway_listen: String,
}

/// `[api]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Server that the command line talks to; empty for this machine's.
    pub url: String,
    /// Key for it.
    pub key: SecretString,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A tracing filter.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// `[forge]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forge {
    /// `[forge.github]`
    pub github: GitHub,
    /// `[forge.local]`
    pub local: Local,
}

/// `[attachments]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachments {
    /// Certificates of authorities, PEM; empty for none of one's own.
    pub ca_file: PathBuf,
}

/// `[forge.github]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitHub {
    /// REST base, `https://HOST/api/v3` for Enterprise.
    pub api_url: String,
    /// Where repositories are cloned from.
    pub server_url: String,
    /// Token; empty for none.
    pub token: SecretString,
}

/// `[forge.local]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// Whether paths may be named.
    pub enabled: bool,
}

/// `[compute]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// The tier of tasks that ask for none.
    pub isolation: IsolationTier,
    /// The tiers that tasks may ask for.
    pub tiers: Vec<IsolationTier>,
    /// Folders of the host that tools may read.
    pub read: Vec<PathBuf>,
    /// Image of the tools' container.
    pub image: String,
    /// Address of the container engine; empty is the usual one.
    pub engine: String,
    /// Whether a repository may name its image itself, in its devcontainer.json.
    pub devcontainer: bool,
    /// Bounds of a box.
    pub limits: BoxLimits,
    /// Commands that fill the dependency cache.
    pub warm: Vec<String>,
    /// Whether folders of ended sessions stay.
    pub keep_sessions: bool,
    /// Seconds between TERM and KILL.
    pub stop_grace_s: u64,
    /// Names of further environment variables.
    pub env: Vec<String>,
}

impl Compute {
    /// What holds for repositories without a section of their own.
    pub fn common(&self) -> RepoCompute {
        RepoCompute {
            read: self.read.clone(),
            image: self.image.clone(),
            limits: self.limits.clone(),
            warm: self.warm.clone(),
        }
    }
}

/// `[retention]`: days; 0 is for ever.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub struct Retention {
    pub records_days: u32,
    pub traces_days: u32,
    pub nudges_days: u32,
    pub revoked_days: u32,
    pub audit_days: u32,
}

impl Retention {
    fn build(&self) -> orchestrator::retention::Retention {
        /// Two centuries: further than times reach back here.
        const FOR_EVER_DAYS: u64 = 200 * 365;
        let days = |days: u32| {
            let days = if days == 0 { FOR_EVER_DAYS } else { u64::from(days).min(FOR_EVER_DAYS) };
            Duration::from_secs(days * 86_400)
        };
        orchestrator::retention::Retention {
            records: days(self.records_days),
            traces: days(self.traces_days),
            nudges: days(self.nudges_days),
            revoked: days(self.revoked_days),
            audit: days(self.audit_days),
        }
    }
}

/// `[git]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitSettings {
    /// `Name <mail>`
    pub identity: String,
}

/// A configuration that cannot be used: says which file or variable, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// The environment as a map; read once in `main`.
pub type Env = BTreeMap<String, String>;

/// The process's environment. Values that are not Unicode are left out.
pub fn environment() -> Env {
    let text = |(k, v): (OsString, OsString)| Some((k.into_string().ok()?, v.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

impl Config {
    /// Reads the configuration: `file` (or the usual place) and the environment, and the secrets that are needed.
    pub fn load(file: Option<&Path>, env: &Env, need: Need) -> Result<Config, ConfigError> {
        let path = match file {
            Some(path) => Some(path.to_path_buf()),
            None => Some(paths::config_file(env)).filter(|p| p.exists()),
        };
        let text = match &path {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| ConfigError(format!("cannot read the configuration {}: {e}", path.display())))?,
            None => String::new(),
        };
        let name = path.map_or_else(|| "bgagent.toml".into(), |p| p.display().to_string());
        Config::read_text(&text, &name, env, need)
    }

    /// The same from a text, with every secret; `name` is what errors call it.
    pub fn from_text(text: &str, name: &str, env: &Env) -> Result<Config, ConfigError> {
        Config::read_text(text, name, env, Need::Server)
    }

    fn read_text(text: &str, name: &str, env: &Env, need: Need) -> Result<Config, ConfigError> {
        let mut all: Table =
            DEFAULTS.parse().map_err(|e| ConfigError(format!("the defaults are damaged: {e}")))?;
        let mut own: Table =
            text.parse().map_err(|e: toml::de::Error| ConfigError(format!("{name}: {e}")))?;
        // Typed once by itself, so that an error has the file's line and not only a key.
        toml::from_str::<serde_json::Value>(text).map_err(|e| ConfigError(format!("{name}: {e}")))?;
        standard_variables(&mut all, env);
        telemetry::name_headers(&mut own);
        merge(&mut all, own);
        for (key, value) in env.iter().filter(|(k, _)| k.starts_with("BGAGENT__")) {
            overlay(&mut all, key, value)?;
        }
        aws_keys(&mut all, env);
        let secrets = Secrets::read(&mut all, env, need)?;
        let prices = take_prices(&mut all);
        complete_repos(&mut all)?;
        let mut config: Config = Value::Table(all).try_into().map_err(|e: toml::de::Error| {
            ConfigError(format!("{name} or a BGAGENT__ variable: {}", e.message()))
        })?;
        config.model.prices = prices?;
        config.secrets = secrets;
        config.finish(env)
    }

    fn finish(mut self, env: &Env) -> Result<Config, ConfigError> {
        if self.state_dir.as_os_str().is_empty() {
            self.state_dir = paths::state_dir(env);
        }
        if !self.state_dir.is_absolute() {
            let given = self.state_dir.display();
            return Err(ConfigError(format!("state_dir must be an absolute path, got {given}")));
        }
        self.model.default = self.model.default.filter(|d| !d.trim().is_empty());
        let limits = &self.limits;
        if !(limits.supervise_interval_s.is_finite() && (0.05..=300.0).contains(&limits.supervise_interval_s))
        {
            return Err(ConfigError("limits.supervise_interval_s must be 0.05 to 300".into()));
        }
        for (name, n) in
            [("per_user", limits.per_user), ("per_repo", limits.per_repo), ("system", limits.system)]
        {
            if n == 0 {
                return Err(ConfigError(format!("limits.{name} must be at least 1")));
            }
        }
        if limits.heartbeat_stale_s <= limits.heartbeat_interval_s {
            return Err(ConfigError(
                "limits.heartbeat_stale_s must be more than limits.heartbeat_interval_s".into(),
            ));
        }
        limits.of_repos().check("")?;
        for (name, repo) in &self.repos {
            repo.limits.check(&format!("repos.{name:?}."))?;
        }
        while self.server.public_url.ends_with('/') {
            self.server.public_url.pop();
        }
        let public = &self.server.public_url;
        let usable = url::Url::parse(public).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
        });
        if !public.is_empty() && !usable {
            return Err(ConfigError(format!(
                "server.public_url must be http:// or https:// with a host, without ? and #, got {public:?}"
            )));
        }
        self.budgets.build()?;
        crate::identity::oidc::Oidc::new(&self.identity.oidc)
            .map_err(|why| ConfigError(format!("identity.oidc.{why}")))?;
        self.screening.build()?;
        self.objects.validate()?;
        self.telemetry.build("")?;
        let identity = &self.git.identity;
        if !(identity.contains(" <") && identity.ends_with('>') && !identity.contains('\n')) {
            return Err(ConfigError(format!("git.identity must look like `Name <mail>`, got {identity:?}")));
        }
        Ok(self)
    }

    /// What the boxes of a repository are made of.
    pub fn plan_of(&self, repo: &RepoRef) -> BoxSpec {
        let (compute, egress) = self.of(repo);
        compute.plan(egress)
    }

    /// A setting with the values that repositories have for themselves.
    pub fn per_repo<T>(&self, default: T, of: impl Fn(&Repo) -> T) -> PerRepo<T> {
        let by_repo = self.repos.iter().map(|(name, repo)| (name.clone(), of(repo))).collect();
        PerRepo { default, by_repo }
    }

    /// What of `[compute]` holds for `repo`.
    pub fn compute_of(&self, repo: &RepoRef) -> RepoCompute {
        self.of(repo).0.into_owned()
    }

    /// The repository's own sections, or those that hold for all without.
    fn of(&self, repo: &RepoRef) -> (Cow<'_, RepoCompute>, &gateway::egress::Settings) {
        match self.repos.get(&repo.to_string()) {
            Some(own) => (Cow::Borrowed(&own.compute), &own.egress),
            None => (Cow::Owned(self.compute.common()), &self.egress),
        }
    }

    /// The orchestrator's limits.
    pub fn policy(&self) -> Policy {
        let l = &self.limits;
        Policy {
            per_user: l.per_user,
            per_repo: l.per_repo,
            system: l.system,
            tier: self.compute.isolation,
            tiers: self.compute.tiers.clone(),
            devcontainer: self.compute.devcontainer,
            boxes: self
                .per_repo(self.compute.common().plan(&self.egress), |repo| repo.compute.plan(&repo.egress)),
            push: self.per_repo(self.push.clone(), |repo| repo.push.clone()),
            screens: self.screening.build().unwrap_or_default(),
            retention: self.retention.build(),
            // Checked when it was read.
            budgets: self.budgets.build().unwrap_or_default(),
            supervise_interval: Duration::from_secs_f64(l.supervise_interval_s),
            heartbeat_interval: Duration::from_secs(l.heartbeat_interval_s),
            heartbeat_stale: Duration::from_secs(l.heartbeat_stale_s),
            attach_deadline: Duration::from_secs(l.attach_deadline_s),
            hydration_deadline: Duration::from_secs(l.hydration_deadline_s),
            lifetime: self.per_repo(Duration::from_secs(l.lifetime_s), |repo| {
                Duration::from_secs(repo.limits.lifetime_s)
            }),
            tool_output_bytes: self.per_repo(l.tool_output_bytes, |repo| repo.limits.tool_output_bytes),
            finalize_deadline: Duration::from_secs(l.finalize_deadline_s),
            verify_timeout: Duration::from_secs(l.verify_timeout_s),
            lease: Duration::from_secs(l.lease_s.max(1)),
            attempts_max: self.per_repo(l.attempts_max, |repo| repo.limits.attempts_max),
            lost_backoff: Duration::from_secs(l.lost_backoff_s),
            save_interval: Duration::from_secs(l.save_interval_s),
            stop_grace: Duration::from_secs(self.compute.stop_grace_s),
            keep_sessions: if self.compute.keep_sessions { KeepSessions::Yes } else { KeepSessions::No },
            git_identity: self.git.identity.clone(),
            ..Policy::default()
        }
    }

    /// The configuration as a person may see it: secrets are told to be set, never shown.
    pub fn show(&self) -> String {
        let secret = |setting: &str| self.secrets.told(setting);
        let mut lines = vec![
            format!("state_dir = {:?}", self.state_dir),
            format!("server.listen = {:?}", self.server.listen),
            format!("server.idle_exit_s = {}", self.server.idle_exit_s),
            format!("api.url = {:?}", self.api.url),
            format!("api.key = {}", secret("api.key")),
            format!("log.level = {:?}", self.log.level),
            format!("model.default = {:?}", self.model.default.as_deref().unwrap_or("")),
        ];
        for (name, p) in &self.model.providers {
            let key = secret(&format!("model.providers.{name}.api_key"));
            let url = p.base_url.as_deref().unwrap_or("(its own)");
            lines.push(format!(
                "model.providers.{name}: kind = {:?}, base_url = {url}, api_key = {key}",
                p.kind
            ));
        }
        for (name, p) in &self.identity.oidc {
            lines.push(format!(
                "identity.oidc.{name}: issuer = {:?}, client_id = {:?}",
                p.issuer, p.client_id
            ));
        }
        lines.push(format!("model.prices: {} rows", self.model.prices.len()));
        lines.push(format!("forge.github.api_url = {:?}", self.forge.github.api_url));
        lines.push(format!("forge.github.server_url = {:?}", self.forge.github.server_url));
        lines.push(format!("forge.github.token = {}", secret("forge.github.token")));
        lines.push(format!("forge.local.enabled = {}", self.forge.local.enabled));
        lines.push(format!("compute.isolation = {:?}", self.compute.isolation.as_str()));
        lines.push(format!("compute.keep_sessions = {}", self.compute.keep_sessions));
        lines.extend(self.objects.show(secret));
        lines.push(format!("git.identity = {:?}", self.git.identity));
        let limits = toml::to_string(&self.limits).unwrap_or_default();
        lines.extend(limits.lines().map(|line| format!("limits.{line}")));
        lines.join("\n")
    }
}

/// A keyed hash of all settings that `env` gives: equal for equal settings, and telling nothing about them.
pub fn fingerprint(env: &Env, key: &SecretString) -> String {
    let standard = |name: &str| {
        [&STANDARD[..], &telemetry::VARIABLES, &objects::VARIABLES].iter().any(|names| names.contains(&name))
    };
    let ours = |name: &str| name.starts_with("BGAGENT__") || standard(name);
    let mut text = std::fs::read_to_string(paths::config_file(env)).unwrap_or_default();
    text.push_str(&secret::present(&text, env));
    for (name, value) in env.iter().filter(|(name, _)| ours(name)) {
        text.push_str(&format!("\0{name}={value}"));
    }
    // HMAC takes a key of any length, so this cannot fail; an empty print is equal to no other.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()) else {
        return String::new();
    };
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// The standard variables that change what a server does.
const STANDARD: [&str; 8] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "GITHUB_TOKEN",
    "GITHUB_API_URL",
    "GITHUB_SERVER_URL",
    "DOCKER_HOST",
];

/// The sections that take what AWS's own tools take.
const AWS_SECTIONS: [(&str, &str); 2] = [("screening", "bedrock"), ("objects", "s3")];

/// The keys that AWS's own tools take, for each section that has none. They belong together: a section with any of its own
/// is given none, or the token of one set would be sent with the key of another, to whomever that is for.
fn aws_keys(all: &mut Table, env: &Env) {
    let names = [
        ("AWS_ACCESS_KEY_ID", "access_key_id"),
        ("AWS_SECRET_ACCESS_KEY", "secret_access_key"),
        ("AWS_SESSION_TOKEN", "session_token"),
    ];
    for (outer, inner) in AWS_SECTIONS {
        let section = all.get_mut(outer).and_then(|outer| outer.get_mut(inner)).and_then(Value::as_table_mut);
        let Some(section) = section else { continue };
        let empty = |setting| section.get(setting).and_then(Value::as_str).is_some_and(str::is_empty);
        if names.iter().all(|(_, setting)| empty(*setting)) {
            for (name, setting) in names {
                let value = env.get(name).map(|v| v.trim()).unwrap_or_default();
                section.insert(setting.into(), value.into());
            }
        }
    }
}

/// The variables that every tool reads. They come before the file, so that a file can say otherwise.
fn standard_variables(all: &mut Table, env: &Env) {
    let set = |name: &str| env.get(name).map(|v| v.trim()).filter(|v| !v.is_empty()).map(str::to_owned);
    if let Some(region) = set("AWS_REGION") {
        for (outer, inner) in AWS_SECTIONS {
            section(section(all, outer), inner).insert("region".into(), region.as_str().into());
        }
    }
    telemetry::standard_variables(all, env);
    let mut provider = |name: &str, kind: &str, key: Option<String>, url: Option<String>, model: &str| {
        if key.is_none() && url.is_none() {
            return;
        }
        let mut table = Table::new();
        table.insert("kind".into(), kind.into());
        // A server of its own has models of its own: there the person must say which.
        if kind == "anthropic" || url.is_none() {
            table.insert("default_model".into(), model.into());
        }
        if let Some(key) = key {
            table.insert("api_key".into(), key.into());
        }
        if let Some(url) = url {
            table.insert("base_url".into(), url.into());
        }
        section(section(all, "model"), "providers").insert(name.into(), table.into());
    };
    let (key, url) = (set("ANTHROPIC_API_KEY"), set("ANTHROPIC_BASE_URL"));
    let anthropic = key.is_some() || url.is_some();
    provider("anthropic", "anthropic", key, url, ANTHROPIC_MODEL);
    let (key, url) = (set("OPENAI_API_KEY"), set("OPENAI_BASE_URL"));
    let openai = key.is_some() || url.is_some();
    provider("openai", "openai", key, url, OPENAI_MODEL);
    if anthropic && openai {
        section(all, "model").insert("default".into(), format!("anthropic/{ANTHROPIC_MODEL}").into());
    }
    for (name, key) in
        [("GITHUB_TOKEN", "token"), ("GITHUB_API_URL", "api_url"), ("GITHUB_SERVER_URL", "server_url")]
    {
        if let Some(value) = set(name) {
            section(section(all, "forge"), "github").insert(key.into(), value.into());
        }
    }
    for (name, key) in [("BGAGENT_API_URL", "url"), ("BGAGENT_API_KEY", "key")] {
        if let Some(value) = set(name) {
            section(all, "api").insert(key.into(), value.into());
        }
    }
}

/// The sub-table `name`, made when it is missing.
fn section<'a>(table: &'a mut Table, name: &str) -> &'a mut Table {
    let slot = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
    if !slot.is_table() {
        *slot = Value::Table(Table::new());
    }
    match slot {
        Value::Table(table) => table,
        _ => unreachable!("made a table above"),
    }
}

/// `over` over `under`: tables are merged key by key, price rows by model, everything else is replaced.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (Some(Value::Array(rows)), Value::Array(own)) if key == "prices" => {
                rows.retain(|row| !own.iter().any(|o| o.get("model") == row.get("model")));
                rows.extend(own);
            }
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// One `BGAGENT__SECTION__KEY`. The value is read as TOML when the default there is not a text.
fn overlay(all: &mut Table, key: &str, value: &str) -> Result<(), ConfigError> {
    let path: Vec<String> = key.trim_start_matches("BGAGENT__").split("__").map(str::to_lowercase).collect();
    let Some((last, sections)) = path.split_last().filter(|_| path.iter().all(|p| !p.is_empty())) else {
        return Err(ConfigError(format!("{key}: the name must be BGAGENT__SECTION__KEY")));
    };
    let mut table = all;
    for name in sections {
        table = section(table, name);
    }
    let typed = match table.get(last) {
        Some(Value::String(_)) => Value::String(value.to_owned()),
        Some(_) => literal(value)
            .ok_or_else(|| ConfigError(format!("{key}: {value:?} is not a value of its kind")))?,
        None => literal(value)
            .filter(|v| !v.is_float() && !v.is_datetime())
            .unwrap_or_else(|| Value::String(value.to_owned())),
    };
    table.insert(last.clone(), typed);
    Ok(())
}

fn literal(text: &str) -> Option<Value> {
    format!("v = {text}").parse::<Table>().ok()?.remove("v")
}

/// Gives every `[repos."NAME"]` all of its sections: its own keys over those of the sections for all.
fn complete_repos(all: &mut Table) -> Result<(), ConfigError> {
    let compute = section(all, "compute");
    let common: Table = ["read", "image", "limits", "warm"]
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), compute.get(*key)?.clone())))
        .collect();
    let limits = section(all, "limits");
    let own_limits: Table = ["attempts_max", "lifetime_s", "tool_output_bytes"]
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), limits.get(*key)?.clone())))
        .collect();
    let sections: Table = [
        ("compute", Value::Table(common)),
        ("egress", Value::Table(section(all, "egress").clone())),
        ("push", Value::Table(section(all, "push").clone())),
        ("limits", Value::Table(own_limits)),
    ]
    .into_iter()
    .map(|(name, table)| (name.to_owned(), table))
    .collect();
    let repos = std::mem::take(section(all, "repos"));
    for (name, own) in repos {
        let repo: RepoRef =
            name.parse().map_err(|e: domain::repo::BadRepo| ConfigError(format!("[repos.{name:?}]: {e}")))?;
        let Value::Table(own) = own else {
            return Err(ConfigError(format!("[repos.{name:?}] must be a table")));
        };
        let mut whole = sections.clone();
        merge(&mut whole, own);
        section(all, "repos").insert(repo.to_string(), Value::Table(whole));
    }
    Ok(())
}

/// The price rows, typed one by one so that an error names its row.
fn take_prices(all: &mut Table) -> Result<Vec<Price>, ConfigError> {
    let rows = match section(all, "model").remove("prices") {
        Some(Value::Array(rows)) => rows,
        Some(_) => return Err(ConfigError("model.prices must be rows, written as [[model.prices]]".into())),
        None => Vec::new(),
    };
    let typed = rows.into_iter().enumerate().map(|(n, row)| {
        row.try_into::<Price>()
            .map_err(|e| ConfigError(format!("model.prices, row {}: {}", n + 1, e.message())))
    });
    typed.collect()
}

/// A provider that plays a transcript, for tests and the demo.
pub fn script_provider(path: PathBuf) -> ProviderConfig {
    ProviderConfig { path: Some(path), ..ProviderConfig::new(Kind::Script) }
}

#[cfg(test)]
mod tests;
