//! Signing in, and who one is.

use jiff::Timestamp;
use protocol::identity::Whoami;
use serde::Serialize;
use url::Url;

use crate::clean;
use crate::render::MISSING;

/// What a login came to.
#[derive(Debug, Serialize)]
pub struct SignedIn {
    /// The server.
    pub server: String,
    /// The provider's name there.
    pub provider: String,
    /// Who.
    pub user: String,
    /// What they are there.
    pub role: String,
    /// Their teams.
    pub teams: Vec<String>,
    /// Until when the token is good.
    pub expires_at: Option<Timestamp>,
    /// Whether it is renewed by itself.
    pub renewed: bool,
}

/// Where to enter a code.
pub fn code(url: &Url, code: &str, complete: Option<&Url>) -> String {
    let mut lines =
        vec![format!("Open    {}", clean::line(url.as_str())), format!("Enter   {}", clean::line(code))];
    if let Some(complete) = complete {
        lines.push(format!("or open {}", clean::line(complete.as_str())));
    }
    lines.push("Enter only a code that you asked for yourself. Waiting ...".into());
    lines.join("\n")
}

/// Where the browser goes.
pub fn browser(url: &Url) -> String {
    format!("Opening your browser; if nothing opens, go to\n{}\nWaiting ...", clean::line(url.as_str()))
}

/// A login that worked.
pub fn signed_in(told: &SignedIn) -> String {
    let mut lines = vec![format!(
        "Signed in at {} as {} ({}{}).",
        clean::line(&told.server),
        clean::line(&told.user),
        clean::line(&told.role),
        match told.teams.as_slice() {
            [] => String::new(),
            teams => format!(", {}", clean::line(&teams.join(", "))),
        }
    )];
    lines.push("Commands talk to this server now; `bgagent logout` ends that.".into());
    if !told.renewed {
        lines.push(match told.expires_at {
            Some(at) => format!("The provider gave no refresh token: sign in again after {at}."),
            None => "The provider gave no refresh token: sign in again when the server says so.".into(),
        });
    }
    lines.join("\n")
}

/// Who the server says that one is.
pub fn whoami(who: &Whoami, server: &Url) -> String {
    let list = |words: &[String]| match words {
        [] => MISSING.to_owned(),
        words => words.join(", "),
    };
    let by = match (who.by.as_str(), &who.which) {
        ("owner_key", _) => "the owner's key".to_owned(),
        ("api_key", Some(id)) => format!("API key {id}"),
        ("oidc", Some(issuer)) => format!("signed in at {issuer}"),
        (other, Some(which)) => format!("{other} {which}"),
        (other, None) => other.to_owned(),
    };
    let rows = [
        ("user", who.user.clone()),
        ("role", who.role.clone()),
        ("teams", list(&who.teams)),
        ("may", list(&who.scopes)),
        ("by", by),
        ("server", server.as_str().trim_end_matches('/').to_owned()),
    ];
    rows.map(|(name, value)| format!("{name:<7} {}", clean::line(&value))).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_shown_with_where_to_enter_it() {
        let url = Url::parse("https://id.example/device").unwrap();
        let complete = Url::parse("https://id.example/device?user_code=ABCD-EFGH").unwrap();
        insta::assert_snapshot!(code(&url, "ABCD-EFGH\u{1b}[2J", Some(&complete)), @r"
        Open    https://id.example/device
        Enter   ABCD-EFGH␛[2J
        or open https://id.example/device?user_code=ABCD-EFGH
        Enter only a code that you asked for yourself. Waiting ...
        ");
    }

    #[test]
    fn a_login_tells_what_follows_from_it() {
        let told = SignedIn {
            server: "https://bgagent.example".into(),
            provider: "corp".into(),
            user: "corp:ann".into(),
            role: "member".into(),
            teams: vec!["platform".into()],
            expires_at: Some("2026-11-28T18:00:00Z".parse().unwrap()),
            renewed: true,
        };
        insta::assert_snapshot!(signed_in(&told), @r"
        Signed in at https://bgagent.example as corp:ann (member, platform).
        Commands talk to this server now; `bgagent logout` ends that.
        ");
        insta::assert_snapshot!(signed_in(&SignedIn { renewed: false, teams: vec![], ..told }), @r"
        Signed in at https://bgagent.example as corp:ann (member).
        Commands talk to this server now; `bgagent logout` ends that.
        The provider gave no refresh token: sign in again after 2026-11-28T18:00:00Z.
        ");
    }

    #[test]
    fn who_one_is_fits_a_narrow_terminal() {
        let who = Whoami {
            user: "corp:ann".into(),
            role: "viewer".into(),
            teams: vec![],
            scopes: vec!["tasks:read".into(), "usage:read".into()],
            by: "oidc".into(),
            which: Some("https://id.example".into()),
        };
        insta::assert_snapshot!(whoami(&who, &Url::parse("https://bgagent.example/").unwrap()), @r"
        user    corp:ann
        role    viewer
        teams   —
        may     tasks:read, usage:read
        by      signed in at https://id.example
        server  https://bgagent.example
        ");
    }
}
