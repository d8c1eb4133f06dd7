//! What a repository's boxes may reach: decided from the configuration alone, before any name is looked up, so that a
//! name that is not allowed is not even asked of DNS.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

use super::credential::{BadCredential, Credential};
use super::resolve::Reach;
use super::rule::{BadRule, Rule};
use super::target::{BadTarget, Target};
use super::{Mode, Settings};

/// The names in `allow` that stand for the hosts of a tool.
pub const GROUPS: [&str; 4] = ["apt", "cargo", "npm", "pip"];

/// A host of a tool's group; host and port are exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHost {
    /// The host and port.
    pub target: Target,
    /// Whether its address may be a private one: when the tool's own configuration on this machine names it.
    pub reach: Reach,
}

/// Knows the hosts of the tools' groups.
#[async_trait]
pub trait AskGroups: fmt::Debug + Send + Sync {
    /// The hosts of the group of this name, one of [`GROUPS`]. What is not known yet is waited for, within bounds.
    async fn hosts(&self, group: &str) -> Vec<GroupHost>;
}

/// The hosts of the groups that a policy names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups(pub BTreeMap<String, Vec<GroupHost>>);

/// The same hosts always.
#[async_trait]
impl AskGroups for Groups {
    async fn hosts(&self, group: &str) -> Vec<GroupHost> {
        self.0.get(group).cloned().unwrap_or_default()
    }
}

/// The egress policy of a repository. Deny by default.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    mode: Mode,
    rules: Vec<Rule>,
    groups: Vec<String>,
    private: Vec<Target>,
    credentials: Vec<Credential>,
}

/// A policy that cannot be used: which setting, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct BadPolicy {
    /// The setting, as `egress.allow`.
    pub setting: String,
    /// What is wrong.
    pub problem: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A rule allows it.
    Allowed(Grant),
    /// No rule does, and the mode is to look on.
    Observed,
    /// No rule does.
    Denied,
}

/// What a rule grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The rule, or the group's name.
    pub rule: String,
    /// What may be spoken with the host.
    pub speech: Speech,
}

/// What may be spoken within a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// TLS that names this host, or HTTP that the proxy reads.
    Web,
    /// Anything: the rule names the port. TLS must still not name another host.
    Any,
}

impl Policy {
    /// Reads the settings that are called `at` (`egress`, or `repos."NAME".egress`) in errors.
    pub fn parse(settings: &Settings, at: &str) -> Result<Policy, BadPolicy> {
        let bad = |key: &str, text: &str, problem: &dyn fmt::Display| BadPolicy {
            setting: format!("{at}.{key}"),
            problem: format!("{text:?}: {problem}"),
        };
        let mut policy = Policy { mode: settings.mode, ..Policy::default() };
        for text in settings.allow.iter().map(|text| text.trim()) {
            if GROUPS.contains(&text) {
                policy.groups.push(text.to_owned());
            } else {
                policy.rules.push(Rule::parse(text).map_err(|e: BadRule| bad("allow", text, &e))?);
            }
        }
        for text in &settings.private {
            let target = Target::parse(text.trim(), None).map_err(|e: BadTarget| bad("private", text, &e))?;
            policy.private.push(target);
        }
        for setting in &settings.credentials {
            let credential = Credential::parse(setting)
                .map_err(|e: BadCredential| bad("credentials", &setting.host, &e))?;
            // Whether it is a group's is known only later; a request that no rule allows gets no credential in any case.
            if policy.groups.is_empty() && policy.grant(&credential.target, &Groups::default()).is_none() {
                let problem =
                    "a credential is for a host that `allow` names; add it there, or remove the credential";
                return Err(bad("credentials", &setting.host, &problem));
            }
            policy.credentials.push(credential);
        }
        Ok(policy)
    }

    /// Decides about one target.
    pub fn decide(&self, target: &Target, groups: &Groups) -> Verdict {
        match (self.grant(target, groups), self.mode) {
            (Some(grant), _) => Verdict::Allowed(grant),
            (None, Mode::Observe) => Verdict::Observed,
            (None, Mode::Enforce) => Verdict::Denied,
        }
    }

