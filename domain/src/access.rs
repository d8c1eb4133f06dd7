//! Who calls, what they may do, and whose tasks they reach: roles, scopes, teams. Pure; where an identity comes from
//! (a key, a token of an identity provider) is decided at the edge.
//!
//! A route needs one [`Scope`]. What a caller may use is the scopes of the role, cut down to those of the key they came
//! with. Whether one task is within reach is [`reach`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{ApiKeyId, UserId, WebhookId};

/// What a person is on this server. Ordered: each may do what the one before may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads their own tasks and those shared with their teams.
    Viewer,
    /// Also submits tasks, and acts on their own and, where the team's rule says so, on those of their teams.
    Member,
    /// Everything, everybody's.
    Owner,
}

impl Role {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Member => "member",
            Role::Owner => "owner",
        }
    }

    /// What the role may use at most.
    pub fn scopes(self) -> Scopes {
        let least = |scope: &Scope| match scope {
            Scope::TasksRead | Scope::UsageRead => Role::Viewer,
            Scope::TasksCreate
            | Scope::TasksSteer
            | Scope::TasksCancel
            | Scope::ApprovalsDecide
            | Scope::WebhooksManage
            | Scope::WebhooksInvoke
            | Scope::KeysManage => Role::Member,
            Scope::AuditRead | Scope::ServerManage => Role::Owner,
        };
        Scopes(Scope::ALL.iter().copied().filter(|scope| least(scope) <= self).collect())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Role, String> {
        [Role::Viewer, Role::Member, Role::Owner].into_iter().find(|role| role.as_str() == text).ok_or_else(
            || format!("there is no role {:?}; use owner, member or viewer", crate::event::preview(text, 40)),
        )
    }
}

/// One kind of thing a caller may do. The first four are *ABCA*'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Make, list, rotate and revoke webhooks.
    WebhooksManage,
    /// *ABCA*'s name, kept so that its keys are accepted; opens no route, because deliveries are signed.
    WebhooksInvoke,
    /// Read tasks, their events, traces and pull requests.
    TasksRead,
    /// Cancel tasks.
    TasksCancel,
    /// *Ours.* Submit tasks.
    TasksCreate,
    /// *Ours.* Nudge, ask, pause, resume and retry tasks.
    TasksSteer,
    /// *Ours.* See and decide what waits for an approval.
    ApprovalsDecide,
    /// *Ours.* Read what was spent.
    UsageRead,
    /// *Ours.* Make and revoke API keys; never given to a key, or a stolen one could make itself another.
    KeysManage,
    /// *Ours.* Read the audit log.
    AuditRead,
    /// *Ours.* Operate the server.
    ServerManage,
}

