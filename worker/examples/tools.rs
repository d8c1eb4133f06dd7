//! The tools' first process alone, for the tests: a process of one thread, as `bgagent box-tools` is.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(socket) = std::env::args_os().nth(1) else { return ExitCode::from(2) };
    match worker::boxed::serve_tools(&PathBuf::from(socket), None) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
