//! PDF: what it is made of, what it would do, and all the text that it shows.
//!
//! The file is read once; from then on everything is bounded by a count of its own: pages, bytes unpacked, bytes of text,
//! how deep forms lie in forms. Nothing is shortened: what is over a bound is refused.

mod active;
mod page;
mod text;

use domain::limit::ATTACHMENT_PDF_MAX_TEXT_BYTES;
use lopdf::{DecompressError, Document, Error, LoadOptions, ParseError};

use crate::{Checked, MediaType, Refusal, text_tokens};

/// Bytes that one table or packed group of objects may unpack to while the file is opened.
const OBJECTS_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Objects in one file.
const OBJECTS_MAX: usize = 200_000;

pub(crate) fn check(bytes: &[u8]) -> Result<Checked, Refusal> {
    complete(bytes)?;
    let options = LoadOptions::with_max_decompressed_size(OBJECTS_MAX_BYTES);
    let mut document = Document::load_mem_with_options(bytes, options).map_err(|error| refusal(&error))?;
    if document.is_encrypted() || document.was_encrypted() || document.trailer.has(b"Encrypt") {
        return Err(Refusal::EncryptedPdf);
    }
    if document.objects.len() > OBJECTS_MAX {
        return Err(bad(format!("it has more than {OBJECTS_MAX} objects")));
    }
    active::check(&document)?;
    text::prefer_unicode(&mut document);
    let pages = page::pages(&document)?;
    let text = text::extract(&document, &pages)?;
    if text.chars().all(|c| c.is_whitespace() || c == char::REPLACEMENT_CHARACTER) {
        return Err(Refusal::PdfWithoutText);
    }
    let tokens = text_tokens(&text);
    Ok(Checked { media: MediaType::Pdf, size: None, text: Some(text), tokens, clean: None })
}

fn bad(why: impl Into<String>) -> Refusal {
    Refusal::BadPdf(why.into())
}

/// What a reader's error means for whoever sent the file.
fn refusal(error: &Error) -> Refusal {
    match error {
        Error::Decompress(DecompressError::MemoryLimitExceeded { .. }) => bad("it unpacks to too much"),
        Error::Decryption(_) | Error::InvalidPassword | Error::UnsupportedSecurityHandler(_) => {
            Refusal::EncryptedPdf
        }
        Error::ReferenceCycle(_) | Error::ReferenceLimit | Error::RecursionLimit => {
            bad("parts of it lead back to themselves")
        }
        Error::Parse(ParseError::InvalidFileHeader) => bad("its header is broken"),
        Error::Parse(_) | Error::Xref(_) => bad("its table of contents is broken, or it is cut off"),
        error => bad(format!("{error}")),
    }
}

/// Whether the file is all there, and nothing but a PDF.
fn complete(bytes: &[u8]) -> Result<(), Refusal> {
    const END: &[u8] = b"%%EOF";
    let end = bytes.windows(END.len()).rposition(|at| at == END).ok_or_else(|| bad("it is cut off"))?;
    let after = &bytes[end + END.len()..];
    if after.iter().any(|byte| !byte.is_ascii_whitespace() && *byte != 0) {
        return Err(bad("something follows its end"));
    }
    if is_archive(bytes) {
        return Err(Refusal::ActivePdf("a ZIP archive at its end".into()));
    }
    Ok(())
}

/// Whether the end of the bytes is that of a ZIP archive with the end of this PDF as its comment. `ATTACHMENT_PDF` readers
/// and unpackers would each see a file of their own.
fn is_archive(bytes: &[u8]) -> bool {
    const RECORD: usize = 22;
    let from = bytes.len().saturating_sub(RECORD + usize::from(u16::MAX));
    let ending = |record: &[u8]| {
        record.starts_with(b"PK\x05\x06")
            && usize::from(u16::from_le_bytes([record[20], record[21]])) == record.len() - RECORD
    };
    (from..bytes.len().saturating_sub(RECORD)).any(|at| ending(&bytes[at..]))
}

/// A text that is refused where it would grow over its bound.
fn within(text: &str) -> Result<(), Refusal> {
    match text.len() {
        bytes if bytes > ATTACHMENT_PDF_MAX_TEXT_BYTES => Err(Refusal::PdfTooMuchText { bytes }),
        _ => Ok(()),
    }
}
