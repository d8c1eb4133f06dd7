//! What is shown of the host's folders, and what of it is covered.

use crate::fixture::{Try, everybody, outside, put};

const BIN: &str = "/usr/local/bin:/usr/bin:/bin";

#[test]
fn settings_beside_programs_are_empty() {
    let top = outside("/var/lib");
    for name in [
        "home/.nvm/versions/node/v20.0.0/etc/npmrc",
        "home/.pyenv/versions/3.12.0/pip.conf",
        "home/.local/share/uv/credentials/registry.toml",
        "home/.dotnet/corefx/cryptography/key.pfx",
        "home/miniconda3/.condarc",
        "apart/etc/npmrc",
    ] {
        put(top.path(), name, "token");
    }
    let programs = [
        "home/.nvm/versions/node/v20.0.0/bin/one",
        "home/.local/share/uv/tools/x/bin/two",
        "apart/bin/three",
    ];
    for name in programs {
        put(top.path(), name, "#!/bin/sh\necho it runs\n");
    }
    let at = top.path().display();
    let script = format!(
        "cd {at} && {} && {} && three; grep -r token .; touch home/.dotnet/corefx/x 2>/dev/null && echo wrote; \
         cat home/.nvm/versions/node/v20.0.0/etc/npmrc && echo empty",
        programs[0], programs[1]
    );
    let path = format!("{at}/apart/bin:{BIN}");
    for who in everybody() {
        let seen = Try::new(who).at_home(&top.path().join("home"), &path, &["command", "sh", "-c", &script]);
        assert_eq!(seen, "it runs\nit runs\nit runs\nempty\n", "{who:?}");
    }
}

/// As a service has it whose user's home is below /opt.
#[test]
fn the_servers_own_folders_are_not_shown_with_the_systems() {
    for who in everybody() {
        let top = outside("/opt");
        let home = top.path().join("home");
        put(&home, ".ssh/id", "secret");
        put(&home, ".cargo/bin/hello", "#!/bin/sh\necho hello\n");
        for state in [top.path().join("state"), home.join("state")] {
            put(&state, "owner-key", "secret");
            let this = Try::new(who).with_state(&state);
            let path = format!("{}/.cargo/bin:{BIN}", home.display());
            let script = format!(
                "hello; grep -r secret {0}; find {0} -type f; \
                 for at in {1} {2}; do touch $at/x 2>/dev/null && echo wrote $at; done; true",
                top.path().display(),
                home.display(),
                state.display(),
            );
            let seen = this.at_home(&home, &path, &["command", "sh", "-c", &script]);
            assert_eq!(seen, format!("hello\n{}/.cargo/bin/hello\n", home.display()), "{who:?}");
            let key = state.join("owner-key");
            let read = this.at_home(&home, &path, &["worker", &format!("!read {}", key.display())]);
            assert_eq!(read, format!("{}: NotFound\n", key.display()), "{who:?}");
            std::fs::remove_dir_all(&state).unwrap();
        }
    }
}
