//! Puts the control plane together, runs it, and stops it: bind early, build in order, drain with a deadline.
//!
//! Boxes outlive the server: stopping it, or killing it, leaves them running, and the next start finds them again.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use compute::cache::Caches;
use compute::local::{LocalBackend, LocalConfig, environment};
use compute::router::Router;
use content::Inspector;
use domain::{IsolationTier, NodeId};
use forge::github::{self, GitHub};
use forge::local::{LocalAccess, LocalForge};
use forge::mirror::Mirrors;
use gateway::Gateway;
use gateway::egress::fetch::{Fetcher, HostCredential};
use gateway::egress::site::book::{Book, Fill};
use gateway::egress::{Egress, site};
use gateway::listen::Address;
use gateway::model::ModelRouter;
use nix::fcntl::{Flock, FlockArg};
use objects::ObjectError;
use orchestrator::tasks::OnPanic;
use orchestrator::{Clock, Forges, Masks, Orchestrator, Parts, Policy, Tasks, TokenKey, fault};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::{Store, StoreError};
use telemetry::Traces;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::api::{self, App, Settings};
use crate::boxes;
use crate::config::{self, Config, ConfigError, Env};
use crate::cursor::Cursors;
use crate::identity::api_key::ApiKeys;
use crate::identity::oidc::Oidc;
use crate::identity::{Keys, secret_file};
use crate::listen;
use crate::outfit::{Kit, Outfit};
use crate::paths;
use crate::webhook::WebhookKey;

/// After this long, what has not drained is left.
const DRAIN: Duration = Duration::from_secs(5);
/// Between two looks for dependency caches that nobody uses.
const CACHE_SWEEP: Duration = Duration::from_secs(3_600);

/// What `serve` is told besides the configuration.
#[derive(Debug, Clone, Default)]
pub struct ServeOptions {
    /// Address of the people's API, over the configuration's.
    pub listen: Option<String>,
    /// Idle seconds after which to stop, over the configuration's.
    pub idle_exit_s: Option<u64>,
    /// The program that boxes run; this one when absent.
    pub program: Option<PathBuf>,
    /// Who started it.
    pub starter: Starter,
}

/// Who started a server. One that a command started may be replaced by a command when it has nothing to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Starter {
    /// A person, or a service manager.
    #[default]
    Person,
    /// A command that needed one.
    Command,
}

/// Where a server listens, told once it is ready.
#[derive(Debug, Clone)]
pub struct Listening {
    /// Base URL of the people's API.
    pub url: String,
    /// State folder.
    pub state_dir: PathBuf,
}

/// Why a server could not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ServeError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{doing} {path}: {source}; make it writable, or set BGAGENT__STATE_DIR to another folder")]
    State { doing: &'static str, path: String, source: std::io::Error },
    #[error(
        "another bgagent server{pid} uses {dir}; use that one, stop it, or set BGAGENT__STATE_DIR to another folder"
    )]
    Taken { dir: String, pid: String },
    #[error(
        "cannot listen on {address}: {source}; choose another with --listen (127.0.0.1:0 takes any free port)"
    )]
    Listen { address: String, source: std::io::Error },
    #[error(
        "{address} is reachable from other machines, and this server knows nobody but its owner's key; configure an identity provider ([identity.oidc.NAME], see `docs/guide/identity.md`), or listen on 127.0.0.1"
    )]
    NobodyKnown { address: String },
    #[error(
        "{address} is reachable from other machines, and boxes are on this one; use 127.0.0.1, or a UNIX socket as unix:/path"
    )]
    GatewayNotLoopback { address: String },
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("objects: {0}")]
    Objects(ObjectError),
    #[error("model configuration: {0}")]
    Model(domain::Failure),
    #[error("forge configuration: {0}")]
    Forge(#[from] github::ConfigError),
    #[error("{0}")]
    Other(String),
}

