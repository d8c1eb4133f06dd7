//! The whole decision about one file.

use std::panic::catch_unwind;

use domain::limit::ATTACHMENT_MAX_BYTES;
use serde::{Deserialize, Serialize};

use crate::sniff::{binary, foreign, magic, text};
use crate::{MediaType, Refusal, image_tokens, jpeg, json, pdf, png, sniff, text_tokens};

/// A file that may be shown to a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// What it is: as declared, when the bytes bear that out.
    pub media: MediaType,
    /// Width and height in pixels, of pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<(u32, u32)>,
    /// What is to be screened and can be shown: a text as it is, without a byte order mark; all text of a PDF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Tokens of a model's context that it takes, about.
    pub tokens: u32,
    /// The picture without its metadata, when something had to be taken out: what is stored and shown instead. The
    /// pixels are the same, to the bit.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::frame::base64")]
    pub clean: Option<Vec<u8>>,
}

/// Looks at a whole file, in this process: use [`Inspector`](crate::Inspector) for bytes of strangers.
///
/// Without a declared type the file is what [`sniff`] finds. It may take seconds and hundreds of megabytes.
///
/// # Errors
/// Why the file is not taken.
pub fn check(declared: Option<MediaType>, bytes: &[u8]) -> Result<Checked, Refusal> {
    match kind(declared, bytes)? {
        MediaType::Png => caught(|| png::check(bytes), Refusal::BadImage),
        MediaType::Jpeg => caught(|| jpeg::check(bytes), Refusal::BadImage),
        MediaType::Pdf => caught(|| pdf::check(bytes), Refusal::BadPdf),
        media => as_text(media, bytes),
    }
}

/// What the file is to be looked at as: by its first bytes and by what was declared.
pub(crate) fn kind(declared: Option<MediaType>, bytes: &[u8]) -> Result<MediaType, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Empty);
    }
    if bytes.len() as u64 > ATTACHMENT_MAX_BYTES {
        return Err(Refusal::TooLarge { bytes: bytes.len() as u64 });
    }
    if let Some(is) = foreign(bytes) {
        return Err(Refusal::Foreign { is: is.into() });
    }
    let found = magic(bytes);
    match (declared, found) {
        (None, Some(found)) => Ok(found),
        (Some(declared), Some(found)) if declared == found => Ok(found),
        (Some(declared), Some(found)) => Err(Refusal::WrongType { declared, found: Some(found) }),
        (Some(declared), None) if declared.is_text() => text_only(bytes).map(|_| declared),
        (Some(declared), None) => match text_only(bytes) {
            Ok(_) => Err(Refusal::WrongType { declared, found: sniff(bytes) }),
            Err(foreign @ Refusal::Foreign { .. }) => Err(foreign),
            Err(_) => Err(Refusal::WrongType { declared, found: None }),
        },
        (None, None) => text_only(bytes).map(|_| sniff(bytes).unwrap_or(MediaType::Text)),
    }
}

fn as_text(media: MediaType, bytes: &[u8]) -> Result<Checked, Refusal> {
    let text = text_only(bytes)?;
    if media == MediaType::Json {
        json::check(text).map_err(Refusal::BadJson)?;
    }
    Ok(Checked { media, size: None, text: Some(text.to_owned()), tokens: text_tokens(text), clean: None })
}

fn text_only(bytes: &[u8]) -> Result<&str, Refusal> {
    text(bytes).map_err(|at| match binary(bytes) {
        Some(is) => Refusal::Foreign { is: is.into() },
        None => Refusal::NotText { at },
    })
}

/// A parser that panics has met a file that it cannot read.
fn caught(
    parse: impl FnOnce() -> Result<Checked, Refusal> + std::panic::UnwindSafe,
    refusal: impl FnOnce(String) -> Refusal,
) -> Result<Checked, Refusal> {
    catch_unwind(parse).unwrap_or_else(|_| Err(refusal("its structure broke the reader".into())))
}

impl Checked {
    pub(crate) fn image(media: MediaType, size: (u32, u32), clean: Option<Vec<u8>>) -> Self {
        Self { media, size: Some(size), text: None, tokens: image_tokens(size.0, size.1), clean }
    }
}