    /// The names of its groups.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    fn grant(&self, target: &Target, groups: &Groups) -> Option<Grant> {
        let matching = || self.rules.iter().filter(|rule| rule.matches(target));
        if let Some(rule) = matching().find(|rule| rule.has_port()).or_else(|| matching().next()) {
            let speech = if rule.has_port() { Speech::Any } else { Speech::Web };
            return Some(Grant { rule: rule.to_string(), speech });
        }
        let (group, _) = self.sites(groups).find(|(_, site)| site.target == *target)?;
        Some(Grant { rule: group.to_owned(), speech: Speech::Web })
    }

    /// The hosts of its groups, each with the group's name.
    fn sites<'a>(&'a self, groups: &'a Groups) -> impl Iterator<Item = (&'a str, &'a GroupHost)> {
        let known = self.groups.iter().filter_map(|name| Some((name.as_str(), groups.0.get(name)?)));
        known.flat_map(|(name, hosts)| hosts.iter().map(move |host| (name, host)))
    }

    /// Whether the operator said that this host may have an address that is not public.
    pub fn reach(&self, target: &Target, groups: &Groups) -> Reach {
        let site = |(_, site): (&str, &GroupHost)| site.target == *target && site.reach == Reach::Named;
        if self.named_private(target) || self.sites(groups).any(site) { Reach::Named } else { Reach::Public }
    }

    /// Whether `private` names it: it is of this network, and reached without an outer proxy.
    pub fn named_private(&self, target: &Target) -> bool {
        self.private.contains(target)
    }

    /// The credentials that are added to requests to this host.
    pub fn credentials_of<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a Credential> {
        self.credentials.iter().filter(move |credential| credential.target == *target)
    }

    /// Every credential.
    pub fn credentials(&self) -> &[Credential] {
        &self.credentials
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap_or_else(|e| panic!("{e}"))
    }

    fn groups() -> Groups {
        let site = |text: &str, reach| GroupHost { target: Target::parse(text, None).unwrap(), reach };
        let cargo = vec![site("crates.example:443", Reach::Public), site("10.0.0.1:8081", Reach::Named)];
        Groups([("cargo".to_owned(), cargo)].into())
    }

    fn policy(text: &str) -> Result<Policy, String> {
        Policy::parse(&settings(text), "egress").map_err(|e| e.to_string())
    }

    fn verdict(policy: &Policy, target: &str) -> String {
        match policy.decide(&Target::parse(target, Some(443)).unwrap(), &groups()) {
            Verdict::Allowed(Grant { rule, speech }) => format!("{rule} {speech:?}"),
            Verdict::Observed => "observed".into(),
            Verdict::Denied => "denied".into(),
        }
    }

    #[test]
    fn what_no_rule_allows_is_denied_or_observed() {
        let text = |mode: &str| {
            format!("mode = {mode:?}\nallow = ['cargo', 'a.example', 'a.example:22', '*.b.example']")
        };
        let policy = policy(&text("enforce")).unwrap();
        for (target, expected) in [
            ("a.example", "a.example Web"),
            ("a.example:22", "a.example:22 Any"),
            ("x.b.example:80", "*.b.example Web"),
            ("b.example", "denied"),
            ("crates.example", "cargo Web"),
            ("crates.example:80", "denied"),
            ("10.0.0.1:8081", "cargo Web"),
            ("cargo", "denied"),
            ("npm", "denied"),
        ] {
            assert_eq!(verdict(&policy, target), expected, "{target}");
        }
        let policy = self::policy(&text("observe")).unwrap();
        assert_eq!(verdict(&policy, "b.example"), "observed");
        assert_eq!(verdict(&policy, "a.example"), "a.example Web");
        assert_eq!(verdict(&Policy::default(), "a.example"), "denied", "nothing said is nothing allowed");
    }

    #[test]
    fn private_is_what_is_named_so() {
        let policy =
            policy("mode = 'enforce'\nallow = ['cargo', '10.0.0.2']\nprivate = ['mirror.example:80']")
                .unwrap();
        let private =
            |text: &str| policy.reach(&Target::parse(text, None).unwrap(), &groups()) == Reach::Named;
        assert!(private("mirror.example:80") && private("10.0.0.1:8081"));
        assert!(!private("mirror.example:443") && !private("10.0.0.1:80") && !private("10.0.0.2:80"));
        assert!(!private("crates.example:443"), "a registry's word is not the operator's");
    }

    #[test]
    fn a_bad_setting_is_named_with_its_value() {
        for (text, words) in [
            ("allow = ['*']", vec!["egress.allow", "\"*\"", "observe"]),
            ("allow = ['https://a.example/x']", vec!["egress.allow", "https://a.example/x", "only its host"]),
            ("allow = ['127.1']", vec!["egress.allow", "127.1", "plainly"]),
            ("allow = []\nprivate = ['a.example']", vec!["egress.private", "a.example", "port"]),
            (
                "allow = []\n[[credentials]]\nhost = 'a.example'\nheader = 'Authorization'\nvalue = 'hush'",
                vec!["egress.credentials", "a.example", "allow"],
            ),
            (
                "allow = ['a.example']\n[[credentials]]\nhost = 'a.example'\nheader = 'Host'\nvalue = 'hush'",
                vec!["egress.credentials", "Host"],
            ),
            (
                "allow = ['a.example']\n[[credentials]]\nhost = 'a.example'\nheader = 'X-Key'\nvalue = \"hu\\nsh\"",
                vec!["egress.credentials", "a.example", "value"],
            ),
        ] {
            let told = policy(&format!("mode = 'enforce'\n{text}")).unwrap_err();
            assert!(words.iter().all(|word| told.contains(word)), "{text}: {told}");
            assert!(!told.contains("hu\nsh") && !told.contains("hush"), "{told}");
        }
    }
}