/// Runs a control plane until it is told to stop. `ready` is called once, when it listens.
pub async fn serve(
    config: Config,
    env: &Env,
    options: ServeOptions,
    ready: impl FnOnce(&Listening),
) -> Result<(), ServeError> {
    if let Some(point) = env.get("BGAGENT_FAULT_POINT").filter(|p| !p.is_empty()) {
        fault::arm(point).map_err(ServeError::Other)?;
    }
    let state = paths::State(config.state_dir.clone());
    private_dir(&state.0)?;
    let lock = lock(&state)?;
    clear(&state);
    let oidc = Oidc::new(&config.identity.oidc).map_err(|why| ConfigError(format!("identity.oidc.{why}")))?;
    let reach = if oidc.is_some() { Reach::Anywhere } else { Reach::ThisMachine };
    let listener = match bind(options.listen.as_deref().unwrap_or(&config.server.listen), reach).await {
        // Whoever needed a server finds it by its file: another port is as good.
        Err(ServeError::Listen { .. }) if options.starter == Starter::Command => {
            bind("127.0.0.1:0", reach).await?
        }
        bound => bound?,
    };
    let address =
        listener.local_addr().map_err(|source| ServeError::Listen { address: "?".into(), source })?;
    let metrics = crate::metrics::recorder()
        .map_err(|e| ServeError::Other(format!("the metrics recorder could not be installed: {e}")))?;
    let counting = metrics.clone();
    let secret = |path: PathBuf, prefix: &str| {
        secret_file(&path, prefix).map_err(|source| ServeError::State {
            doing: "cannot read or make the key",
            path: path.display().to_string(),
            source,
        })
    };
    let owner = secret(state.owner_key(), "bgak_")?;
    let token_key = secret(state.token_key(), "")?;
    let webhook_key = secret(state.webhook_key(), "")?;
    let fingerprint = config::fingerprint(env, &owner);
    for concern in config.secrets.concerns() {
        warn!(concern, "a secret should be kept better");
    }
    let masks = Masks::new(
        &[config.secrets.values(), vec![owner.clone(), token_key.clone(), webhook_key.clone()]].concat(),
    );
    let models = Arc::new(ModelRouter::new(config.model.clone()).map_err(ServeError::Model)?);
    let gateway_address = gateway_address(&config, &state, env)?;
    let store = Store::open_sqlite(&state.database()).await?;
    let tasks = Tasks::default();
    let sites = Book::new(env.clone(), state.sites(), state.tmp());
    let egress = crate::egress::egress(&config, &state, env, Arc::new(sites.clone()), Clock::System.now())
        .map_err(|e| ServeError::Other(e.to_string()))?;
    let backends = Arc::new(backends(&config, &state, &options, env, gateway_address.for_boxes())?);
    let fetcher = fetcher(&config, &egress)?;
    let own = egress.certificate_pem().map(str::to_owned);
    let kit = Kit { book: sites.clone(), env: env.clone(), own, bundle: state.box_ca() };
    let compute = Arc::new(Outfit::new(backends, kit));
    let caches = Caches::new(state.caches());
    let node = node_id();
    let (traces, telling) = telling(&config, &node)?;
    let orchestrator = Orchestrator::new(Parts {
        store,
        forges: forges(&config)?,
        mirrors: Mirrors::new(state.mirrors(), state.pushes()),
        objects: crate::objects::open(&config, &state, env).await?,
        fetch: Arc::new(fetcher),
        inspector: Arc::new(Inspector::new(own_program(&options)?)),
        compute,
        models: models.clone(),
        token_key: TokenKey::new(token_key.clone()),
        policy: Policy { caches: Some(caches.clone()), masks, traces, ..config.policy() },
        clock: Clock::System,
        node,
        gateway: gateway_address.for_boxes(),
    });
    let gateway = Gateway::new(orchestrator.clone(), models.clone()).with_egress(egress);
    let (routes, stop) = (gateway.routes(), tasks.stopping());
    let bound = gateway::listen::bind(&gateway_address)
        .await
        .map_err(|source| ServeError::Listen { address: gateway_address.for_boxes(), source })?;
    tasks.spawn("gateway", OnPanic::Stop, async move {
        if let Err(failure) = bound.serve(routes, async move { stop.cancelled().await }).await {
            warn!(error = %failure, "the gateway ended");
        }
    });
    orchestrator.run(&tasks);
    tasks.spawn("metrics", OnPanic::Log, crate::metrics::keep(counting, tasks.stopping()));
    keep_boxes_ready(&tasks, &config, &state, sites, caches);
    let wire = config.identity.oidc.iter().map(|(name, provider)| api::identity::wire(name, provider));
    let settings = Settings {
        teams: config.teams.clone(),
        identity: wire.collect(),
        rates: config.rate.clone(),
        public_url: match config.server.public_url.as_str() {
            "" => format!("http://{address}"),
            url => url.to_owned(),
        },
        webhook_key: WebhookKey::new(webhook_key),
        webhook_signature: config.webhooks.signature,
        proxies: config.server.trusted_proxies.clone(),
    };
    let keys = Keys::new(owner).and(Arc::new(ApiKeys::new(orchestrator.store().clone())));
    let keys = match &oidc {
        Some(oidc) => keys.and(Arc::new(oidc.clone())),
        None => keys,
    };
    if let Some(oidc) = oidc {
        let stop = tasks.stopping();
        tasks.spawn("identity", OnPanic::Log, async move {
            tokio::select! {
                () = oidc.look(Clock::System.now()) => (),
                () = stop.cancelled() => (),
            }
        });
    }
    let app = App::new(orchestrator.clone(), keys, Cursors::new(token_key), metrics, settings);
    let (auditing, stop) = (app.clone(), tasks.stopping());
    tasks.spawn("audit", OnPanic::Stop, async move {
        auditing.trail().keep(auditing.orchestrator().store(), stop).await;
    });
    watch_for_stop(&tasks, &app, options.idle_exit_s.unwrap_or(config.server.idle_exit_s));
    let listening = Listening { url: format!("http://{address}"), state_dir: state.0.clone() };
    publish(&state, &listening, options.starter, &fingerprint)?;
    info!(url = listening.url, state = %state.0.display(), "listening");
    ready(&listening);
    let stop = tasks.stopping();
    let served = listen::serve(listener, api::routes(app), async move { stop.cancelled().await });
    // Streams of watchers stay open until their task ends: past the deadline they are cut, and resume by cursor.
    let stop = tasks.stopping();
    tokio::select! {
        () = served => (),
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => (),
    }
    tasks.stop();
    let _ = tokio::time::timeout(DRAIN, tasks.drained()).await;
    let _ = models.drain(DRAIN).await;
    // Last, so that all of the above has told what it had to.
    telling.stop();
    let _ = tokio::time::timeout(otlp::FLUSH * 2, telling.drained()).await;
    let _ = std::fs::remove_file(state.server_json());
    clear(&state);
    drop(lock);
    info!("stopped; running tasks go on and are found again at the next start");
    Ok(())
}

