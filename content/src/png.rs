//! PNG: every chunk is walked, its checksum compared, the pixels are decoded, and only what draws them is kept.
//!
//! Kept are the critical chunks and, at the length the format gives them, those that say how colours are meant (`tRNS`,
//! `gAMA`, `cHRM`, `sRGB`, `cICP`, `sBIT`, `pHYs`). All others go: `tEXt`, `zTXt`, `iTXt`, `eXIf`, `tIME`, `iCCP` (a profile is
//! data of its own making) and what nobody knows. Without `acTL`, `fcTL` and `fdAT` an animation is its first picture:
//! what a reviewer saw is what is left. What follows `IEND`, or the picture within `IDAT`, is refused: it is what was cut
//! off by a broken editor, or another file.

use std::io::Cursor;

use crate::image::{bad, bounded};
use crate::{Checked, MediaType, Refusal};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Bytes that the decoder may allocate: it gives out the picture row by row.
const DECODER_MAX_BYTES: usize = 16 * 1024 * 1024;
/// How far back packed data may refer.
const WINDOW: usize = 32 * 1024;

pub(crate) fn check(bytes: &[u8]) -> Result<Checked, Refusal> {
    let walked = walk(bytes)?;
    let kept = walked.kept(bytes);
    unpacks_to(&walked.data(bytes), walked.header.unpacked())?;
    decode(&kept)?;
    let clean = (kept.len() != bytes.len()).then_some(kept);
    Ok(Checked::image(MediaType::Png, (walked.header.width, walked.header.height), clean))
}

/// One chunk: where it is and what it holds.
struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    /// With length, kind and checksum.
    whole: std::ops::Range<usize>,
}

struct Header {
    width: u32,
    height: u32,
    bits_per_pixel: u64,
    indexed: bool,
    interlaced: bool,
}

struct Walked {
    header: Header,
    kept: Vec<std::ops::Range<usize>>,
    data: Vec<std::ops::Range<usize>>,
}

impl Walked {
    fn kept(&self, bytes: &[u8]) -> Vec<u8> {
        let parts = self.kept.iter().map(|range| &bytes[range.clone()]);
        std::iter::once(SIGNATURE).chain(parts).collect::<Vec<_>>().concat()
    }

    fn data(&self, bytes: &[u8]) -> Vec<u8> {
        self.data.iter().map(|range| &bytes[range.clone()]).collect::<Vec<_>>().concat()
    }
}

fn walk(bytes: &[u8]) -> Result<Walked, Refusal> {
    let mut at = SIGNATURE.len();
    let first = chunk(bytes, at)?;
    if first.kind != *b"IHDR" {
        return Err(bad("it does not begin with its header"));
    }
    let header = header(first.data)?;
    at = first.whole.end;
    let mut walked = Walked { header, kept: vec![first.whole], data: Vec::new() };
    let mut palette = false;
    let mut between = false;
    loop {
        let chunk = chunk(bytes, at)?;
        at = chunk.whole.end;
        let begun = !walked.data.is_empty();
        match &chunk.kind {
            b"IEND" => {
                if !chunk.data.is_empty() || !begun || walked.header.indexed && !palette {
                    return Err(bad("it ends before its picture is complete"));
                }
                walked.kept.push(chunk.whole);
                break;
            }
            b"IDAT" => {
                if between {
                    return Err(bad("its picture data is interrupted"));
                }
                let from = chunk.whole.start + 8;
                walked.data.push(from..from + chunk.data.len());
                walked.kept.push(chunk.whole);
            }
            b"PLTE" => {
                if palette || begun || chunk.data.is_empty() || chunk.data.len() % 3 != 0 {
                    return Err(bad("its palette is broken"));
                }
                palette = true;
                walked.kept.push(chunk.whole);
            }
            b"IHDR" => return Err(bad("it has two headers")),
            kind if kind[0].is_ascii_uppercase() => {
                return Err(bad(format!("it needs the unknown chunk {}", name(kind))));
            }
            kind => {
                between |= begun;
                if !begun && about_colour(kind, chunk.data.len()) {
                    walked.kept.push(chunk.whole);
                }
            }
        }
    }
    if at != bytes.len() {
        return Err(bad(format!("{} bytes follow its end", bytes.len() - at)));
    }
    Ok(walked)
}

