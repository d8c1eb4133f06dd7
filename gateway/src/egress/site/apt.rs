//! apt: the hosts of its sources.

use std::path::Path;

use super::Group;
use super::ask::Ask;

/// The home folder in a box.
const HOME: &str = "/home/agent";

/// Lets `apt-get update` and `apt-get download` work for an ordinary user: lists and packages go to its own folder. apt
/// does not tell which keyring is for which source, so all that the system's packages brought are good for all.
const SETTINGS: &str = "\
Dir::State \"/home/agent/.local/state/apt\";
Dir::State::status \"/var/lib/dpkg/status\";
Dir::Cache \"/home/agent/.cache/apt\";
Dir::Etc::sourcelist \"/home/agent/.config/apt/sources.list\";
Dir::Etc::sourceparts \"/dev/null\";
Dir::Etc::parts \"/dev/null\";
Dir::Etc::preferencesparts \"/dev/null\";
Dir::Etc::trustedparts \"/usr/share/keyrings\";
Dir::Log \"/home/agent/.cache/apt/log\";
Acquire::https::CaInfo \"/box/ca.pem\";
APT::Sandbox::User \"\";
";

pub(super) async fn ask(ask: &Ask<'_>, group: &mut Group) {
    if !ask.has("apt-get") {
        group.say("apt is not installed");
        return;
    }
    let answer = match ask.run("apt-get", ["--print-uris", "update"], &[]).await {
        Ok(answer) if answer.success || !answer.out.is_empty() => answer,
        Ok(answer) => {
            let end = answer.err.lines().next().unwrap_or("no word");
            group.miss(format!("apt-get did not say its sources: {}", domain::event::preview(end, 160)));
            return;
        }
        Err(failure) => {
            group.miss(failure);
            return;
        }
    };
    for address in answer.out.lines().filter_map(|line| line.strip_prefix('\'')?.split('\'').next()) {
        group.take(address);
    }
    let format = ["indextargets", "--format", "$(TARGET_OF)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"];
    if let Ok(answer) = ask.run("apt-get", format, &[]).await {
        let list = sources(&answer.out, group);
        if !list.is_empty() {
            let folder = Path::new(HOME).join(".config/apt");
            group.env.push(("APT_CONFIG".into(), folder.join("apt.conf").display().to_string()));
            group.files.push((folder.join("apt.conf"), SETTINGS.into()));
            group.files.push((folder.join("sources.list"), list));
            // apt makes neither of these folders by itself.
            for empty in [".local/state/apt/lists/partial/keep", ".cache/apt/archives/partial/keep"] {
                group.files.push((Path::new(HOME).join(empty), String::new()));
            }
        }
    }
}

/// The lines of a `sources.list` for what apt told, each source once, without credentials.
fn sources(told: &str, group: &mut Group) -> String {
    let mut lines: Vec<String> = vec![];
    for line in told.lines() {
        let mut parts = line.split('|');
        let (Some("deb"), Some(uri), Some(release), Some(component)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let Some(address) = group.take(uri) else { continue };
        let line = format!("deb {} {release} {component}", address.url);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Tool;
    use super::*;

    #[test]
    fn sources_are_written_once_and_without_credentials() {
        let mut group = Group::new(Tool::Apt);
        let told = "deb|http://a.example/debian/|stable|main\ndeb|http://a.example/debian/|stable|main\n\
                    deb-src|http://a.example/debian/|stable|main\ndeb|https://u:p@b.example/x/|stable|main\n\
                    deb|file:/srv/x|stable|main\n";
        assert_eq!(
            sources(told, &mut group),
            "deb http://a.example/debian/ stable main\ndeb https://b.example/x/ stable main\n"
        );
        assert_eq!(group.wants, ["b.example:443"]);
    }
}