/// Where spans are given, and what sends them: apart from the other work, because it stops after it.
fn telling(config: &Config, node: &NodeId) -> Result<(Traces, Tasks), ServeError> {
    let tasks = Tasks::default();
    let Some((settings, exporter)) = config.telemetry.build(node.as_str())? else {
        return Ok((Traces::default(), tasks));
    };
    let (traces, queue) = Traces::new(settings);
    tasks.spawn("telemetry", OnPanic::Log, exporter.run(queue, tasks.stopping()));
    Ok((traces, tasks))
}

/// What boxes need is found out before the first one, and kept fresh; what none needs any more is removed.
fn keep_boxes_ready(tasks: &Tasks, config: &Config, state: &paths::State, sites: Book, caches: Caches) {
    let fill = match config.compute.isolation {
        IsolationTier::Process => Fill::WhenAsked,
        IsolationTier::Sandbox | IsolationTier::Container | IsolationTier::Microvm => {
            let all = std::iter::once(&config.egress).chain(config.repos.values().map(|repo| &repo.egress));
            Fill::Now(all.flat_map(|egress| egress.allow.clone()).collect())
        }
    };
    let stop = tasks.stopping();
    tasks.spawn("sites", OnPanic::Log, async move { sites.keep_fresh(fill, stop).await });
    let (stop, sessions) = (tasks.stopping(), [state.sessions(), state.containers()]);
    tasks.spawn("caches", OnPanic::Log, async move {
        loop {
            let (caches, sessions) = (caches.clone(), sessions.clone());
            match tokio::task::spawn_blocking(move || caches.sweep(&sessions)).await {
                Ok(Ok(0)) => (),
                Ok(Ok(removed)) => info!(removed, "dependency caches that no box uses were removed"),
                Ok(Err(failure)) => warn!(error = %failure, "dependency caches could not be cleaned up"),
                Err(failure) => warn!(error = %failure, "dependency caches could not be cleaned up"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CACHE_SWEEP) => (),
            }
        }
    });
}

/// Takes away what questions to tools left; for the holder of the lock, while it asks nothing.
fn clear(state: &paths::State) {
    match site::scratch::clear(&state.tmp()) {
        Ok(0) => (),
        Ok(removed) => info!(removed, "folders of questions that were cut short were removed"),
        Err(failure) => warn!(error = %failure, "the folder for temporary files could not be emptied"),
    }
}

