//! JPEG: every segment is walked, the pixels are decoded, and only what draws them is kept.
//!
//! Kept are tables, frames and scans as they are, the JFIF header without a thumbnail, and Adobe's marker of how colours
//! are stored. All other segments go: Exif, XMP, IPTC, comments, colour profiles, further pictures. The one thing Exif says
//! that changes what is seen, how a camera was held, is written anew as a segment that says this and nothing else.
//! What follows the end is cut off: phones append previews, depth maps and films there.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use domain::limit::ATTACHMENT_IMAGE_MAX_SIDE;

use crate::image::{bad, bounded};
use crate::{Checked, MediaType, Refusal};

/// Scans of one picture: each walks over all of it.
const SCANS_MAX: usize = 64;

pub(crate) fn check(bytes: &[u8]) -> Result<Checked, Refusal> {
    let (size, kept) = walk(bytes)?;
    decode(&kept)?;
    let clean = (kept != bytes).then_some(kept);
    Ok(Checked::image(MediaType::Jpeg, size, clean))
}

/// The size in pixels, and the file with nothing but the picture.
fn walk(bytes: &[u8]) -> Result<((u32, u32), Vec<u8>), Refusal> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8").ok_or_else(|| bad("it has no beginning"))?;
    let mut kept = Vec::with_capacity(bytes.len());
    kept.extend_from_slice(b"\xff\xd8");
    let (mut size, mut scans, mut oriented) = (None, 0, false);
    loop {
        let marker = marker(&mut rest)?;
        if marker == 0xd9 {
            break;
        }
        let data = segment(&mut rest)?;
        match marker {
            // Frames: baseline, extended, progressive.
            0xc0..=0xc2 => {
                if size.is_some() {
                    return Err(bad("it has two frames"));
                }
                size = Some(frame(data)?);
                push(&mut kept, marker, data);
            }
            0xc4 | 0xdb | 0xdd => push(&mut kept, marker, data),
            0xda => {
                scans += 1;
                if size.is_none() {
                    return Err(bad("a scan stands before its frame"));
                }
                if scans > SCANS_MAX {
                    return Err(bad(format!("it has more than {SCANS_MAX} scans")));
                }
                push(&mut kept, marker, data);
                let (scan, after) = rest.split_at(scan_length(rest)?);
                kept.extend_from_slice(scan);
                rest = after;
            }
            0xe0 => {
                if let Some(jfif) = jfif(data) {
                    push(&mut kept, marker, &jfif);
                }
            }
            0xe1 => {
                if let (false, Some(orientation)) = (oriented, orientation(data)) {
                    oriented = true;
                    push(&mut kept, marker, &exif(orientation));
                }
            }
            0xee => {
                if let Some(adobe) = data.get(..12).filter(|adobe| adobe.starts_with(b"Adobe")) {
                    push(&mut kept, marker, adobe);
                }
            }
            0xe2..=0xef | 0xfe => (),
            0xc3 | 0xc5..=0xcf => return Err(bad("it is of a kind of JPEG that is hardly read by anything")),
            _ => return Err(bad(format!("it has an unknown part (marker {marker:#04x})"))),
        }
    }
    let size = size.filter(|_| scans > 0).ok_or_else(|| bad("it ends before its picture"))?;
    kept.extend_from_slice(b"\xff\xd9");
    Ok((size, kept))
}

fn cut() -> Refusal {
    bad("it is cut off")
}

/// Takes the next marker; any number of 0xff may stand before it.
fn marker(rest: &mut &[u8]) -> Result<u8, Refusal> {
    let at = rest.iter().position(|byte| *byte != 0xff).ok_or_else(cut)?;
    if at == 0 {
        return Err(bad("something stands between its parts"));
    }
    let marker = rest[at];
    *rest = &rest[at + 1..];
    Ok(marker)
}

/// Takes the data of a segment.
fn segment<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Refusal> {
    let length = usize::from(u16::from_be_bytes(*rest.first_chunk::<2>().ok_or_else(cut)?));
    if length < 2 {
        return Err(bad("a part of it has no length"));
    }
    let data = rest.get(2..length).ok_or_else(cut)?;
    *rest = &rest[length..];
    Ok(data)
}

fn push(kept: &mut Vec<u8>, marker: u8, data: &[u8]) {
    kept.extend_from_slice(&[0xff, marker]);
    // It was read with a length of two bytes, or is of a fixed, small one.
    kept.extend_from_slice(&(data.len() as u16 + 2).to_be_bytes());
    kept.extend_from_slice(data);
}

fn frame(data: &[u8]) -> Result<(u32, u32), Refusal> {
    let &[precision, h1, h0, w1, w0, components, ..] = data else { return Err(bad("its frame is broken")) };
    if precision != 8 {
        return Err(bad(format!("it has {precision} bits a colour, and only 8 are read")));
    }
    if !matches!(components, 1 | 3 | 4) || data.len() != 6 + 3 * usize::from(components) {
        return Err(bad("its frame is broken"));
    }
    let (width, height) = (u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into());
    bounded(width, height)?;
    Ok((width, height))
}

/// Bytes of packed pixels up to the next marker that is not of them.
fn scan_length(rest: &[u8]) -> Result<usize, Refusal> {
    let of_pixels = |pair: &[u8]| pair[0] != 0xff || matches!(pair[1], 0x00 | 0xd0..=0xd7 | 0xff);
    rest.windows(2).position(|pair| !of_pixels(pair)).ok_or_else(cut)
}

/// The header of JFIF without its thumbnail.
fn jfif(data: &[u8]) -> Option<[u8; 14]> {
    let mut header: [u8; 14] = data.first_chunk().copied().filter(|header| header.starts_with(b"JFIF\0"))?;
    header[12..].fill(0);
    Some(header)
}

/// How the camera was held, 2 to 8, of an Exif segment; 1 is upright and needs no saying.
fn orientation(data: &[u8]) -> Option<u8> {
    const TAG: u16 = 0x0112;
    const SHORT: u16 = 3;
    let tiff = data.strip_prefix(b"Exif\0\0")?;
    let little = match tiff.first_chunk::<4>()? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<2>()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let bytes = *tiff.get(4..)?.first_chunk::<4>()?;
    let directory = if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize;
    let entries = (0..usize::from(short(directory)?)).map(|number| directory + 2 + 12 * number);
    let mut tags = entries.map_while(|at| Some((short(at)?, short(at + 2)?, short(at + 8)?)));
    let (.., value) = tags.find(|(tag, kind, _)| *tag == TAG && *kind == SHORT)?;
    u8::try_from(value).ok().filter(|value| (2..=8).contains(value))
}

/// An Exif segment that says how the camera was held, and nothing else.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0]);
    exif
}

fn decode(bytes: &[u8]) -> Result<(), Refusal> {
    let side = ATTACHMENT_IMAGE_MAX_SIDE as usize;
    let options = DecoderOptions::new_safe()
        .set_max_width(side)
        .set_max_height(side)
        .set_strict_mode(true)
        .jpeg_set_max_scans(SCANS_MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let broken = |error| bad(format!("it does not decode ({error})"));
    decoder.decode_headers().map_err(broken)?;
    // As it is stored, not converted: a quarter of the memory of the usual output for grey ones.
    if let Some(stored) = decoder.input_colorspace()
        && matches!(stored, ColorSpace::Luma | ColorSpace::YCbCr)
    {
        decoder.set_options(options.jpeg_set_out_colorspace(stored));
    }
    decoder.decode().map(drop).map_err(broken)
}
