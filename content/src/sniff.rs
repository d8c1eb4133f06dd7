//! What bytes are by themselves, whatever anybody says of them.

use crate::MediaType;
use crate::json;

/// The mark that some editors put before text.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// What the bytes are: a picture or a PDF by how they begin, JSON when they are, else text when all of them are UTF-8
/// without NUL. `None` when they are nothing that an attachment may be.
///
/// It says what bytes claim to be, not that they are sound: that is what [`check`](crate::check) finds out.
pub fn sniff(bytes: &[u8]) -> Option<MediaType> {
    if foreign(bytes).is_some() {
        return None;
    }
    if let Some(media) = magic(bytes) {
        return Some(media);
    }
    let text = text(bytes).ok()?;
    let json = text.trim_start().starts_with(['{', '[']) && json::check(text).is_ok();
    Some(if json { MediaType::Json } else { MediaType::Text })
}

/// Picture or PDF, by the first bytes.
pub(crate) fn magic(bytes: &[u8]) -> Option<MediaType> {
    [
        (&b"\x89PNG\r\n\x1a\n"[..], MediaType::Png),
        (b"\xff\xd8\xff", MediaType::Jpeg),
        (b"%PDF-", MediaType::Pdf),
    ]
    .into_iter()
    .find_map(|(magic, media)| bytes.starts_with(magic).then_some(media))
}

/// The bytes as text without the mark before it: UTF-8 throughout, and no NUL.
///
/// # Errors
/// The place of the first byte, counted from 0, that is not of a text.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, usize> {
    let nul = bytes.iter().position(|byte| *byte == 0);
    match (std::str::from_utf8(bytes), nul) {
        (Ok(text), None) => Ok(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)),
        (Ok(_), Some(nul)) => Err(nul),
        (Err(error), nul) => Err(nul.unwrap_or(usize::MAX).min(error.valid_up_to())),
    }
}

/// What bytes are that no attachment may be, whether or not they could pass for text: what other programs would run,
/// unpack or render them as.
pub(crate) fn foreign(bytes: &[u8]) -> Option<&'static str> {
    const ALWAYS: &[(usize, &[u8], &str)] = &[
        (0, b"PK\x03\x04", "a ZIP archive (also .docx, .xlsx, .jar, .apk)"),
        (0, b"PK\x05\x06", "a ZIP archive"),
        (0, b"PK\x07\x08", "a ZIP archive"),
        (0, b"\x1f\x8b", "gzip data"),
        (0, b"\xfd7zXZ\0", "xz data"),
        (0, b"\x28\xb5\x2f\xfd", "Zstandard data"),
        (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
        (0, b"Rar!\x1a\x07", "a RAR archive"),
        (0, b"\x7fELF", "a program (ELF)"),
        (0, b"\xfe\xed\xfa\xce", "a program (Mach-O)"),
        (0, b"\xfe\xed\xfa\xcf", "a program (Mach-O)"),
        (0, b"\xce\xfa\xed\xfe", "a program (Mach-O)"),
        (0, b"\xcf\xfa\xed\xfe", "a program (Mach-O)"),
        (0, b"\xca\xfe\xba\xbe", "a program (Java class or Mach-O)"),
        (0, b"\0asm", "a program (WebAssembly)"),
        (0, b"GIF87a", "a GIF picture"),
        (0, b"GIF89a", "a GIF picture"),
        (8, b"WEBP", "a WebP picture"),
        (0, b"II*\0", "a TIFF picture"),
        (0, b"MM\0*", "a TIFF picture"),
        (4, b"ftyp", "a HEIC or AVIF picture or an MP4 video"),
        (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
        (0, b"SQLite format 3\0", "a SQLite database"),
        (0, b"{\\rtf", "an RTF document"),
        (0, b"%!PS", "a PostScript program"),
        (0, b"\xff\xfe", "text in UTF-16 or UTF-32"),
        (0, b"\xfe\xff", "text in UTF-16"),
        (257, b"ustar", "a tar archive"),
    ];
    let found = ALWAYS.iter().find(|(at, magic, _)| {
        let riff = *magic != b"WEBP" || bytes.starts_with(b"RIFF");
        // The size of a box before its name: text that happens to say "ftyp" there has none.
        let sized = *magic != b"ftyp" || bytes.first() == Some(&0);
        riff && sized && bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic))
    });
    found.map(|(.., name)| *name).or_else(|| markup(bytes))
}

