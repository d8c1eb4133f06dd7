//! The child that looks at one file.

use std::io::{self, Write};
use std::process::ExitCode;

use domain::limit::{ATTACHMENT_INSPECTION, ATTACHMENT_INSPECTION_MEMORY_BYTES};
use sandbox::confine::{Bounds, confine};

use crate::{check, frame};

/// The hidden command of the program that [`Inspector`](crate::Inspector) starts.
pub const COMMAND: &str = "inspect-content";
/// How it ends when it cannot give up what it must; it then says why, and has read nothing.
pub(crate) const UNCONFINED: u8 = 3;

/// Reads one file from standard input, looks at it, writes what it found to standard output as JSON, and is done.
///
/// Before the first byte is read the process gives up everything else it could do. It has to have one thread.
/// It says nothing on standard error: what a parser has to say comes from the file.
pub fn main_inspect() -> ExitCode {
    std::panic::set_hook(Box::new(|_| ()));
    let bounds = Bounds {
        memory_bytes: ATTACHMENT_INSPECTION_MEMORY_BYTES,
        cpu_seconds: ATTACHMENT_INSPECTION.as_secs(),
    };
    // Nothing was read yet, so these words are not the file's.
    if let Err(failure) = confine(&bounds) {
        let _ = write!(io::stdout(), "{}", said(&failure));
        return ExitCode::from(UNCONFINED);
    }
    match inspect() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// An error with what it comes from, in one line.
fn said(failure: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(failure), |failure| failure.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn inspect() -> io::Result<()> {
    let (declared, bytes) = frame::read(io::stdin().lock())?;
    let found = check(declared, &bytes);
    drop(bytes);
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer(&mut out, &found)?;
    out.flush()
}