fn chunk(bytes: &[u8], at: usize) -> Result<Chunk<'_>, Refusal> {
    let cut = || bad("it is cut off");
    let rest = bytes.get(at..).ok_or_else(cut)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    let length = u32::from_be_bytes(*length) as usize;
    let kind = *rest.first_chunk::<4>().ok_or_else(cut)?;
    if !kind.iter().all(u8::is_ascii_alphabetic) {
        return Err(bad("a chunk of it has no name"));
    }
    let summed = rest.get(..length.saturating_add(4)).ok_or_else(cut)?;
    let sum = rest[summed.len()..].first_chunk::<4>().ok_or_else(cut)?;
    if crc32fast::hash(summed) != u32::from_be_bytes(*sum) {
        return Err(bad(format!("the checksum of its chunk {} is wrong", name(&kind))));
    }
    Ok(Chunk { kind, data: &summed[4..], whole: at..at + length + 12 })
}

fn name(kind: &[u8; 4]) -> String {
    String::from_utf8_lossy(kind).into_owned()
}

fn header(data: &[u8]) -> Result<Header, Refusal> {
    let Ok(data) = <&[u8; 13]>::try_from(data) else { return Err(bad("its header is broken")) };
    let number = |at: usize| u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
    let (width, height) = (number(0), number(4));
    bounded(width, height)?;
    let (bits, colour) = (data[8], data[9]);
    let channels = match (colour, bits) {
        (0, 1 | 2 | 4 | 8 | 16) => 1,
        (2, 8 | 16) => 3,
        (3, 1 | 2 | 4 | 8) => 1,
        (4, 8 | 16) => 2,
        (6, 8 | 16) => 4,
        _ => return Err(bad(format!("there is no colour type {colour} with {bits} bits"))),
    };
    if data[10] != 0 || data[11] != 0 || data[12] > 1 {
        return Err(bad("its header is broken"));
    }
    let bits_per_pixel = channels * u64::from(bits);
    Ok(Header { width, height, bits_per_pixel, indexed: colour == 3, interlaced: data[12] == 1 })
}

impl Header {
    /// Bytes of the picture before packing: rows, each with a byte that names its filter.
    fn unpacked(&self) -> u64 {
        let rows = |width: u32, height: u32| match width {
            0 => 0,
            width => u64::from(height) * (1 + (u64::from(width) * self.bits_per_pixel).div_ceil(8)),
        };
        if !self.interlaced {
            return rows(self.width, self.height);
        }
        // Where each pass begins and how far apart its pixels are: x, y, dx, dy.
        const PASSES: [(u32, u32, u32, u32); 7] = [
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        ];
        let pass = |(x, y, dx, dy): &(u32, u32, u32, u32)| {
            rows(self.width.saturating_sub(*x).div_ceil(*dx), self.height.saturating_sub(*y).div_ceil(*dy))
        };
        PASSES.iter().map(pass).sum()
    }
}

/// Whether a chunk is one of those that say how colours are meant, and no more than that fits into it.
fn about_colour(kind: &[u8; 4], length: usize) -> bool {
    match kind {
        b"tRNS" => length <= 256,
        b"gAMA" | b"cICP" => length == 4,
        b"cHRM" => length == 32,
        b"sRGB" => length == 1,
        b"sBIT" => length <= 4,
        b"pHYs" => length == 9,
        _ => false,
    }
}

/// Whether the data unpacks to exactly so many bytes: a bomb is found before the byte after the last that may be.
///
/// Up to 8 bytes that follow, which the unpacker reads ahead, go unnoticed: too few to be anything.
fn unpacks_to(packed: &[u8], expected: u64) -> Result<(), Refusal> {
    let broken = |_| bad("its picture data is broken");
    let mut decompressor = fdeflate::Decompressor::new();
    let mut buffer = vec![0; 8 * WINDOW];
    let (mut read, mut held, mut total) = (0, 0, 0u64);
    while !decompressor.is_done() {
        if held == buffer.len() {
            buffer.copy_within(held - WINDOW.., 0);
            held = WINDOW;
        }
        let (used, made) = decompressor.read(&packed[read..], &mut buffer, held, true).map_err(broken)?;
        read += used;
        held += made;
        total += made as u64;
        if total > expected {
            return Err(bad("its data holds more than its picture"));
        }
        if used == 0 && made == 0 && !decompressor.is_done() {
            return Err(bad("its picture data is cut off"));
        }
    }
    if total < expected {
        return Err(bad("its picture data is cut off"));
    }
    if read != packed.len() {
        return Err(bad("something follows the picture in its data"));
    }
    Ok(())
}

fn decode(bytes: &[u8]) -> Result<(), Refusal> {
    let limits = png::Limits { bytes: DECODER_MAX_BYTES };
    let broken = |error: png::DecodingError| bad(format!("it does not decode ({error})"));
    let mut reader = png::Decoder::new_with_limits(Cursor::new(bytes), limits).read_info().map_err(broken)?;
    while reader.next_interlaced_row().map_err(broken)?.is_some() {}
    reader.finish().map_err(broken)
}
