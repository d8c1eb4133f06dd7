//! What each layer sees, and that it sees nothing of the other.

use std::os::unix::net::UnixListener;

use crate::fixture::{As, Try, everybody, processes, until};

#[test]
fn the_tools_are_nobody_with_nothing() {
    for who in everybody() {
        let seen = Try::new(who).sh(
            "id -u; hostname; pwd; echo $HOME; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\t'; \
             ls -d /proc/[0-9]* | wc -l; tr -d '\\0' </proc/1/cmdline; ls /proc/self/fd | tr '\\n' ' '; ulimit -c",
        );
        let mut lines = seen.lines();
        let mut next = || lines.next().unwrap_or("(no more)");
        assert_eq!([next(), next(), next(), next()], ["1000", "box-1", "/box/repo", "/home/agent"]);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(next(), format!("{set}:0000000000000000"));
        }
        assert_eq!([next(), next()], ["NoNewPrivs:1", "Seccomp:2"]);
        // The first process, the shell, and the pipeline's ends.
        assert!(next().parse::<u32>().unwrap() <= 4, "{seen}");
        // 3 is the folder that `ls` reads.
        assert_eq!([next(), next()], ["0 1 2 3 0", "(no more)"], "{seen}");
    }
}

#[test]
fn the_root_is_read_only_and_small() {
    for who in everybody() {
        let this = Try::new(who);
        let canary = this.file("canary", "of the host");
        let script = format!(
            "ls -a / | tr '\\n' ' '; echo; cat {} /etc/shadow /etc/npmrc /etc/pip.conf /etc/gitconfig 2>/dev/null; \
             for at in / /usr /etc /root /dev /run /proc /proc/sys/kernel /box /opt; do \
               touch $at/x 2>/dev/null && echo wrote $at; done; \
             for at in /tmp /var/tmp /home/agent /box/repo /box/baseline /box/cache /dev/shm; do \
               touch $at/x || echo no $at; done; \
             echo 1 2>/dev/null >/proc/sys/kernel/domainname && echo switched; true",
            canary.display()
        );
        let seen = this.sh(&script);
        let (root, rest) = seen.split_once('\n').unwrap();
        assert_eq!(rest, "", "{who:?}");
        for hidden in ["sys", "boot", "srv", "mnt", "media"] {
            assert!(!root.split(' ').any(|n| n == hidden), "{root}");
        }
    }
}

