//! A network for the proxy: names that a test scripts, hosts that listen on loopback, and the box's end of the tunnel,
//! at which real clients (curl, Python) find a proxy.

use std::collections::HashMap;
use std::io::Error;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, Method, Request, Uri};
use domain::PerRepo;
use gateway::egress::EgressParts;
use gateway::egress::authority::Authority;
use gateway::egress::policy::{GroupHost, Groups, Policy};
use gateway::egress::resolve::{Reach, Resolve};
use gateway::egress::target::Target;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::world::{Boxed, World};

/// What each name answers, one answer after the other; the last stays.
#[derive(Debug, Clone, Default)]
pub struct Names {
    answers: Arc<Mutex<HashMap<String, Vec<Vec<IpAddr>>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Names {
    pub fn set(&self, name: &str, answers: &[&str]) {
        let read = |text: &&str| text.split(' ').map(|ip| ip.parse().unwrap()).collect();
        self.answers.lock().unwrap().insert(name.into(), answers.iter().map(read).collect());
    }

    /// The names that were looked up.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Resolve for Names {
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.into());
        let mut answers = self.answers.lock().unwrap();
        let left = answers.get_mut(name).ok_or_else(|| Error::other("no such name"))?;
        Ok(if left.len() > 1 { left.remove(0) } else { left[0].clone() })
    }
}

/// A proxy with this policy (`[egress]` in TOML) and these names.
pub fn parts(names: &Names, policy: &str) -> EgressParts {
    let settings = toml::from_str(&format!("mode = 'enforce'\n{policy}"))
        .or_else(|_| toml::from_str(policy))
        .unwrap_or_else(|e| panic!("{e}"));
    let policy = Policy::parse(&settings, "egress").unwrap_or_else(|e| panic!("{e}"));
    let now = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    EgressParts {
        policies: PerRepo::new(Arc::new(policy)),
        resolver: Arc::new(names.clone()),
        authority: Some(Arc::new(Authority::in_memory(now).unwrap())),
        ..EgressParts::default()
    }
}

/// The group `cargo` with one host.
pub fn group(host: &str, reach: Reach) -> Groups {
    let target = Target::parse(host, None).unwrap();
    Groups([("cargo".to_owned(), vec![GroupHost { target, reach }])].into())
}

/// A task on its own that ends with the test.
#[derive(Debug)]
pub struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "ends with the test")]
pub fn background(work: impl Future<Output = ()> + Send + 'static) -> Running {
    Running(tokio::spawn(work).abort_handle())
}

/// A host on loopback that tells what it was asked.
pub struct Host {
    pub port: u16,
    /// Connections that it took.
    pub taken: Arc<Mutex<u32>>,
    _running: Running,
}

/// Answers with the request as it came.
fn echo() -> Router {
    let echo = |method: Method, uri: Uri, headers: HeaderMap, body: String| async move {
        let mut lines = vec![format!("{method} {uri}")];
        lines.extend(headers.iter().map(|(k, v)| format!("{k}: {}", v.to_str().unwrap())));
        lines.push(format!("body: {body}"));
        lines.join("\n") + "\n"
    };
    let redirect = || async { (axum::http::StatusCode::FOUND, [("location", "http://elsewhere.example/x")]) };
    let large = || async { Body::from(vec![b'x'; 5_000_000]) };
    Router::new()
        .route("/redirect", axum::routing::any(redirect))
        .route("/large", axum::routing::get(large))
        .route(
            "/to",
            axum::routing::get(|RawQuery(to): RawQuery| async move {
                (axum::http::StatusCode::FOUND, [("location", to.unwrap_or_default())])
            }),
        )
        .route("/gone", axum::routing::get(|| async { axum::http::StatusCode::NOT_FOUND }))
        .route("/busy", axum::routing::get(|| async { axum::http::StatusCode::SERVICE_UNAVAILABLE }))
        .fallback(echo)
}

impl Host {
    /// Speaks HTTP.
    pub async fn http() -> Host {
        Host::start(None).await
    }

    /// Speaks HTTPS with a certificate for `name`, which the answer's second part certifies (PEM).
    pub async fn https(name: &str) -> (Host, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
        (Host::start(Some(TlsAcceptor::from(Arc::new(config.unwrap())))).await, certificate.pem())
    }

    async fn start(tls: Option<TlsAcceptor>) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::new(Mutex::new(0));
        let count = taken.clone();
        let running = background(async move {
            let mut all = vec![];
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                let tls = tls.clone();
                all.push(background(async move {
                    let service = hyper_util::service::TowerToHyperService::new(echo());
                    let server = hyper::server::conn::http1::Builder::new();
                    match tls {
                        None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(server.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                }));
            }
        });
        Host { port, taken, _running: running }
    }

    pub fn taken(&self) -> u32 {
        *self.taken.lock().unwrap()
    }
}

/// The box's end: a proxy on loopback whose every connection is a tunnel.
pub struct Tunnel {
    pub port: u16,
    pub me: Boxed,
    gateway: SocketAddr,
    _running: [Running; 2],
}

impl Tunnel {
    /// Of a new task's box.
    pub async fn new(world: &World) -> Tunnel {
        let me = world.boxed().await;
        Tunnel::of(world, me).await
    }

    pub async fn of(world: &World, me: Boxed) -> Tunnel {
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = gateway.local_addr().unwrap();
        let router = world.router.clone();
        let serving = background(async move { axum::serve(gateway, router).await.unwrap() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let token = me.token.clone();
        let forwarding = background(async move {
            let mut all = vec![];
            loop {
                let (mut tool, _) = listener.accept().await.unwrap();
                let token = token.clone();
                all.push(background(async move {
                    let stream = TcpStream::connect(address).await.unwrap();
                    if let Ok(mut tunnel) = upgrade(stream, &token).await {
                        let _ = tokio::io::copy_bidirectional(&mut tool, &mut tunnel).await;
                    }
                }));
            }
        });
        Tunnel { port, me, gateway: address, _running: [serving, forwarding] }
    }

    /// A stream of the tunnel.
    pub async fn open(&self) -> Result<TokioIo<hyper::upgrade::Upgraded>, String> {
        upgrade(TcpStream::connect(self.gateway).await.unwrap(), &self.me.token).await
    }

    pub fn proxy(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What curl says, its answer and its complaints.
    pub async fn curl(&self, args: &[&str]) -> String {
        let mut curl = command("curl");
        curl.args(["-sS", "-i", "--max-time", "20", "-x", &self.proxy()]).args(args);
        said(curl).await
    }

    /// The bytes that come back for these, until the other side closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = vec![];
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(20), read).await.expect("it stays open");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub fn command(program: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

pub async fn said(mut command: tokio::process::Command) -> String {
    let out = command.output().await.unwrap();
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

/// Opens a tunnel on a connection to the gateway.
pub async fn upgrade(stream: TcpStream, token: &str) -> Result<TokioIo<hyper::upgrade::Upgraded>, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let request = Request::get("/box/v1/tunnel")
        .header("host", "gateway")
        .header("authorization", format!("Bearer {token}"))
        .header("connection", "upgrade")
        .header("upgrade", "bgagent-tunnel")
        .body(Body::empty())
        .unwrap();
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        match answer.status().as_u16() {
            101 => hyper::upgrade::on(answer).await.map_err(|e| e.to_string()),
            status => Err(format!("status {status}")),
        }
    };
    tokio::pin!(asked);
    let asked = tokio::select! {
        asked = &mut asked => asked,
        _ = connection.with_upgrades() => asked.await,
    };
    asked.map(TokioIo::new)
}
