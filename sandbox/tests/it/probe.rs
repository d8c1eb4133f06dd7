//! What the probe says about this machine, and about one that is made worse.

use std::process::Command;

use crate::fixture::{Try, everybody};

#[test]
fn it_builds_a_box_and_leaves_nothing() {
    for who in everybody() {
        let this = Try::new(who);
        let folder = this.folder("tmp");
        let output = this.program(&["box-probe"]).env("TMPDIR", &folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(said.contains("\"missing\":null"), "{said}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}

#[test]
fn it_is_asked_through_the_program() {
    let enforced = sandbox::probe::sandbox_of(env!("CARGO_BIN_EXE_sandbox-try").as_ref()).unwrap();
    assert_eq!(enforced.privileged, nix::unistd::geteuid().is_root());
}

/// Root of a user namespace that may have none below: the switch of the real kernel.
#[test]
fn it_names_the_switch_that_is_off() {
    let program = env!("CARGO_BIN_EXE_sandbox-try");
    let script = format!("echo 0 > /proc/sys/user/max_user_namespaces && {program} box-probe");
    let output =
        Command::new("unshare").args(["--user", "--map-root-user", "sh", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("user namespaces are switched off: sudo sysctl user.max_user_namespaces=10000"),
        "{said}"
    );
}

/// As in a rootless container: root there, but of few users.
#[test]
fn root_of_a_user_namespace_gets_a_box_too() {
    let this = Try::new(everybody()[0]);
    let mut command = Command::new("unshare");
    let inner = this.command(&["command", "id", "-u"]);
    command.args(["--user", "--map-root-user"]).arg(inner.get_program()).args(inner.get_args());
    let output = command.current_dir("/").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1000\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
