//! The gateway's socket: a UNIX socket for boxes of this machine, or TCP.
//!
//! Boxes may run as another user, so the socket itself is open to all (0666) where a folder above it keeps others out
//! (0700, this user's); where none does, it is this user's alone (0600).

use std::future::Future;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
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
    let mode = if is_sheltered(path) { 0o666 } else { 0o600 };
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Whether a folder above `path` is this user's and closed to everybody else.
fn is_sheltered(path: &Path) -> bool {
    let me = nix::unistd::geteuid().as_raw();
    let closed = |meta: std::fs::Metadata| meta.is_dir() && meta.uid() == me && meta.mode() & 0o077 == 0;
    path.ancestors().skip(1).any(|folder| folder.symlink_metadata().is_ok_and(closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_open_to_all_only_behind_a_closed_folder() {
        let place = tempfile::Builder::new().prefix("g").tempdir_in("/tmp").unwrap();
        let folder = place.path().join("gateway");
        std::fs::create_dir(&folder).unwrap();
        let socket = folder.join("gateway.sock");
        let mode = || socket.metadata().unwrap().mode() & 0o777;
        let set =
            |mode| std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        set(0o700);
        bind(&Address::Unix(socket.clone())).await.unwrap();
        assert_eq!(mode(), 0o666);
        set(0o711);
        bind(&Address::Unix(socket.clone())).await.unwrap();
        assert_eq!(mode(), 0o600, "a socket that is left behind is replaced, with the right mode");
    }
}
