//! The environment and configuration each command gets.
//!
//! Configuration is given in the environment (`GIT_CONFIG_COUNT`), which git ranks above every file, so what stands
//! here wins over the repository's own. Children that git starts in *another* repository (the far side of a local
//! fetch, a submodule) do not get it: see [`UPLOAD_PACK`], and the flags in [`read`](crate::read).

use std::ffi::{OsStr, OsString};

/// What a command may know of our environment: where programs are, and the way to the network.
pub const PASSED_ON: &[&str] = &[
    "PATH",
    "TMPDIR",
    "GIT_EXEC_PATH",
    "LD_LIBRARY_PATH",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "CURL_CA_BUNDLE",
];

/// Environment of every command.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    // No configuration, attributes, ignore list or `.netrc` of this machine or its users.
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("HOME", "/dev/null"),
    ("XDG_CONFIG_HOME", "/dev/null"),
    // Never ask. Empty, not absent: absent would fall back to `core.askPass` of the repository.
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", ""),
    ("SSH_ASKPASS", ""),
    // Never page or edit.
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", "true"),
    ("GIT_SEQUENCE_EDITOR", "true"),
    // Words that can be understood.
    ("LC_ALL", "C"),
    ("GIT_ADVICE", "0"),
    // Only these transports; `ext::` and ssh run programs that configuration names.
    ("GIT_ALLOW_PROTOCOL", "file:http:https"),
    ("GIT_PROTOCOL_FROM_USER", "0"),
    ("GIT_SSH_COMMAND", "false"),
    // History is what the commits say: nothing stands in for an object, nobody has other parents.
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_GRAFT_FILE", "/dev/null"),
    // A missing object is an error, not a reason to fetch from whatever remote the repository names.
    ("GIT_NO_LAZY_FETCH", "1"),
    // Looking must not write into somebody's index.
    ("GIT_OPTIONAL_LOCKS", "0"),
];

/// Configuration of every command, stronger than the repository's.
pub const CONFIGURATION: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.alternateRefsCommand", "true"),
    ("core.quotePath", "false"),
    ("core.sshCommand", "false"),
    ("core.gitProxy", ""),
    ("core.askPass", ""),
    // What a checkout must not write, whatever file system it is on.
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    // A file that says who is whose parent, and that the repository brings along, is not asked.
    ("core.commitGraph", "false"),
    ("safe.directory", "*"),
    ("protocol.ext.allow", "never"),
    ("protocol.version", "2"),
    // The empty value clears every helper named before, of the repository too.
    ("credential.helper", ""),
    ("credential.interactive", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("fetch.bundleURI", ""),
    ("transfer.bundleURI", "false"),
    ("push.recurseSubmodules", "no"),
    ("push.gpgSign", "false"),
    ("push.followTags", "false"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("log.showSignature", "false"),
    ("diff.external", ""),
    ("diff.ignoreSubmodules", "all"),
    ("receive.autogc", "false"),
    ("http.followRedirects", "initial"),
    // A transfer slower than 1 KB/s for a minute is dead.
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "60"),
];

/// The far side of a fetch from a directory: git starts it in that repository without our configuration, and by
/// default by the name that *our* repository's configuration gives.
pub const UPLOAD_PACK: &str = "git -c 'safe.directory=*' -c core.hooksPath=/dev/null -c core.alternateRefsCommand=true \
                               -c core.useReplaceRefs=false -c core.commitGraph=false upload-pack";

/// Transports of a command that moves objects between two folders of this machine: whatever the configuration of
/// either makes of their names, nothing is asked over the network.
pub const ONLY_FILES: (&str, &str) = ("GIT_ALLOW_PROTOCOL", "file");

/// The environment a command starts with; of the place it is started in, what [`PASSED_ON`] names.
pub fn environment(of: impl Fn(&str) -> Option<OsString>) -> Vec<(OsString, OsString)> {
    let ours = PASSED_ON.iter().filter_map(|name| Some((OsString::from(name), of(name)?)));
    let fixed = ENVIRONMENT.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
    ours.chain(fixed).collect()
}

/// Configuration as the environment variables that carry it.
pub fn as_environment(config: &[(String, String)]) -> Vec<(OsString, OsString)> {
    let pair = |(n, (key, value)): (usize, &(String, String))| {
        [
            (format!("GIT_CONFIG_KEY_{n}").into(), key.into()),
            (format!("GIT_CONFIG_VALUE_{n}").into(), value.into()),
        ]
    };
    let count = (OsString::from("GIT_CONFIG_COUNT"), OsString::from(config.len().to_string()));
    std::iter::once(count).chain(config.iter().enumerate().flat_map(pair)).collect()
}

/// Configuration that turns a content filter off.
pub fn filter_off(name: &str) -> Vec<(String, String)> {
    let programs =
        ["clean", "smudge", "process"].map(|field| (format!("filter.{name}.{field}"), String::new()));
    let required = (format!("filter.{name}.required"), "false".to_owned());
    programs.into_iter().chain([required]).collect()
}

/// Configuration that turns a hook off that configuration names (git 2.54 and later; `core.hooksPath` does not).
pub fn hook_off(name: &str) -> Vec<(String, String)> {
    vec![(format!("hook.{name}.enabled"), "false".to_owned())]
}

/// Whether an argument would be read as an option.
pub fn looks_like_option(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().first() == Some(&b'-')
}
