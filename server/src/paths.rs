//! Where things are kept: the XDG folders, and the files below the state folder.

use std::path::{Path, PathBuf};

use crate::config::Env;

/// Longest path of a UNIX socket, with room for the suffix of its replacement (the system's limit is 107 bytes).
const SOCKET_PATH_MAX: usize = 100;
const SOCKET: &str = "open/gateway.sock";

fn xdg(env: &Env, name: &str, below_home: &str) -> PathBuf {
    match env.get(name).map(PathBuf::from).filter(|p| p.is_absolute()) {
        Some(dir) => dir.join("bgagent"),
        None => {
            let home = env.get("HOME").map(PathBuf::from).filter(|p| p.is_absolute());
            home.unwrap_or_else(|| PathBuf::from("/var/lib/bgagent")).join(below_home).join("bgagent")
        }
    }
}

/// The configuration file: `BGAGENT_CONFIG`, or `bgagent.toml` in the XDG configuration folder.
pub fn config_file(env: &Env) -> PathBuf {
    match env.get("BGAGENT_CONFIG").filter(|p| !p.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => xdg(env, "XDG_CONFIG_HOME", ".config").join("bgagent.toml"),
    }
}

/// Where the command line keeps what it signed in with; beside it, `.lock`.
pub fn credentials_file(env: &Env) -> PathBuf {
    xdg(env, "XDG_CONFIG_HOME", ".config").join("credentials.json")
}

/// The state folder when the configuration names none.
pub fn state_dir(env: &Env) -> PathBuf {
    xdg(env, "XDG_STATE_HOME", ".local/state")
}

/// The files below a state folder.
#[derive(Debug, Clone)]
pub struct State(pub PathBuf);

#[expect(missing_docs, reason = "each names a file")]
impl State {
    pub fn database(&self) -> PathBuf {
        self.0.join("bgagent.db")
    }
    pub fn mirrors(&self) -> PathBuf {
        self.0.join("mirrors")
    }
    pub fn pushes(&self) -> PathBuf {
        self.0.join("pushes")
    }
    pub fn sessions(&self) -> PathBuf {
        self.0.join("sessions")
    }
    /// Sessions of the tier `container`, apart from the others: each backend finds its own.
    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }
    /// Traces and artifacts.
    pub fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }
    pub fn caches(&self) -> PathBuf {
        self.0.join("caches")
    }
    pub fn sites(&self) -> PathBuf {
        self.0.join("sites")
    }
    /// What is of use while a process runs; the server empties it.
    pub fn tmp(&self) -> PathBuf {
        self.0.join("tmp")
    }
    /// The certificates that boxes trust.
    pub fn box_ca(&self) -> PathBuf {
        self.0.join("box-ca.pem")
    }
    pub fn owner_key(&self) -> PathBuf {
        self.0.join("owner-key")
    }
    /// What the secrets of webhooks are derived from. Without it they are all lost.
    pub fn webhook_key(&self) -> PathBuf {
        self.0.join("webhook-key")
    }
    pub fn token_key(&self) -> PathBuf {
        self.0.join("token-key")
    }
    /// Certificate and key of the boxes' certificate authority.
    pub fn egress_authority(&self) -> PathBuf {
        self.0.join("egress-ca.pem")
    }
    pub fn lock(&self) -> PathBuf {
        self.0.join("server.lock")
    }
    /// `{url, pid, started_at}` of the running server.
    pub fn server_json(&self) -> PathBuf {
        self.0.join("server.json")
    }
    pub fn server_log(&self) -> PathBuf {
        self.0.join("server.log")
    }

    /// The gateway's socket: in a folder of its own, which boxes are shown, below one that is this user's alone. Both are
    /// in the state folder, or, when that path is too long for a socket, in the user's runtime folder; there they are
    /// named after the state folder, so that a restarted server is found at the same place.
    pub fn gateway_socket(&self, env: &Env) -> PathBuf {
        let plain = self.0.join("gateway").join(SOCKET);
        if plain.as_os_str().len() <= SOCKET_PATH_MAX {
            return plain;
        }
        let runtime = env
            .get("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute() && p.as_os_str().len() < 60);
        let user = nix::unistd::Uid::current();
        let base = runtime.unwrap_or_else(|| PathBuf::from(format!("/tmp/bgagent-{user}")));
        base.join(short_name(&self.0)).join(SOCKET)
    }
}

fn short_name(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(&Sha256::digest(path.as_os_str().as_encoded_bytes())[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_state_folder_gets_a_short_and_stable_socket() {
        let env = Env::new();
        let long = State(PathBuf::from(format!("/{}", "x".repeat(200))));
        let socket = long.gateway_socket(&env);
        assert!(socket.as_os_str().len() <= SOCKET_PATH_MAX);
        assert_eq!(socket, long.gateway_socket(&env));
        assert_eq!(State("/s".into()).gateway_socket(&env), PathBuf::from("/s/gateway/open/gateway.sock"));
    }
}