impl Scope {
    /// Every scope.
    pub const ALL: &'static [Scope] = &[
        Scope::WebhooksManage,
        Scope::WebhooksInvoke,
        Scope::TasksRead,
        Scope::TasksCancel,
        Scope::TasksCreate,
        Scope::TasksSteer,
        Scope::ApprovalsDecide,
        Scope::UsageRead,
        Scope::KeysManage,
        Scope::AuditRead,
        Scope::ServerManage,
    ];

    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::WebhooksManage => "webhooks:manage",
            Scope::WebhooksInvoke => "webhooks:invoke",
            Scope::TasksRead => "tasks:read",
            Scope::TasksCancel => "tasks:cancel",
            Scope::TasksCreate => "tasks:create",
            Scope::TasksSteer => "tasks:steer",
            Scope::ApprovalsDecide => "approvals:decide",
            Scope::UsageRead => "usage:read",
            Scope::KeysManage => "keys:manage",
            Scope::AuditRead => "audit:read",
            Scope::ServerManage => "server:manage",
        }
    }

    /// Whether an API key may have it.
    pub fn grantable(self) -> bool {
        self != Scope::KeysManage
    }

    /// What using it does to a task.
    pub fn purpose(self) -> Purpose {
        match self {
            Scope::TasksRead | Scope::UsageRead | Scope::AuditRead => Purpose::Read,
            Scope::WebhooksManage
            | Scope::WebhooksInvoke
            | Scope::TasksCancel
            | Scope::TasksCreate
            | Scope::TasksSteer
            | Scope::ApprovalsDecide
            | Scope::KeysManage
            | Scope::ServerManage => Purpose::Steer,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Scope, String> {
        Scope::ALL.iter().copied().find(|scope| scope.as_str() == text).ok_or_else(|| {
            let all: Vec<_> = Scope::ALL.iter().filter(|s| s.grantable()).map(|s| s.as_str()).collect();
            let text = crate::event::preview(text, 40);
            format!("there is no scope {text:?}; there are {}", all.join(", "))
        })
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// Whether `scope` is among them.
    pub fn has(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// What both have.
    pub fn and(&self, other: &Scopes) -> Scopes {
        Scopes(self.0.intersection(&other.0).copied().collect())
    }

    /// Each of them, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = Scope> + '_ {
        self.0.iter().copied()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Scopes {
        Scopes(scopes.into_iter().collect())
    }
}

/// How a caller showed who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authenticated {
    /// With the owner's key of this server.
    OwnerKey,
    /// With an API key.
    ApiKey(ApiKeyId),
    /// With a signed delivery of a webhook.
    Webhook(WebhookId),
    /// With a token of an identity provider, named by its issuer.
    Oidc {
        /// The issuer.
        issuer: String,
    },
}

impl Authenticated {
    /// The kind, as it is written in the audit log.
    pub fn kind(&self) -> &'static str {
        match self {
            Authenticated::OwnerKey => "owner_key",
            Authenticated::ApiKey(_) => "api_key",
            Authenticated::Webhook(_) => "webhook",
            Authenticated::Oidc { .. } => "oidc",
        }
    }

    /// Which one of that kind, where there are several.
    pub fn which(&self) -> Option<String> {
        match self {
            Authenticated::OwnerKey => None,
            Authenticated::ApiKey(id) => Some(id.to_string()),
            Authenticated::Webhook(id) => Some(id.to_string()),
            Authenticated::Oidc { issuer } => Some(issuer.clone()),
        }
    }
}

/// Who somebody is: what every way of authenticating ends in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub user: UserId,
    /// What they are here.
    pub role: Role,
    /// Teams that the credential itself tells of (groups of a token); those of the configuration come on top.
    pub teams: BTreeSet<String>,
    /// What the credential may be used for; [`Role::scopes`] of the role bounds it.
    pub scopes: Scopes,
    /// How they showed it.
    pub by: Authenticated,
}

impl Identity {
    /// What may be done: by the role, and by the credential.
    pub fn allowed(&self) -> Scopes {
        self.role.scopes().and(&self.scopes)
    }
}

/// What somebody wants of a task. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// To look at it.
    Read,
    /// To change its course.
    Steer,
}

/// What the members of a team may do with each other's tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Look at them.
    #[default]
    Read,
    /// Also cancel, nudge, ask, pause and decide.
    Steer,
}

/// `[teams.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Team {
    /// Users, by the name that their tasks are kept under.
    pub members: BTreeSet<String>,
    /// What they may do with each other's tasks.
    pub share: Share,
}

/// All teams, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Teams(pub BTreeMap<String, Team>);

impl Teams {
    /// The teams of a user: those that list them, and those of `told` (groups of a token) that exist here.
    pub fn of(&self, user: &UserId, told: &BTreeSet<String>) -> BTreeSet<String> {
        let listed = self.0.iter().filter(|(_, team)| team.members.contains(user.as_str()));
        listed
            .map(|(name, _)| name.clone())
            .chain(told.iter().filter(|t| self.0.contains_key(*t)).cloned())
            .collect()
    }

    /// Everybody whose tasks somebody in these teams may look at.
    pub fn members(&self, teams: &BTreeSet<String>) -> BTreeSet<UserId> {
        let ours = self.0.iter().filter(|(name, _)| teams.contains(*name));
        ours.flat_map(|(_, team)| team.members.iter().map(UserId::new)).collect()
    }

    /// The most that two who share a team may do with each other's tasks.
    fn shared(&self, teams: &BTreeSet<String>, with: &UserId) -> Option<Share> {
        let ours = self.0.iter().filter(|(name, _)| teams.contains(*name));
        ours.filter(|(_, team)| team.members.contains(with.as_str())).map(|(_, team)| team.share).max()
    }
}

