//! How much a user downloads and keeps on disk.

use std::{io::Write, process::Stdio};

use anyhow::{Context, Result};

use super::{Bed, Bench, Figure};

/// The size of the one binary.
pub const BENCH: Bench = Bench { name: "size", about: "the binary on disk and packed", run };

const MIB: f64 = 1024.0 * 1024.0;

fn run(bed: &Bed) -> Result<Vec<Figure>> {
    let binary = &bed.binary;
    let bytes = std::fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    let packed = gzip(bytes.clone())?;
    let shown = binary.display();
    Ok(vec![
        Figure {
            what: "binary".into(),
            value: bytes.len() as f64 / MIB,
            unit: "MiB",
            command: format!("stat -c %s {shown}"),
        },
        Figure {
            what: "binary, gzip -6".into(),
            value: packed as f64 / MIB,
            unit: "MiB",
            command: format!("gzip -6 -c {shown} | wc -c"),
        },
    ])
}

fn gzip(bytes: Vec<u8>) -> Result<usize> {
    let mut child = std::process::Command::new("gzip")
        .args(["-6", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting gzip")?;
    let mut into = child.stdin.take().context("writing to gzip")?;
    let writing = std::thread::spawn(move || into.write_all(&bytes));
    let output = child.wait_with_output().context("waiting for gzip")?;
    writing.join().expect("the writer does not panic").context("writing to gzip")?;
    anyhow::ensure!(output.status.success(), "gzip ended with {}", output.status);
    Ok(output.stdout.len())
}
