//! Runs a command in a box: what tests and benches start, since a box wants a process with one thread.
//!
//! `sandbox-try PLAN.json command ARG…` or `sandbox-try PLAN.json worker SCRIPT` where the worker runs each line of the
//! script in the tools' layer by `sh -c`; `stopped-worker` is one that is asked to end before it has its secret.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use domain::BoxLimits;
use sandbox::notice::Phase;
use sandbox::tools::{Child, Command, ToolBox};
use sandbox::{Bind, Notice, Plan, Upper};
use serde::Deserialize;
use tokio::io::AsyncReadExt;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    dir: PathBuf,
    #[serde(default)]
    state: Option<PathBuf>,
    #[serde(default)]
    worker_binds: Vec<(PathBuf, PathBuf)>,
    #[serde(default)]
    read_only: Vec<(PathBuf, PathBuf)>,
    #[serde(default)]
    cache: Option<PathBuf>,
    #[serde(default)]
    env: Vec<(String, String)>,
    #[serde(default)]
    limits: BoxLimits,
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|a| a == sandbox::probe::COMMAND) {
        return sandbox::probe::probe_main();
    }
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("sandbox-try: {e}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<u8, String> {
    let mut args = std::env::args_os().skip(1);
    let usage = || "usage: sandbox-try PLAN.json command ARG… | worker SCRIPT".to_owned();
    let plan = args.next().ok_or_else(usage)?;
    if plan == "box-tools" {
        let socket = args.next().ok_or_else(usage)?;
        let line = UnixStream::connect(socket).map_err(|e| e.to_string())?;
        let environment = [("PATH".into(), "/usr/bin:/bin".into()), ("HOME".into(), "/tmp".into())];
        return sandbox::init::serve_tools(line, &environment, None).map(|()| 0).map_err(|e| e.to_string());
    }
    let mode = args.next().ok_or_else(usage)?;
    let given = std::fs::read_to_string(&plan).map_err(|e| e.to_string())?;
    let given: Given = serde_json::from_str(&given).map_err(|e| e.to_string())?;
    let binds = |all: Vec<(PathBuf, PathBuf)>| all.into_iter().map(|(from, to)| Bind { from, to }).collect();
    let plan = Plan {
        dir: given.dir,
        state: given.state,
        name: "box-1".into(),
        worker_binds: binds(given.worker_binds),
        read_only: binds(given.read_only),
        cache: given.cache,
        env: given.env.into_iter().map(|(n, v)| (n.into(), v.into())).collect(),
        limits: given.limits,
    };
    let rest: Vec<OsString> = args.collect();
    let whole = |e: sandbox::BoxError| match std::error::Error::source(&e) {
        Some(source) => format!("{e}: {source}"),
        None => e.to_string(),
    };
    if mode == "command" {
        let ran = sandbox::run_command(&plan, "/box/repo".as_ref(), &rest).map_err(whole)?;
        for notice in ran.notices {
            eprintln!("notice: {notice}");
        }
        return Ok(u8::try_from(ran.code).unwrap_or(1));
    }
    if mode != "worker" && mode != "stopped-worker" {
        return Err(usage());
    }
    let script = rest.into_iter().next().ok_or_else(usage)?.into_string().map_err(|_| usage())?;
    let payload = || {
        if mode == "stopped-worker" {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM)?;
        }
        Ok(b"the secret".to_vec())
    };
    sandbox::run_box(&plan, payload, |upper, secret| worker(upper, &secret, &script)).map_err(whole)
}

/// Runs the script's lines one after the other; prints what they print, and `[code]`. Lines with a `!` before them are
/// the worker's own: `!secret`, `!notices N` (waits for so many), `!phase saving`, `!background COMMAND`, `!sh COMMAND` (refused).
fn worker(upper: Upper, secret: &[u8], script: &str) -> u8 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let Ok(runtime) = runtime else { return 124 };
    match runtime.block_on(lines(upper, secret, script)) {
        Ok(()) => 0,
        Err(e) => {
            println!("worker: {e}");
            123
        }
    }
}

