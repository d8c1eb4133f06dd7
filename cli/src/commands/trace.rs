//! `bgagent trace`: the trajectory of a task, as a file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use domain::TaskId;
use flate2::read::MultiGzDecoder;
use futures_util::TryStreamExt as _;
use protocol::client::Client;
use serde_json::json;

use crate::args::Output;
use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// The recorded trajectory of a task that was submitted with --trace
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent trace download 01ARZ3NDEKTSV4RRFFQ69G5FAV | jq .type
  bgagent trace download 01ARZ3NDEKTSV4RRFFQ69G5FAV -o trace.jsonl.gz")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fetch it: lines of JSON on stdout, or the compressed file with -o
    #[command(after_help = "Examples:
  bgagent trace download 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent trace download 01ARZ3NDEKTSV4RRFFQ69G5FAV -o trace.jsonl.gz
  bgagent trace download 01ARZ3NDEKTSV4RRFFQ69G5FAV -o trace.jsonl --decompress --force")]
    Download {
        /// The task
        task: TaskId,
        /// Write the compressed file here; `-` is stdout
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// With -o: write lines of JSON, not the compressed file
        #[arg(long, requires = "out")]
        decompress: bool,
        /// Write over a file that is there
        #[arg(short, long, requires = "out")]
        force: bool,
    },
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Packed,
    Lines,
}

/// Runs the command.
pub async fn trace(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let Verb::Download { task, out, decompress, force } = args.verb;
    let form = if out.is_some() && !decompress { Form::Packed } else { Form::Lines };
    let file = out.filter(|path| path.as_os_str() != "-");
    if file.is_none() && form == Form::Packed && io::stdout().is_terminal() {
        return Err(Failure::usage("a compressed file is nothing for a terminal")
            .hint("Name a file with -o FILE, or leave -o out to see the lines."));
    }
    let over = if force { Over::Yes } else { Over::No };
    if let Some(file) = &file {
        may_write(file, over)?;
    }
    let client = connect::connect(cx).await?;
    let packed = fetch(&client, task).await?;
    match file {
        None => to_stdout(&packed, form)?,
        Some(file) => {
            let bytes = write(&file, over, |to| match form {
                Form::Packed => to.write_all(&packed),
                Form::Lines => io::copy(&mut MultiGzDecoder::new(packed.as_slice()), to).map(drop),
            })?;
            let shown = clean::line(&file.to_string_lossy());
            match cx.output {
                Output::Text => cx.note(&format!("The trace of task {task} is in {shown} ({bytes} bytes).")),
                Output::Json => cx.json(&json!({ "task_id": task, "file": file, "bytes": bytes }))?,
            }
        }
    }
    Ok(Exit::Done)
}

/// The whole trace, compressed: nothing is shown of one that broke off.
pub async fn fetch(client: &Client, task: TaskId) -> Result<Vec<u8>, Failure> {
    let address = client.trace(task).await?;
    let mut pieces = client.fetch(&address.url).await?;
    let mut all = Vec::new();
    while let Some(piece) = pieces.try_next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

fn to_stdout(packed: &[u8], form: Form) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match form {
        Form::Packed => out.write_all(packed)?,
        Form::Lines => {
            for line in BufReader::new(MultiGzDecoder::new(packed)).lines() {
                let line = line.map_err(|e| Failure::new(format!("the trace cannot be unpacked: {e}")))?;
                writeln!(out, "{}", clean::json_text(&line))?;
            }
        }
    }
    Ok(out.flush()?)
}

/// Whether a file that is there is written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// It is.
    Yes,
    /// It is left alone, and that is an error.
    No,
}

/// Told before anything is fetched.
pub fn may_write(file: &Path, over: Over) -> Result<(), Failure> {
    match over == Over::No && file.symlink_metadata().is_ok() {
        true => Err(there_already(file)),
        false => Ok(()),
    }
}

fn there_already(file: &Path) -> Failure {
    Failure::usage(format!("{} is there already", clean::line(&file.to_string_lossy())))
        .hint("Give another name, or --force to write over it.")
}

/// Writes a file whole or not at all, this user's only; answers its size.
pub fn write(
    file: &Path,
    over: Over,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<u64, Failure> {
    let shown = clean::line(&file.to_string_lossy());
    let failed = |e: io::Error| Failure::new(format!("writing {shown}: {e}"));
    let Some(name) = file.file_name() else {
        return Err(Failure::usage(format!("{shown} is no name of a file")));
    };
    let part = file.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
    let work = || -> io::Result<u64> {
        let _ = std::fs::remove_file(&part);
        let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        fill(&mut to)?;
        to.sync_all()?;
        let bytes = to.metadata()?.len();
        match over {
            Over::Yes => std::fs::rename(&part, file)?,
            // Never over a file that came meanwhile.
            Over::No => {
                std::fs::hard_link(&part, file)?;
                std::fs::remove_file(&part)?;
            }
        }
        Ok(bytes)
    };
    work().map_err(|e| {
        let _ = std::fs::remove_file(&part);
        if e.kind() == io::ErrorKind::AlreadyExists { there_already(file) } else { failed(e) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.gz");
        let whole = |to: &mut File| to.write_all(b"whole");
        let broken = |to: &mut File| {
            to.write_all(b"half")?;
            Err(io::Error::other("it broke"))
        };
        assert!(write(&file, Over::No, broken).unwrap_err().message.contains("it broke"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
        assert_eq!(write(&file, Over::No, whole).unwrap(), 5);
        let told = write(&file, Over::No, |to| to.write_all(b"other")).unwrap_err();
        assert!(told.message.contains("is there already"), "{told:?}");
        assert_eq!(std::fs::read(&file).unwrap(), b"whole");
        write(&file, Over::Yes, broken).unwrap_err();
        assert_eq!(std::fs::read(&file).unwrap(), b"whole", "what was there stays");
        write(&file, Over::Yes, |to| to.write_all(b"other")).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"other");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(may_write(&file, Over::No).is_err() && may_write(&file, Over::Yes).is_ok());
    }
}
