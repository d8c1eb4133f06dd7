//! The groups that rules name by tool: the registries that `cargo`, `npm`, `pip` and `apt` use on this machine.
//!
//! No package host is written here. Each tool is asked what it is configured to use, and where it does not say, it is
//! run once and watched: its request goes to a listener of ours, which notes the host and refuses ([`watch`]). So private
//! mirrors work as they do for the machine's own user.
//!
//! What boxes get of it holds no credential: user and password are cut from addresses, tokens are not read. Where
//! there was one, [`Group::wants`] has the host: it needs `[[egress.credentials]]`.
//!
//! | module | answers |
//! |---|---|
//! | [`mod@cargo`], [`npm`], [`pip`], [`apt`] | what one tool uses |
//! | [`ask`] | how a tool is run: bounded, in a folder of the question's own, with its own variables only |
//! | [`look`] | what a registry says about itself (where its files are) |
//! | [`trust`] | the certificates that boxes trust |
//! | [`book`] | the groups of a running server: kept on disk, refreshed, waited for |

mod address;
mod apt;
mod ask;
pub mod book;
mod cargo;
mod look;
mod npm;
mod pip;
pub mod scratch;
pub mod trust;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::ask::Ask;
use self::look::Look;

/// The environment that tools are asked in.
pub type Env = BTreeMap<String, String>;

/// All that is asked of one tool must be answered in this time.
pub const GROUP_DEADLINE: Duration = Duration::from_secs(20);
/// A tool names at most so many hosts; what is beyond is left out, and the note says so.
const HOSTS_MAX: usize = 64;

/// A tool whose registries are a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    /// Rust's.
    Cargo,
    /// Node's; pnpm and yarn are told the same registry.
    Npm,
    /// Python's; uv is told the same index.
    Pip,
    /// Debian's.
    Apt,
}

impl Tool {
    /// Every tool, in the order of names.
    pub const ALL: [Tool; 4] = [Tool::Apt, Tool::Cargo, Tool::Npm, Tool::Pip];

    /// The group's name in rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Tool::Cargo => "cargo",
            Tool::Npm => "npm",
            Tool::Pip => "pip",
            Tool::Apt => "apt",
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Tool {
    type Err = String;

    fn from_str(text: &str) -> Result<Tool, String> {
        let found = Tool::ALL.into_iter().find(|tool| tool.as_str() == text);
        found.ok_or_else(|| format!("no group is called {text:?}; there are apt, cargo, npm and pip"))
    }
}

/// Who named a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The tool or its configuration on this machine: as good as the operator's word, so it may be a private address.
    Configured,
    /// A registry, of its files: only good for public addresses.
    Learned,
}

/// A host that a tool talks to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Site {
    /// Name or address, as the `url` crate writes it (lower case, IDNA; IPv6 in brackets).
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// Who named it.
    pub origin: Origin,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What one tool uses, and what a box needs to use the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The tool.
    pub tool: Tool,
    /// The hosts, each once.
    pub hosts: Vec<Site>,
    /// Environment for the box. Never a secret.
    pub env: Vec<(String, String)>,
    /// Files for the box: absolute path in it, and text. Never a secret.
    pub files: Vec<(PathBuf, String)>,
    /// Certificate bundles of this machine that the tool is configured to trust.
    pub trust: Vec<PathBuf>,
    /// Hosts and ports that this machine has a credential for. Boxes do not get it: the proxy can add it.
    pub wants: Vec<String>,
    /// What a person should know: why it is empty, or what is left for them to configure.
    pub note: Option<String>,
    /// Whether everything that should answer did; what is incomplete is asked again soon.
    pub complete: bool,
}

impl Group {
    fn new(tool: Tool) -> Group {
        Group {
            tool,
            hosts: vec![],
            env: vec![],
            files: vec![],
            trust: vec![],
            wants: vec![],
            note: None,
            complete: true,
        }
    }

    fn host(&mut self, site: Site) {
        // One that is configured stays so when a registry names it too.
        let same = |known: &Site| (&known.host, known.port, known.tls) == (&site.host, site.port, site.tls);
        if self.hosts.iter().any(same) {
            return;
        }
        if self.hosts.len() == HOSTS_MAX {
            self.say(format!("more than {HOSTS_MAX} hosts: list the others in egress.allow"));
            return;
        }
        self.hosts.push(site);
    }

    fn say(&mut self, words: impl AsRef<str>) {
        let words = words.as_ref();
        match &mut self.note {
            Some(note) if note.contains(words) => (),
            Some(note) => {
                note.push_str("; ");
                note.push_str(words);
            }
            None => self.note = Some(words.to_owned()),
        }
    }

    /// Something that should have answered did not.
    fn miss(&mut self, words: impl AsRef<str>) {
        self.complete = false;
        self.say(words);
    }

    /// The machine has a credential for that host.
    fn want(&mut self, place: String) {
        if !self.wants.contains(&place) {
            self.wants.push(place);
        }
    }

    /// Takes an address that a registry named.
    fn learn(&mut self, text: &str) {
        if let Some(site) = address::Address::learned(text) {
            self.host(site);
        } else if let Some(address) = address::Address::read(text) {
            let site = address.site;
            if !self.hosts.iter().any(|known| (&known.host, known.port) == (&site.host, site.port)) {
                self.say(format!(
                    "a registry of {} keeps files at {site}, which is private: list it in egress.allow and egress.private \
                     if that is right",
                    self.tool
                ));
            }
        }
    }

    /// Takes an address that the tool is configured with: its host counts, and whether it held a credential.
    /// Returns it as boxes may see it.
    fn take(&mut self, text: &str) -> Option<address::Address> {
        let address = address::Address::read(text)?;
        if address.had_secret {
            self.want(address.site.to_string());
        }
        self.host(address.site.clone());
        Some(address)
    }
}

/// What all tools use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sites {
    /// One for each tool.
    pub groups: Vec<Group>,
}

impl Sites {
    /// Asks all tools at once. A tool that is missing or fails gives a group without hosts, and a note.
    /// Each question has a folder of its own below `scratch`.
    pub async fn discover(env: &Env, scratch: &Path) -> Sites {
        let groups = Tool::ALL.map(|tool| discover(tool, env, scratch));
        Sites { groups: futures_util::future::join_all(groups).await }
    }

    /// The group of that tool.
    pub fn of(&self, tool: Tool) -> Option<&Group> {
        self.groups.iter().find(|group| group.tool == tool)
    }
}

/// Asks one tool, with a folder of the question's own below `scratch`, which goes away.
pub async fn discover(tool: Tool, env: &Env, scratch: &Path) -> Group {
    let mut group = Group::new(tool);
    let ask = match Ask::new(tool, env, scratch) {
        Ok(ask) => ask,
        Err(failure) => {
            group.miss(format!("{tool} cannot be asked: {failure}"));
            return group;
        }
    };
    let look = Look::new();
    let asked = async {
        match tool {
            Tool::Cargo => cargo::ask(&ask, &look, &mut group).await,
            Tool::Npm => npm::ask(&ask, &look, &mut group).await,
            Tool::Pip => pip::ask(&ask, &look, &mut group).await,
            Tool::Apt => apt::ask(&ask, &mut group).await,
        }
    };
    // What was found by then stays.
    if tokio::time::timeout(GROUP_DEADLINE, asked).await.is_err() {
        group.miss(format!("{tool} did not say within {} s all that it uses", GROUP_DEADLINE.as_secs()));
    }
    group.hosts.sort();
    group
}