async fn lines(upper: Upper, secret: &[u8], script: &str) -> std::io::Result<()> {
    let monitor = UnixStream::from(upper.monitor);
    let mut saying = monitor.try_clone()?;
    let mut notices = BufReader::new(monitor);
    let (tools, listener, _) = ToolBox::connect(upper.tools).await?;
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if line == "!secret" {
            println!("{}", String::from_utf8_lossy(secret));
        } else if let Some(count) = line.strip_prefix("!notices ") {
            for _ in 0..count.parse().unwrap_or(1) {
                let mut line = String::new();
                notices.read_line(&mut line)?;
                print!(
                    "{}",
                    Notice::parse(&line)
                        .map_or_else(|| format!("? {line}"), |n| format!("{n} {}\n", n.fatal))
                );
            }
        } else if let Some(phase) = line.strip_prefix("!phase ") {
            let phase = if phase == "saving" { Phase::Saving } else { Phase::Working };
            std::io::Write::write_all(&mut saying, phase.line().as_bytes())?;
        } else if line == "!accept" {
            let (mut stream, _) = tokio::net::TcpListener::from_std(listener.try_clone()?)?.accept().await?;
            let mut request = [0; 5];
            stream.read_exact(&mut request).await?;
            println!("accepted {}", String::from_utf8_lossy(&request));
        } else if let Some(command) = line.strip_prefix("!background ") {
            let (child, _) = start(&tools, command).await?;
            child.release();
        } else if let Some(command) = line.strip_prefix("!drop ") {
            let (child, _) = start(&tools, command).await?;
            let group = child.group();
            drop(child);
            while tools.alive(group).await {
                tokio::task::yield_now().await;
            }
            println!("gone");
        } else if let Some(program) = line.strip_prefix("!spawn ") {
            match start_program(&tools, program, &[]).await {
                Ok(_) => println!("started"),
                Err(e) => println!("{:?}", e.kind()),
            }
        } else if let Some(path) = line.strip_prefix("!read ") {
            match std::fs::read(path) {
                Ok(bytes) => println!("{}", String::from_utf8_lossy(&bytes).trim_end()),
                Err(e) => println!("{path}: {:?}", e.kind()),
            }
        } else if let Some(path) = line.strip_prefix("!write ") {
            match std::fs::write(path, "from the worker") {
                Ok(()) => println!("written"),
                Err(e) => println!("{path}: {:?}", e.kind()),
            }
        } else if let Some(path) = line.strip_prefix("!list ") {
            let mut names: Vec<String> =
                std::fs::read_dir(path)?.flatten().map(|e| e.file_name().display().to_string()).collect();
            names.sort();
            println!("{}", names.join(" "));
        } else if let Some(path) = line.strip_prefix("!connect ") {
            match UnixStream::connect(path) {
                Ok(_) => println!("connected"),
                Err(e) => println!("{path}: {:?}", e.kind()),
            }
        } else if line == "!term" {
            let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            println!("waiting");
            term.recv().await;
            println!("terminated");
        } else if line == "!network" {
            println!("{:?}", std::net::TcpStream::connect("127.0.0.1:3128").map(drop).map_err(|e| e.kind()));
        } else if line == "!exec" {
            println!("{:?}", std::process::Command::new("/bin/true").spawn().map(drop).map_err(|e| e.kind()));
        } else if line == "!enforced" {
            println!("{}", upper.enforced);
        } else if let Some(count) = line.strip_prefix("!time ") {
            let count: u32 = count.parse().unwrap_or(100);
            let start = std::time::Instant::now();
            for _ in 0..count {
                start_program(&tools, "/bin/true", &[]).await?.0.wait().await?;
            }
            println!("{:?} each", start.elapsed() / count);
        } else {
            let (mut child, mut output) = start(&tools, line).await?;
            let code = child.wait().await?;
            let mut text = String::new();
            output.read_to_string(&mut text)?;
            let limit = child.processor_limit().map(|s| format!(" at {s} s of processor time"));
            println!("{text}[{code}]{}", limit.unwrap_or_default());
        }
    }
    Ok(())
}

async fn start(tools: &ToolBox, command: &str) -> std::io::Result<(Child, std::io::PipeReader)> {
    start_program(tools, "sh", &["-c", command]).await
}

async fn start_program(
    tools: &ToolBox,
    program: &str,
    args: &[&str],
) -> std::io::Result<(Child, std::io::PipeReader)> {
    let (output, stdout) = std::io::pipe()?;
    let command = Command {
        program: program.into(),
        args: args.iter().map(Into::into).collect(),
        env: tools.environment().to_vec(),
        dir: "/box/repo".into(),
        stdin: None,
        stderr: stdout.try_clone()?.into(),
        stdout: stdout.into(),
    };
    Ok((tools.spawn(command).await?, output))
}