/// The most that `user`, with this role and in these teams, may want of a task of `of`; `None`: for them there is no such
/// task. What the role and the key allow at all is decided before, by scope.
pub fn reach(
    user: &UserId,
    role: Role,
    teams: &BTreeSet<String>,
    all: &Teams,
    of: &UserId,
) -> Option<Purpose> {
    if user == of || role == Role::Owner {
        return Some(Purpose::Steer);
    }
    all.shared(teams, of).map(|share| match share {
        Share::Read => Purpose::Read,
        Share::Steer => Purpose::Steer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(scopes: &Scopes) -> Vec<&'static str> {
        scopes.iter().map(Scope::as_str).collect()
    }

    #[test]
    fn each_role_may_what_the_one_before_may() {
        let [viewer, member, owner] = [Role::Viewer, Role::Member, Role::Owner].map(Role::scopes);
        assert_eq!(names(&viewer), ["tasks:read", "usage:read"]);
        assert_eq!(viewer.and(&member), viewer);
        assert_eq!(member.and(&owner), member);
        assert_eq!(owner.iter().count(), Scope::ALL.len());
        assert!(!member.has(Scope::AuditRead) && !member.has(Scope::ServerManage));
    }

    #[test]
    fn names_come_back_and_others_are_told_so() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse::<Scope>(), Ok(*scope));
        }
        for role in [Role::Viewer, Role::Member, Role::Owner] {
            assert_eq!(role.as_str().parse::<Role>(), Ok(role));
        }
        let told = "tasks:Read".parse::<Scope>().unwrap_err();
        assert!(told.contains("tasks:Read") && told.contains("tasks:read"), "{told}");
        assert!(!told.contains("keys:manage"), "what no key may have is not offered: {told}");
        assert!("root".parse::<Role>().unwrap_err().contains("viewer"));
    }

    #[test]
    fn a_key_narrows_the_role_and_never_widens_it() {
        let identity = |role, scopes: &[Scope]| Identity {
            user: UserId::new("ann"),
            role,
            teams: BTreeSet::new(),
            scopes: scopes.iter().copied().collect(),
            by: Authenticated::OwnerKey,
        };
        let both = [Scope::TasksRead, Scope::TasksCreate];
        assert_eq!(names(&identity(Role::Viewer, &both).allowed()), ["tasks:read"]);
        assert_eq!(names(&identity(Role::Owner, &both).allowed()), ["tasks:read", "tasks:create"]);
        assert!(identity(Role::Owner, &[]).allowed().is_empty());
    }

    #[test]
    fn tasks_are_reached_by_owning_by_role_or_by_a_teams_rule() {
        let team = |members: &[&str], share| Team {
            members: members.iter().map(|m| (*m).to_owned()).collect(),
            share,
        };
        let all = Teams(BTreeMap::from([
            ("red".into(), team(&["ann", "bob"], Share::Read)),
            ("blue".into(), team(&["ann", "cleo"], Share::Steer)),
            ("both".into(), team(&["bob", "cleo"], Share::Read)),
            ("mixed".into(), team(&["bob", "cleo"], Share::Steer)),
        ]));
        let told = |groups: &[&str]| groups.iter().map(|g| (*g).to_owned()).collect::<BTreeSet<_>>();
        for (user, role, groups, of, want) in [
            ("ann", Role::Viewer, &[][..], "ann", Some(Purpose::Steer)),
            ("ann", Role::Member, &[], "bob", Some(Purpose::Read)),
            ("bob", Role::Member, &[], "ann", Some(Purpose::Read)),
            ("ann", Role::Member, &[], "cleo", Some(Purpose::Steer)),
            ("bob", Role::Member, &[], "cleo", Some(Purpose::Steer)),
            ("dan", Role::Member, &[], "ann", None),
            ("dan", Role::Owner, &[], "ann", Some(Purpose::Steer)),
            // A group of a token counts where a team of that name is configured, and only there.
            ("dan", Role::Member, &["red"], "ann", Some(Purpose::Read)),
            ("dan", Role::Member, &["green"], "ann", None),
            ("ann", Role::Member, &[], "dan", None),
            ("Ann", Role::Member, &[], "ann", None),
        ] {
            let user = UserId::new(user);
            let teams = all.of(&user, &told(groups));
            assert_eq!(reach(&user, role, &teams, &all, &UserId::new(of)), want, "{user} {role} {of}");
        }
    }
}
