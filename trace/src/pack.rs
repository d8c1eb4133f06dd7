//! Lines to gzip and back.

use std::io::{self, Read, Write as _};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::line::Entry;

/// One entry, compressed by itself.
pub fn one(entry: &Entry) -> io::Result<Vec<u8>> {
    let mut packer = Packer::new();
    packer.push(entry)?;
    packer.finish()
}

/// The entry that [`one`] compressed.
pub fn unpack_one(bytes: &[u8]) -> io::Result<Entry> {
    let mut text = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

/// Compresses lines one after the other.
#[derive(Debug)]
pub struct Packer {
    encoder: GzEncoder<Vec<u8>>,
}

impl Default for Packer {
    fn default() -> Packer {
        Packer::new()
    }
}

impl Packer {
    /// An empty file.
    pub fn new() -> Packer {
        Packer { encoder: GzEncoder::new(Vec::new(), Compression::default()) }
    }

    /// Adds a line.
    pub fn push(&mut self, entry: &Entry) -> io::Result<()> {
        serde_json::to_writer(&mut self.encoder, entry)?;
        self.encoder.write_all(b"\n")
    }

    /// What is compressed so far and was not taken yet, when it is at least `min` bytes.
    pub fn take(&mut self, min: usize) -> Option<Vec<u8>> {
        let ready = self.encoder.get_mut();
        (ready.len() >= min.max(1)).then(|| std::mem::take(ready))
    }

    /// Ends the file; the bytes that were not taken.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        self.encoder.finish()
    }
}