#[test]
fn the_tools_see_nothing_of_the_worker() {
    for who in everybody() {
        let seen = Try::new(who).worker(
            "!secret
             !write /session/log
             !write /box/repo/from-worker
             ls / /session 2>&1 | tr '\\n' ' '
             cat /box/repo/from-worker
             cat /proc/*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'hunter[2]\\|the secre[t]'
             head -c 1 /proc/1/mem; head -c 1 /proc/1/maps; ls /proc/1/fd /proc/1/root /proc/1/cwd 2>&1 | grep -vc denied
             kill -9 1; kill -STOP 1; kill -9 -1 & true
             echo still here",
        );
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines[0], "the secret", "{seen}");
        assert_eq!(lines[1..3], ["written", "written"], "{seen}");
        assert!(lines[3].contains("cannot access '/session'") && !lines[3].contains(" session "), "{seen}");
        assert_eq!(lines[4], "from the worker[0]", "{seen}");
        assert_eq!(lines[5..7], ["0", "[1]"], "{seen}");
        assert!(seen.ends_with("still here\n[0]\n"), "{seen}");
    }
}

#[test]
fn the_worker_sees_nothing_of_the_tools() {
    for who in everybody() {
        let this = Try::new(who);
        let folder = this.folder("gateway");
        let socket = folder.join("gateway.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::chown(&socket, None, None).unwrap();
        std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let this = this.set("worker_binds", [(&folder, "/gateway")]);
        let seen = this.worker(
            "!background sleep 1000
             echo private > /home/agent/x; echo private > /tmp/x
             !list /
             !read /home/agent/x
             !read /tmp/x
             !write /gateway/x
             !write /usr/x
             !connect /gateway/gateway.sock
             !exec
             !network
             ls /gateway 2>&1",
        );
        assert_eq!(
            seen,
            "[0]\nbin box dev etc gateway lib lib64 proc sbin session usr\n/home/agent/x: NotFound\n/tmp/x: NotFound\n/gateway/x: ReadOnlyFilesystem\n/usr/x: \
             ReadOnlyFilesystem\nconnected\nErr(PermissionDenied)\nErr(NetworkUnreachable)\nls: cannot access \
             '/gateway': No such file or directory\n[2]\n",
            "{who:?}"
        );
    }
}

#[test]
fn the_box_dies_with_its_monitor() {
    for who in everybody() {
        let this = Try::new(who);
        let mark = format!("sleep 98{}", std::process::id());
        let mut going =
            this.start_worker(&format!("!background setsid {mark}\n!background {mark}\necho up\n!term"));
        assert_eq!(going.line(), "up");
        let mark = mark.replace(' ', "\0");
        until("the commands run", || processes(&mark).len() >= 2);
        going.child.kill().unwrap();
        going.child.wait().unwrap();
        until("no process is left", || processes(&mark).is_empty());
        until("no layer is left", || processes(this.dir.path().to_str().unwrap()).is_empty());
    }
}

#[test]
fn the_worker_is_told_to_end_and_its_end_ends_all() {
    for who in everybody() {
        let this = Try::new(who);
        let mark = format!("sleep 97{}", std::process::id());
        let mut going = this.start_worker(&format!("!background setsid {mark}\n!term"));
        assert_eq!(going.line(), "waiting");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(going.child.id() as i32),
            nix::sys::signal::SIGTERM,
        )
        .unwrap();
        assert_eq!(going.rest(), "terminated\n");
        assert_eq!(going.child.wait().unwrap().code(), Some(0));
        assert_eq!(processes(&mark.replace(' ', "\0")), Vec::<i32>::new());
    }
}

#[test]
fn a_stop_that_comes_before_the_secret_is_heard() {
    for who in everybody() {
        let done = Try::new(who).run(&["stopped-worker", "!term"]);
        assert_eq!(
            (done.code, done.out.as_str()),
            (Some(0), "waiting\nterminated\n"),
            "{who:?} {}",
            done.err
        );
    }
}

#[test]
fn the_worker_learns_that_the_tools_are_gone() {
    let who = everybody()[0];
    let this = Try::new(who);
    let mut going = this.start_worker("echo up\nsleep 1000\necho never");
    assert_eq!(going.line(), "up");
    let monitor = going.child.id();
    let children = std::fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
    let tools = children.split_whitespace().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "box-tools\n")
    });
    let tools = nix::unistd::Pid::from_raw(tools.unwrap().parse().unwrap());
    nix::sys::signal::kill(tools, nix::sys::signal::SIGKILL).unwrap();
    assert_eq!(going.rest(), "[0]\nworker: the tools' layer of the box has ended\n");
    assert_eq!(going.child.wait().unwrap().code(), Some(123));
}

#[test]
fn a_cache_is_shared_below_and_private_above() {
    for who in everybody() {
        let this = Try::new(who);
        let shared = this.folder("shared");
        std::fs::write(shared.join("package"), "good").unwrap();
        let this = this.set("cache", &shared);
        let owner = std::fs::metadata(this.dir.path().join("own")).unwrap();
        // As an earlier box would have left it.
        let id = if who == As::Root {
            sandbox::layout::OUTER_ID
        } else {
            std::os::unix::fs::MetadataExt::uid(&owner)
        };
        for path in [shared.clone(), shared.join("package")] {
            std::os::unix::fs::chown(path, Some(id), Some(id)).unwrap();
        }
        let seen =
            this.sh("cd /box/cache; cat package; echo bad > package; cat package; touch new; rm package; ls");
        assert_eq!(seen, "goodbad\nnew\n", "{who:?}");
        assert_eq!(std::fs::read_to_string(shared.join("package")).unwrap(), "good");
        assert_eq!(std::fs::read_dir(&shared).unwrap().count(), 1);
        assert!(this.dir.path().join("own/box/cache/upper/new").exists());
    }
}

#[test]
fn programs_of_the_host_run() {
    let path = std::env::var_os("PATH").unwrap();
    let there = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).exists());
    let this = Try::new(everybody()[0]);
    for name in ["git", "gcc", "python3", "node", "cargo", "make"] {
        if !there(name) {
            println!("not here, so not tried: {name}");
            continue;
        }
        let version = this.sh(&format!("{name} --version"));
        assert!(version.chars().any(|c| c.is_ascii_digit()), "{name}: {version}");
    }
    if there("gcc") {
        let built = "echo 'int main(){return 7;}' > a.c && gcc -o a a.c && ./a; echo $?";
        assert_eq!(this.sh(built), "7\n");
    }
}
