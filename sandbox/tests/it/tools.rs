//! The line between the layers.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixListener;
use std::process::Command as Program;

use sandbox::tools::{Command, ToolBox};

use crate::fixture::{Try, everybody};

#[test]
fn commands_servers_and_groups() {
    for who in everybody() {
        let seen = Try::new(who).worker(
            "exit 3
             kill -TERM $$
             !spawn no-such-program
             !spawn /box/repo
             !drop sleep 1000
             !background python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1
             for i in $(seq 100); do python3 -c 'import urllib.request as u; o=u.build_opener(u.ProxyHandler({})); \
               print(o.open(\"http://127.0.0.1:8000\").status)' 2>/dev/null && break; done
             python3 -c 'import socket; socket.create_connection((\"127.0.0.1\",3128)).send(b\"hello\")'
             !accept",
        );
        assert_eq!(
            seen, "[3]\n[143]\nNotFound\nPermissionDenied\ngone\n200\n[0]\n[0]\naccepted hello\n",
            "{who:?}"
        );
    }
}

/// As the tools' container does it: the same line over a socket, without a monitor.
#[tokio::test]
async fn tools_of_a_container_serve_the_same_line() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tools.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut served =
        Program::new(env!("CARGO_BIN_EXE_sandbox-try")).arg("box-tools").arg(&socket).spawn().unwrap();
    let (line, _) = listener.accept().unwrap();
    let (tools, way_out, _) = ToolBox::connect(line.into()).await.unwrap();
    assert!(way_out.local_addr().unwrap().ip().is_loopback());
    assert_eq!(tools.environment()[1], (OsString::from("HOME"), OsString::from("/tmp")));
    let (mut output, stdout) = std::io::pipe().unwrap();
    let (input, mut give) = std::io::pipe().unwrap();
    let odd = OsString::from_vec(b"a\xffb".to_vec());
    let mut child = tools
        .spawn(Command {
            program: "sh".into(),
            args: vec![
                "-c".into(),
                "cat; printf %s \"$1\"; echo x >&2; sleep 1000 & exit 5".into(),
                "sh".into(),
                odd,
            ],
            env: tools.environment().to_vec(),
            dir: dir.path().into(),
            stdin: Some(input.into()),
            stderr: stdout.try_clone().unwrap().into(),
            stdout: stdout.into(),
        })
        .await
        .unwrap();
    std::io::Write::write_all(&mut give, b"given ").unwrap();
    drop(give);
    assert_eq!(child.wait().await.unwrap(), 5);
    assert_eq!(child.wait().await.unwrap(), 5, "it may be asked again");
    let group = child.release();
    assert!(tools.alive(group).await, "what it left goes on");
    tools.kill_group(group);
    let mut text = Vec::new();
    output.read_to_end(&mut text).unwrap();
    assert_eq!(text, b"given a\xffbx\n");
    drop(tools);
    assert!(served.wait().unwrap().success(), "the end of the line is its end");
}
