//! The registries of the tools of this machine as `doctor` tells them.

use std::collections::BTreeSet;

use gateway::egress::site::Group;
use gateway::egress::site::book::Book;
use gateway::egress::target::Target;

use crate::config::{Config, Env};
use crate::paths::State;

/// What one tool uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// The tool: the name of its group in rules.
    pub tool: &'static str,
    /// Whether a rule names the group.
    pub named: bool,
    /// Hosts with ports.
    pub hosts: Vec<String>,
    /// Of these, the ones that this machine has a credential for and the configuration has none.
    pub wants: Vec<String>,
    /// What a person should know.
    pub note: Option<String>,
}

/// Asks the tools, or what was kept of their answers.
pub async fn registries(config: &Config, env: &Env) -> Vec<Registry> {
    let state = State(config.state_dir.clone());
    let book = Book::new(env.clone(), state.sites(), state.tmp());
    let own = config.repos.values().map(|repo| &repo.egress);
    let egress: Vec<_> = own.chain([&config.egress]).collect();
    let named: BTreeSet<&str> = egress.iter().flat_map(|e| &e.allow).map(|rule| rule.trim()).collect();
    let place = |host: &str| Target::parse(host.trim(), Some(443)).ok().map(|target| target.to_string());
    let given: BTreeSet<String> =
        egress.iter().flat_map(|e| &e.credentials).filter_map(|c| place(&c.host)).collect();
    let registry = |group: &Group| Registry {
        tool: group.tool.as_str(),
        named: named.contains(group.tool.as_str()),
        hosts: group.hosts.iter().map(ToString::to_string).collect(),
        wants: group.wants.iter().filter(|host| !given.contains(*host)).cloned().collect(),
        note: group.note.clone(),
    };
    book.all().await.iter().map(|group| registry(group)).collect()
}
