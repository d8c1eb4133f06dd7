//! What the pipeline is given, the same in every tier: whose work it is, where its folders are, who starts programs, and
//! how these reach the gateway.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use domain::{Attempt, TaskId};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::boxed;
use crate::claim::Claim;
use crate::client::{Address, BadAddress};
use crate::forwarder::Forwarder;
use crate::launch::{Launcher, Layer};
use crate::notice::Notices;
use crate::tunnel::Tunnel;

/// The work of one attempt, and its surroundings.
#[derive(Debug)]
pub struct Job {
    /// The task to work at.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// Where the gateway is, as seen from here.
    pub gateway: Address,
    /// Exchanged for a session token at attach.
    pub bootstrap_token: SecretString,
    /// Where things are kept.
    pub folders: Folders,
    /// Who starts programs.
    pub launcher: Launcher,
    /// Where programs find the gateway.
    pub way: Way,
    /// Objects of the mirror that the work tree may use where they are, as git finds them.
    pub objects: Option<PathBuf>,
    /// What holds the box, as its monitor tells it.
    pub enforced: Option<String>,
    /// What the monitor tells of limits.
    pub monitor: Option<OwnedFd>,
}

/// Where things are kept.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The worker's own: the spool.
    pub private: PathBuf,
    /// The work tree.
    pub repo: PathBuf,
    /// The base's work tree, while it is measured.
    pub baseline: PathBuf,
    /// What the person attached: beside the work tree, so that it is never committed.
    pub attachments: PathBuf,
}

/// How programs of the work reach the gateway.
#[derive(Debug)]
pub enum Way {
    /// A port of this machine's loopback interface, made when it is needed; git brings the token.
    Forwarded,
    /// The port that the tools' first process made in its own network; we bring the token.
    Tunnelled(std::net::TcpListener),
    /// They reach it as we do.
    Same,
}

/// A way that is open while this lives.
#[derive(Debug)]
pub enum Open {
    /// See [`Way::Forwarded`].
    Forwarded(Forwarder),
    /// See [`Way::Tunnelled`].
    Tunnelled {
        /// What programs begin URLs with.
        base: String,
        /// Carries their connections.
        tunnel: Tunnel,
    },
    /// See [`Way::Same`].
    Same(String),
}

impl Job {
    /// Without a box: everything is in the session's folder, and programs run beside us.
    pub fn direct(claim: &Claim) -> Result<Job, BadAddress> {
        let gateway: Address = claim.session.gateway.parse()?;
        let way = match &gateway {
            Address::Unix(_) => Way::Forwarded,
            Address::Http(_) => Way::Same,
        };
        let dir = &claim.dir;
        Ok(Job {
            task: claim.session.task,
            attempt: claim.session.attempt,
            gateway,
            bootstrap_token: claim.bootstrap_token.clone(),
            folders: Folders {
                private: dir.clone(),
                repo: dir.join("repo"),
                baseline: dir.join("baseline"),
                attachments: dir.join("attachments"),
            },
            launcher: Launcher::Direct,
            way,
            objects: claim.session.plan.objects.clone().filter(|objects| boxed::may_be_lent(objects)),
            enforced: None,
            monitor: None,
        })
    }

    /// In a box, whose tools are at the other end of `line`.
    pub async fn boxed(seat: boxed::Seat, line: OwnedFd, monitor: Option<OwnedFd>) -> io::Result<Job> {
        let gateway: Address = seat.gateway.parse().map_err(io::Error::other)?;
        let (tools, listener, within) = sandbox::tools::ToolBox::connect(line).await?;
        let monitor = monitor.or(within);
        let port = listener.local_addr()?.port();
        let environment = boxed::environment(tools.environment(), &seat.env, port);
        let notices = match &monitor {
            Some(line) => Notices::of_a_monitor(line.try_clone()?),
            None => Notices::default(),
        };
        let launcher =
            Launcher::Boxed(Arc::new(Layer { tools, environment, notices, ended: CancellationToken::new() }));
        boxed::place(&launcher, &seat.files).await?;
        Ok(Job {
            task: seat.task,
            attempt: seat.attempt,
            gateway,
            bootstrap_token: seat.bootstrap_token,
            folders: boxed::folders(),
            launcher,
            way: Way::Tunnelled(listener),
            objects: seat.objects.then(|| PathBuf::from(boxed::OBJECTS)),
            enforced: seat.enforced,
            monitor,
        })
    }
}

impl Way {
    /// Opens it.
    pub async fn open(self, gateway: &Address, token: &SecretString) -> io::Result<Open> {
        match (self, gateway) {
            (Way::Forwarded, Address::Unix(socket)) => {
                Forwarder::start(socket.clone()).await.map(Open::Forwarded)
            }
            (Way::Tunnelled(listener), Address::Unix(socket)) => {
                let base = format!("http://{}", listener.local_addr()?);
                let tunnel = Tunnel::start(listener, socket.clone(), token.clone())?;
                Ok(Open::Tunnelled { base, tunnel })
            }
            (Way::Tunnelled(_), Address::Http(_)) => Err(io::Error::other(
                "a box reaches its gateway over a UNIX socket only: set server.gateway_listen to one",
            )),
            (Way::Forwarded | Way::Same, address) => Ok(Open::Same(address.base_url().to_owned())),
        }
    }
}

impl Open {
    /// What programs begin URLs of the gateway with.
    pub fn base_url(&self) -> String {
        match self {
            Open::Forwarded(forwarder) => forwarder.base_url(),
            Open::Tunnelled { base, .. } => base.clone(),
            Open::Same(base) => base.clone(),
        }
    }

    /// Whether programs must bring the token themselves.
    pub fn needs_token(&self) -> bool {
        match self {
            Open::Forwarded(_) | Open::Same(_) => true,
            Open::Tunnelled { .. } => false,
        }
    }
}
