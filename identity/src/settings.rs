//! One provider as it is configured.

use std::collections::BTreeMap;

use domain::Role;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::discovery;

/// What a login asks for when nothing else is configured. `offline_access` brings a refresh token.
const SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// `[identity.oidc.NAME]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The issuer, exactly as its tokens name it.
    pub issuer: String,
    /// The public client that `bgagent login` signs in with. Its tokens are accepted.
    pub client_id: String,
    /// Further audiences whose tokens are accepted.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// What a login asks for.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// What a login sends besides, `resource` or `audience` say.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Where a browser login comes back to, for providers that want to know it exactly. Absent: any port of 127.0.0.1.
    #[serde(default)]
    pub redirect_url: Option<String>,
    /// Which token the command line shows the server.
    #[serde(default)]
    pub token: Shown,
    /// The claim that says who somebody is.
    #[serde(default = "sub")]
    pub user_claim: String,
    /// What stands before it, so that two providers cannot mean the same user. Absent: `NAME:`.
    #[serde(default)]
    pub user_prefix: Option<String>,
    /// The claim with somebody's groups: its name, or a path with dots.
    #[serde(default = "groups")]
    pub groups_claim: String,
    /// Claims without which nobody is let in.
    #[serde(default)]
    pub required: BTreeMap<String, Required>,
    /// Groups whose people are owners.
    #[serde(default)]
    pub owners: Vec<String>,
    /// Groups whose people are members.
    #[serde(default)]
    pub members: Vec<String>,
    /// Groups whose people are viewers.
    #[serde(default)]
    pub viewers: Vec<String>,
    /// The role of those in none of these groups. Absent: they are not let in.
    #[serde(default)]
    pub everyone: Option<Role>,
    /// From group to team.
    #[serde(default)]
    pub teams: BTreeMap<String, String>,
    /// Where the keys are, for a provider whose discovery does not say. Absent: discovery says.
    #[serde(default)]
    pub jwks_url: Option<String>,
}

/// Which token the command line shows the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// The ID token: made for the client, and always a JWT.
    #[default]
    Id,
    /// The access token: for providers that make one for this server's audience, as a JWT.
    Access,
}

/// The value that a required claim must have.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Required {
    /// This one; a claim that is a list must have it.
    Flag(bool),
    /// This one; a claim that is a list must have it.
    Number(i64),
    /// This one; a claim that is a list must have it.
    Text(String),
    /// One of these.
    AnyOf(Vec<String>),
}

impl Shown {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Shown::Id => "id",
            Shown::Access => "access",
        }
    }
}

fn scopes() -> Vec<String> {
    SCOPES.map(str::to_owned).to_vec()
}

fn sub() -> String {
    "sub".into()
}

fn groups() -> String {
    "groups".into()
}

impl Settings {
    /// A provider with every other setting at its default.
    pub fn new(issuer: &str, client_id: &str) -> Settings {
        Settings {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            audiences: Vec::new(),
            scopes: scopes(),
            parameters: BTreeMap::new(),
            redirect_url: None,
            token: Shown::default(),
            user_claim: sub(),
            user_prefix: None,
            groups_claim: groups(),
            required: BTreeMap::new(),
            owners: Vec::new(),
            members: Vec::new(),
            viewers: Vec::new(),
            everyone: None,
            teams: BTreeMap::new(),
            jwks_url: None,
        }
    }

    /// Whether these can be used; `Err` names the setting and what to write.
    pub fn check(&self) -> Result<(), String> {
        discovery::issuer(&self.issuer).map_err(|why| format!("issuer {:?}: {why}", self.issuer))?;
        if self.client_id.trim().is_empty() {
            return Err("client_id is empty; write the id of the client that people sign in with".into());
        }
        if let Some(url) = &self.jwks_url {
            let issuer = Url::parse(&self.issuer).map_err(|e| format!("issuer: {e}"))?;
            discovery::endpoint(&issuer, url).map_err(|why| format!("jwks_url {url:?}: {why}"))?;
        }
        if let Some(url) = &self.redirect_url {
            discovery::redirect(url).map_err(|why| format!("redirect_url {url:?}: {why}"))?;
        }
        for (name, list) in [("audiences", &self.audiences), ("scopes", &self.scopes)] {
            if list.iter().any(|word| word.trim().is_empty()) {
                return Err(format!("{name} has an empty entry; remove it"));
            }
        }
        for (name, text) in [("user_claim", &self.user_claim), ("groups_claim", &self.groups_claim)] {
            if text.trim().is_empty() {
                return Err(format!("{name} is empty; write the name of a claim"));
            }
        }
        let nobody = [&self.owners, &self.members, &self.viewers].iter().all(|groups| groups.is_empty());
        if nobody && self.everyone.is_none() {
            return Err("nobody could sign in: name groups in owners, members or viewers, or write \
                        everyone = \"viewer\" (or \"member\") for all who have an account there"
                .into());
        }
        if self.user_prefix.as_ref().is_some_and(|prefix| prefix.chars().any(char::is_control)) {
            return Err("user_prefix holds a control character".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_with_what_to_do() {
        let good = || Settings { everyone: Some(Role::Viewer), ..Settings::new("https://id.example", "cli") };
        assert_eq!(good().check(), Ok(()));
        for (settings, word) in [
            (Settings { issuer: "id.example".into(), ..good() }, "issuer"),
            (Settings { issuer: "http://id.example".into(), ..good() }, "https"),
            (Settings { issuer: "https://id.example?x=1".into(), ..good() }, "issuer"),
            (Settings { client_id: " ".into(), ..good() }, "client_id"),
            (Settings { jwks_url: Some("http://169.254.169.254/".into()), ..good() }, "jwks_url"),
            (Settings { redirect_url: Some("https://id.example/cb".into()), ..good() }, "redirect_url"),
            (Settings { scopes: vec![String::new()], ..good() }, "scopes"),
            (Settings { groups_claim: String::new(), ..good() }, "groups_claim"),
            (Settings { everyone: None, ..good() }, "everyone"),
            (Settings { user_prefix: Some("a\nb".into()), ..good() }, "user_prefix"),
        ] {
            let told = settings.check().unwrap_err();
            assert!(told.contains(word), "{told}");
        }
        assert_eq!(Settings { everyone: None, members: vec!["eng".into()], ..good() }.check(), Ok(()));
    }
}