/// What bytes are that are no text; their first bytes could be those of a text, too.
pub(crate) fn binary(bytes: &[u8]) -> Option<&'static str> {
    const BINARY: &[(&[u8], &str)] = &[
        (b"MZ", "a program (Windows)"),
        (b"BZh", "bzip2 data"),
        (b"BM", "a BMP picture"),
        (b"ID3", "an MP3 recording"),
        (b"OggS", "an Ogg recording"),
        (b"fLaC", "a FLAC recording"),
        (b"RIFF", "a recording (WAV or AVI)"),
        (b"\0\0\x01\0", "an icon"),
    ];
    BINARY.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| *name)
}

/// Markup that a browser would run.
fn markup(bytes: &[u8]) -> Option<&'static str> {
    /// How far into a file the element that names it may stand: after declarations and comments.
    const HEAD: usize = 4_096;
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK.as_bytes()).unwrap_or(bytes);
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD)]).to_ascii_lowercase();
    let mut head = head.trim_start();
    let mut prologue = false;
    loop {
        if begins_element(head, "html") || head.starts_with("<!doctype html") {
            return Some("an HTML page");
        }
        if begins_element(head, "svg") || head.starts_with("<!doctype svg") {
            return Some("an SVG picture");
        }
        let end = if head.starts_with("<!--") {
            head.find("-->").map(|at| at + 3)
        } else if head.starts_with("<?xml") || prologue && head.starts_with("<!doctype") {
            head.find('>').map(|at| at + 1)
        } else {
            None
        };
        head = head[end?..].trim_start();
        prologue = true;
    }
}

fn begins_element(text: &str, name: &str) -> bool {
    let rest = text.strip_prefix('<').and_then(|rest| rest.strip_prefix(name));
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_whitespace() || matches!(c, '>' | '/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_what_they_begin_with_or_text() {
        for (bytes, expected) in [
            (&b"\x89PNG\r\n\x1a\n..."[..], Some(MediaType::Png)),
            (b"\xff\xd8\xff\xe0", Some(MediaType::Jpeg)),
            (b"%PDF-1.7\n", Some(MediaType::Pdf)),
            (b"{\"a\": [1]}", Some(MediaType::Json)),
            (b"\xef\xbb\xbf [1]", Some(MediaType::Json)),
            (b"{not json}", Some(MediaType::Text)),
            (b"[2024-01-01] started", Some(MediaType::Text)),
            (b"hello", Some(MediaType::Text)),
            (b"# see %PDF- in the text", Some(MediaType::Text)),
            (b"", Some(MediaType::Text)),
            (b"<p align=\"center\">A README</p>", Some(MediaType::Text)),
            (b"<htmlish>", Some(MediaType::Text)),
            (b"<!-- a note -->\n# Title", Some(MediaType::Text)),
            (b"MZ is a village", Some(MediaType::Text)),
            (b"PK\x03\x04rest", None),
            (b"\x1f\x8b\x08", None),
            (b"\x7fELF\x02", None),
            (b"GIF89a=1;alert(1)", None),
            (b"RIFF\x01\x01\x01\x01WEBPVP8 ", None),
            (b"\0\0\0\x18ftypheic", None),
            (b"\xff\xfeh\0i\0", None),
            (b"  <!DOCTYPE html><p>", None),
            (b"<!-- x --><HTML lang=en>", None),
            (b"<?xml version=\"1.0\"?>\n<!-- x -->\n<svg onload=alert(1)>", None),
            (b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC 'x'><svg/>", None),
            (b"MZ\x90\0", None),
            (b"text\0text", None),
            (b"text \xff", None),
        ] {
            assert_eq!(sniff(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    /// The reference looked at the first 8 KB and believed the rest.
    #[test]
    fn all_of_a_text_is_looked_at() {
        for tail in [&b"\0"[..], b"\xff", b"\xc3"] {
            let mut bytes = vec![b'a'; 1 << 20];
            bytes.extend_from_slice(tail);
            assert_eq!(sniff(&bytes), None, "{tail:?}");
            assert_eq!(text(&bytes), Err(1 << 20), "{tail:?}");
        }
        assert_eq!(text(b"a\xff\0"), Err(1));
        assert_eq!(text(b"a\0\xff"), Err(1));
        assert_eq!(text("\u{feff}a\u{feff}".as_bytes()), Ok("a\u{feff}"));
    }
}
