//! The commands that no person types: they are how boxes are made of this one program. Each reads its own options; the
//! parser of all commands is not needed in a box.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use worker::{WorkerArgs, boxed};

/// Runs the command that `words` name, if it is one of these.
pub fn run(words: &[OsString]) -> Option<ExitCode> {
    let (name, options) = words.split_first()?;
    if options.iter().any(|word| word == "--help" || word == "-h") {
        return None;
    }
    match name.to_str()? {
        "worker" => Some(worker(options)),
        "box-tools" => Some(box_tools(options)),
        "box-warm" => Some(box_warm(options)),
        content::COMMAND => Some(content::main_inspect()),
        sandbox::probe::COMMAND => Some(sandbox::probe::probe_main()),
        _ => None,
    }
}

/// The worker of a session; in tier `container` its tools are at the other end of a socket.
fn worker(options: &[OsString]) -> ExitCode {
    let args = match options {
        [option, dir] if option == "--session" => Some((dir, None)),
        [option, dir, tools, socket] if option == "--session" && tools == "--tools-socket" => {
            Some((dir, Some(socket)))
        }
        _ => None,
    };
    match args {
        Some((dir, socket)) => worker::run(WorkerArgs {
            session_dir: PathBuf::from(dir),
            tools_socket: socket.map(PathBuf::from),
        }),
        None => {
            eprintln!("Error: `bgagent worker` takes --session DIR [--tools-socket PATH] and nothing else");
            eprintln!("Hint: A server starts it for each task; give a task with `bgagent run`.");
            ExitCode::from(2)
        }
    }
}

/// The first process of the tools' container.
fn box_tools(options: &[OsString]) -> ExitCode {
    let [at, socket, within, limits] = options else { return misused() };
    let limits = limits.to_str().and_then(|text| serde_json::from_str(text).ok());
    let (true, Some(limits)) = (at == "--socket" && within == "--limits", limits) else { return misused() };
    match boxed::serve_tools(&PathBuf::from(socket), Some(limits)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: serving the worker at {}: {error}", PathBuf::from(socket).display());
            ExitCode::FAILURE
        }
    }
}

/// The owner's commands that fill a cache, in a box of their own.
fn box_warm(options: &[OsString]) -> ExitCode {
    match options {
        [option, dir] if option == "--dir" => worker::warm(&PathBuf::from(dir)),
        _ => {
            eprintln!("Error: `bgagent box-warm` takes --dir DIR and nothing else");
            eprintln!("Hint: `bgagent cache warm` starts it.");
            ExitCode::from(2)
        }
    }
}

fn misused() -> ExitCode {
    eprintln!("Error: `bgagent box-tools` takes --socket PATH --limits JSON and nothing else");
    eprintln!("Hint: It is the first process of a box's container; a server starts it.");
    ExitCode::from(2)
}