/// Makes a folder of this user's only.
fn private_dir(dir: &Path) -> Result<(), ServeError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| ServeError::State {
        doing: "cannot make the state folder",
        path: dir.display().to_string(),
        source,
    })
}

/// One server for one state folder: two would both drive its tasks.
fn lock(state: &paths::State) -> Result<Flock<File>, ServeError> {
    let path = state.lock();
    let failed =
        |source| ServeError::State { doing: "cannot write", path: path.display().to_string(), source };
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            let pid = std::process::id().to_string();
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(pid.as_bytes()))
                .map_err(failed)?;
            Ok(file)
        }
        Err((mut file, _)) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid =
                if pid.trim().is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
            Err(ServeError::Taken { dir: state.0.display().to_string(), pid })
        }
    }
}

/// From where the people's API may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Nobody is known but the owner.
    ThisMachine,
    /// People are told apart.
    Anywhere,
}

async fn bind(address: &str, reach: Reach) -> Result<TcpListener, ServeError> {
    let failed = |source| ServeError::Listen { address: address.to_owned(), source };
    let all: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(failed)?.collect();
    match (all.iter().all(|a| a.ip().is_loopback()), reach) {
        (true, _) => (),
        (false, Reach::ThisMachine) => return Err(ServeError::NobodyKnown { address: address.to_owned() }),
        (false, Reach::Anywhere) => {
            warn!(address, "tokens and keys come in unencrypted: put a TLS proxy before this address");
        }
    }
    TcpListener::bind(all.as_slice()).await.map_err(failed)
}

fn gateway_address(config: &Config, state: &paths::State, env: &Env) -> Result<Address, ServeError> {
    match config.server.gateway_listen.as_str() {
        "" => {
            let path = state.gateway_socket(env);
            if let Some(dir) = path.parent() {
                passable_dir(dir)?;
            }
            Ok(Address::Unix(path))
        }
        text => match text.strip_prefix("unix:") {
            Some(path) => Ok(Address::Unix(PathBuf::from(path))),
            None => match text.parse::<SocketAddr>() {
                Ok(address) if address.ip().is_loopback() => Ok(Address::Tcp(text.to_owned())),
                Ok(_) | Err(_) => Err(ServeError::GatewayNotLoopback {
                    address: format!("server.gateway_listen = {text:?}"),
                }),
            },
        },
    }
}

/// A folder that boxes, which may be another user, can pass through once they are shown it. The folder above it is made
/// this user's only, so nobody else comes near it.
fn passable_dir(dir: &Path) -> Result<(), ServeError> {
    let above = dir.parent().unwrap_or(dir);
    for (folder, mode) in [(above, 0o700), (dir, 0o711)] {
        private_dir(folder)?;
        owned_dir(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).map_err(|source| {
            ServeError::State { doing: "cannot set the mode of", path: folder.display().to_string(), source }
        })?;
    }
    Ok(())
}

/// A folder in a place that others can write to must be ours.
fn owned_dir(dir: &Path) -> Result<(), ServeError> {
    use std::os::unix::fs::MetadataExt as _;
    let path = dir.display().to_string();
    let meta = std::fs::symlink_metadata(dir).map_err(|source| ServeError::State {
        doing: "cannot look at",
        path: path.clone(),
        source,
    })?;
    if meta.uid() == nix::unistd::Uid::current().as_raw() && meta.is_dir() {
        return Ok(());
    }
    let source = std::io::Error::other("it belongs to another user");
    Err(ServeError::State { doing: "cannot keep the gateway's socket in", path, source })
}

/// The code hosts of the configuration.
pub(crate) fn forges(config: &Config) -> Result<Forges, ServeError> {
    let token = &config.forge.github.token;
    let github = GitHub::new(github::Config {
        api_url: config.forge.github.api_url.clone(),
        server_url: config.forge.github.server_url.clone(),
        token: (!token.expose_secret().is_empty())
            .then(|| SecretString::from(token.expose_secret().to_owned())),
    })?;
    let access = if config.forge.local.enabled { LocalAccess::Allowed } else { LocalAccess::Disabled };
    Ok(Forges { github: Arc::new(github), local: Arc::new(LocalForge::new(access)) })
}

/// Gets what people attach by its address.
fn fetcher(config: &Config, egress: &Egress) -> Result<Fetcher, ServeError> {
    let ca_file = Some(config.attachments.ca_file.as_path()).filter(|path| !path.as_os_str().is_empty());
    let bad = |e| ConfigError(format!("attachments.ca_file: {e}"));
    Ok(egress.fetcher(code_host(config), ca_file).map_err(bad)?)
}

