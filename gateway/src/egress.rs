//! The way to the network: what boxes may reach, and the proxy that takes them there.
//!
//! A box has no network. What its tools send to their proxy comes here through the tunnel ([`crate::tunnel`]), request
//! by request, and each is decided: by the repository's rules first ([`policy`], no name is looked up for what is
//! refused), then by the addresses that the name has ([`resolve`]). Every decision is counted, and told in the task's events
//! once for each host ([`told`]).
//!
//! | module | holds |
//! |---|---|
//! | [`target`], [`rule`], [`policy`] | what is asked for, and whether a rule allows it; pure |
//! | [`address`], [`resolve`] | from a name to addresses that may be connected to |
//! | [`dial`], [`outer`] | the connection: straight, or through the proxy this machine must use itself |
//! | [`forward`], [`connect`], [`hello`] | plain requests; CONNECT, and whose name its TLS says |
//! | [`credential`], [`authority`] | credentials added on the way out, and the certificates that this takes |
//! | [`fetch`] | what people attach by its address |
//! | [`site`] | the registries that tools use on this machine: the groups in rules |
//! | [`attempt`], [`told`] | one attempt's side: connections, end, what was told of it |

pub mod address;
pub mod attempt;
pub mod authority;
pub mod connect;
pub mod credential;
pub mod dial;
pub mod fetch;
pub mod forward;
pub mod hello;
pub mod outer;
pub mod policy;
pub mod resolve;
pub mod rule;
pub mod site;
pub mod stream;
pub mod target;
pub mod told;

use std::sync::Arc;

use domain::PerRepo;
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use self::attempt::Attempts;
use self::authority::Authority;
use self::credential::CredentialSettings;
use self::outer::OuterProxy;
use self::policy::{AskGroups, Groups, Policy};
use self::resolve::{Resolve, SystemResolver};

/// `[egress]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whether what is not allowed is refused.
    pub mode: Mode,
    /// Hosts, and groups by tool.
    pub allow: Vec<String>,
    /// `host:port` of what may have an address that is not public.
    #[serde(default)]
    pub private: Vec<String>,
    /// Credentials that are added on the way out.
    #[serde(default)]
    pub credentials: Vec<CredentialSettings>,
    /// The proxy that this machine must use itself: a URL, `none`, or empty for the environment's.
    #[serde(default)]
    pub upstream_proxy: String,
}

/// What becomes of a request that no rule allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It is let through, if its address is public, and told.
    Observe,
}

/// The proxy, with what it knows of running attempts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Egress {
    parts: Arc<EgressParts>,
    attempts: Attempts,
    work: TaskTracker,
}

/// What the proxy is made of. The default lets nothing through.
#[derive(Debug)]
pub struct EgressParts {
    /// What boxes may reach, by repository.
    pub policies: PerRepo<Arc<Policy>>,
    /// Knows the hosts of the tools' groups.
    pub groups: Arc<dyn AskGroups>,
    /// Looks names up.
    pub resolver: Arc<dyn Resolve>,
    /// The proxy that this machine must use itself.
    pub outer: Option<OuterProxy>,
    /// Signs for the hosts whose TLS ends here; needed when there are credentials.
    pub authority: Option<Arc<Authority>>,
}

impl Default for EgressParts {
    fn default() -> EgressParts {
        EgressParts {
            policies: PerRepo::default(),
            groups: Arc::new(Groups::default()),
            resolver: Arc::new(SystemResolver),
            outer: None,
            authority: None,
        }
    }
}

impl Egress {
    /// A proxy.
    pub fn new(parts: EgressParts) -> Egress {
        Egress { parts: Arc::new(parts), attempts: Attempts::default(), work: TaskTracker::new() }
    }

    /// The certificate that boxes must trust, PEM; none when no TLS ends at the proxy.
    pub fn certificate_pem(&self) -> Option<&str> {
        self.parts.authority.as_ref().map(|authority| authority.certificate_pem())
    }

    pub(crate) fn parts(&self) -> &EgressParts {
        &self.parts
    }
}
