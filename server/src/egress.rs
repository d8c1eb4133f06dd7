//! From the configuration to the proxy that boxes reach the network by.

use std::sync::Arc;

use domain::PerRepo;
use gateway::egress::authority::{Authority, AuthorityError};
use gateway::egress::outer::OuterProxy;
use gateway::egress::policy::{AskGroups, BadPolicy, Policy};
use gateway::egress::resolve::SystemResolver;
use gateway::egress::{Egress, EgressParts};
use jiff::Timestamp;

use crate::config::{Config, Env};
use crate::paths;

/// A proxy that cannot be had: the setting, and what is wrong.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum EgressError {
    Policy(#[from] BadPolicy),
    Authority(#[from] AuthorityError),
}

/// The proxy of a server. `groups` knows the hosts of the tools' groups.
pub fn egress(
    config: &Config,
    state: &paths::State,
    env: &Env,
    groups: Arc<dyn AskGroups>,
    now: Timestamp,
) -> Result<Egress, EgressError> {
    let policies = policies(config)?;
    let credentials = policies.by_repo.values().chain([&policies.default]).flat_map(|p| p.credentials());
    let authority = if credentials.into_iter().any(|credential| credential.tls) {
        Some(Arc::new(Authority::load_or_make(&state.egress_authority(), now)?))
    } else {
        None
    };
    let outer = OuterProxy::from_setting(&config.egress.upstream_proxy, env)?;
    Ok(Egress::new(EgressParts { policies, groups, resolver: Arc::new(SystemResolver), outer, authority }))
}

/// The policies of the configuration; an error names the setting.
pub fn policies(config: &Config) -> Result<PerRepo<Arc<Policy>>, BadPolicy> {
    let default = Arc::new(Policy::parse(&config.egress, "egress")?);
    let own = config.repos.iter().map(|(name, repo)| {
        let at = format!("repos.{name:?}.egress");
        if repo.egress.upstream_proxy != config.egress.upstream_proxy {
            let problem = "one proxy serves all repositories; set it under [egress]".to_owned();
            return Err(BadPolicy { setting: format!("{at}.upstream_proxy"), problem });
        }
        Ok((name.clone(), Arc::new(Policy::parse(&repo.egress, &at)?)))
    });
    Ok(PerRepo { default, by_repo: own.collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_rule_is_named_with_its_setting() {
        let env = [("HOME".to_owned(), "/home/x".to_owned())].into();
        let told = |text: &str| {
            let config = Config::from_text(text, "bgagent.toml", &env).unwrap();
            policies(&config).unwrap_err().to_string()
        };
        let text = told("[egress]\nallow = ['*']\n");
        assert!(text.starts_with("egress.allow: \"*\": "), "{text}");
        let text = told("[repos.'a/b'.egress]\nallow = ['x.example', 'http://y']\n");
        assert!(text.starts_with("repos.\"a/b\".egress.allow: \"http://y\": "), "{text}");
        let text = told("[repos.'a/b'.egress]\nupstream_proxy = 'none'\n");
        assert!(text.contains("upstream_proxy"), "{text}");
    }
}