/// The code host's token for what people attach from there; its hosts alone are given it.
fn code_host(config: &Config) -> Vec<HostCredential> {
    let config::GitHub { token, server_url, api_url } = &config.forge.github;
    if token.expose_secret().is_empty() {
        return Vec::new();
    }
    let host = |url: &str| Some(url::Url::parse(url).ok()?.host_str()?.to_owned());
    let own = [host(server_url), host(api_url)].into_iter().flatten();
    let raw = own.clone().any(|host| host == "github.com").then(|| "raw.githubusercontent.com".to_owned());
    let token = SecretString::from(token.expose_secret().to_owned());
    vec![HostCredential { hosts: own.chain(raw).collect(), token }]
}

/// Every backend of this machine.
fn backends(
    config: &Config,
    state: &paths::State,
    options: &ServeOptions,
    env: &Env,
    gateway: String,
) -> Result<Router, ServeError> {
    let local = local_backend(config, state, options, gateway)?;
    Ok(boxes::router(local, boxes::container(config, env, program(options)?)))
}

fn program(options: &ServeOptions) -> Result<PathBuf, ServeError> {
    match &options.program {
        Some(program) => Ok(program.clone()),
        None => std::env::current_exe()
            .map_err(|e| ServeError::Other(format!("cannot find this program's file: {e}"))),
    }
}

/// The program that boxes of this machine run, and that looks at attachments: this very one, also when its file was
/// replaced or removed since the server was started (an upgrade): the kernel keeps what runs, and finds it by this name
/// for this process and what it starts.
fn own_program(options: &ServeOptions) -> Result<PathBuf, ServeError> {
    let running = Path::new("/proc/self/exe");
    match &options.program {
        None if running.exists() => Ok(running.to_owned()),
        Some(_) | None => program(options),
    }
}

fn local_backend(
    config: &Config,
    state: &paths::State,
    options: &ServeOptions,
    gateway: String,
) -> Result<LocalBackend, ServeError> {
    let program = own_program(options)?;
    private_dir(&state.sessions())?;
    let env = environment(std::env::vars_os(), &config.compute.env);
    Ok(LocalBackend::new(LocalConfig { sessions_dir: state.sessions(), program, env, gateway }))
}

fn node_id() -> NodeId {
    let mut random = [0u8; 8];
    // Distinguishes this process from the one before; the process id alone can repeat.
    let _ = getrandom::fill(&mut random);
    NodeId::new(format!("{}-{}", std::process::id(), hex::encode(random)))
}

/// Tells the command line where the server of this state folder is.
fn publish(
    state: &paths::State,
    listening: &Listening,
    starter: Starter,
    fingerprint: &str,
) -> Result<(), ServeError> {
    let path = state.server_json();
    let text = json!({
        "url": listening.url, "pid": std::process::id(), "started_at": Clock::System.now(),
        "background": starter == Starter::Command, "settings": fingerprint,
    })
    .to_string();
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &path)).map_err(|source| {
        ServeError::State { doing: "cannot write", path: path.display().to_string(), source }
    })
}

/// Stops at SIGTERM, SIGINT, or when nothing was asked and nothing runs for `idle_s` seconds.
fn watch_for_stop(tasks: &Tasks, app: &App, idle_s: u64) {
    let (stopper, app) = (tasks.clone(), app.clone());
    tasks.spawn("signals", OnPanic::Stop, async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            warn!("signals cannot be caught; the server stops only when it is killed");
            return;
        };
        let mut look = tokio::time::interval(Duration::from_secs(1));
        let stop = stopper.stopping();
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                () = stop.cancelled() => break,
                _ = look.tick(), if idle_s > 0 => {
                    if app.activity().idle_s() >= idle_s && at_rest(&app).await {
                        info!(idle_s, "nothing to do; stopping");
                        break;
                    }
                }
            }
        }
        stopper.stop();
    });
}

/// Whether no task runs or waits and no obligation is open.
async fn at_rest(app: &App) -> bool {
    let store = app.orchestrator().store();
    let (Ok(counts), Ok(open)) = (store.task_counts(None).await, store.obligation_list().await) else {
        return false;
    };
    open.is_empty() && counts.iter().all(|(status, n)| status.is_terminal() || *n == 0)
}
