//! The gateway's socket: a UNIX socket for boxes of this machine (0600: only this user's processes), or TCP.

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use axum::Router;
use tokio::net::{TcpListener, UnixListener};

/// Where the gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A UNIX socket at this path.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(String),
}

impl Address {
    /// As boxes are told: `unix:/path` or `http://host:port`.
    pub fn for_boxes(&self) -> String {
        match self {
            Address::Unix(path) => format!("unix:{}", path.display()),
            Address::Tcp(address) => format!("http://{address}"),
        }
    }
}

/// A bound socket.
#[derive(Debug)]
pub enum Bound {
    /// A UNIX socket.
    Unix(UnixListener),
    /// A TCP port.
    Tcp(TcpListener),
}

/// Binds `address`. The socket of a server that died is replaced.
pub async fn bind(address: &Address) -> std::io::Result<Bound> {
    match address {
        Address::Unix(path) => bind_unix(path).map(Bound::Unix),
        Address::Tcp(address) => TcpListener::bind(address).await.map(Bound::Tcp),
    }
}

impl Bound {
    /// Serves `routes` until `stop` ends.
    pub async fn serve(
        self,
        routes: Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        match self {
            Bound::Unix(listener) => axum::serve(listener, routes).with_graceful_shutdown(stop).await,
            Bound::Tcp(listener) => axum::serve(listener, routes).with_graceful_shutdown(stop).await,
        }
    }
}

/// Binds beside the final name and renames, so that there is never a moment without the right permissions.
fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    let fresh = path.with_extension("new");
    if fresh.exists() {
        std::fs::remove_file(&fresh)?;
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}
