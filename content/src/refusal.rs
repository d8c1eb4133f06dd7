//! Why a file is not taken, each in a sentence for whoever sent it.

use domain::limit::{
    ATTACHMENT_IMAGE_MAX_PIXELS, ATTACHMENT_IMAGE_MAX_SIDE, ATTACHMENT_INSPECTION, ATTACHMENT_MAX_BYTES,
    ATTACHMENT_PDF_MAX_PAGES, ATTACHMENT_PDF_MAX_TEXT_BYTES,
};
use serde::{Deserialize, Serialize};

use crate::MediaType;

/// Why a file is refused. It is about the file: the same bytes are refused again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", content = "detail", rename_all = "snake_case")]
pub enum Refusal {
    /// There are no bytes.
    #[error("The file is empty.")]
    Empty,
    /// The bytes are of another type than declared.
    #[error("The file was declared as {declared}, but its content is {}.", instead(*found))]
    WrongType {
        /// What it was said to be.
        declared: MediaType,
        /// What it is, when it is one of the allowed types.
        found: Option<MediaType>,
    },
    /// The bytes are of a type that cannot be attached.
    #[error(
        "The file is {is}, which cannot be attached. Allowed are PNG, JPEG, PDF, JSON and text (plain, CSV, Markdown, \
         log) in UTF-8."
    )]
    Foreign {
        /// What it is, for people.
        is: String,
    },
    /// More bytes than an attachment may have.
    #[error("The file has {bytes} bytes, and {ATTACHMENT_MAX_BYTES} are allowed.")]
    TooLarge {
        /// Bytes that it has.
        bytes: u64,
    },
    /// Text was declared, or nothing, and it is none.
    #[error(
        "The file is no UTF-8 text: byte {at} (counted from 0) belongs to none. Save it as UTF-8, or send it with its \
         own type."
    )]
    NotText {
        /// Where the first byte is that is not of a text.
        at: usize,
    },
    /// It is no JSON, or too deep.
    #[error("The file is no JSON that can be read: {0}.")]
    BadJson(String),
    /// It begins as a picture and is none.
    #[error("The picture cannot be read: {0}. Open it in an image editor and export it again.")]
    BadImage(String),
    /// A side, or the whole, has too many pixels.
    #[error(
        "The picture is {width} x {height} pixels. A side may have {ATTACHMENT_IMAGE_MAX_SIDE}, the whole \
         {ATTACHMENT_IMAGE_MAX_PIXELS}: scale it down."
    )]
    ImageTooLarge {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// It begins as a PDF and is none that can be read.
    #[error("The PDF cannot be read: {0}. Print it to a new PDF, or send its text.")]
    BadPdf(String),
    /// It takes a password, or none, to read it.
    #[error(
        "The PDF is encrypted, even if it opens without a password. Print it to a new PDF, or send its text."
    )]
    EncryptedPdf,
    /// There is no text in it: pages that were scanned.
    #[error(
        "The PDF has no text: its pages are pictures. Send the pages as PNG or JPEG, or run text recognition."
    )]
    PdfWithoutText,
    /// Over [`ATTACHMENT_PDF_MAX_PAGES`].
    #[error("The PDF has more than {ATTACHMENT_PDF_MAX_PAGES} pages. Send those that matter.")]
    PdfTooManyPages {
        /// Pages counted before it was given up.
        pages: u32,
    },
    /// Over [`ATTACHMENT_PDF_MAX_TEXT_BYTES`].
    #[error(
        "The PDF has more than {ATTACHMENT_PDF_MAX_TEXT_BYTES} bytes of text. Send the pages that matter."
    )]
    PdfTooMuchText {
        /// Bytes counted before it was given up.
        bytes: usize,
    },
    /// It does something, or carries other files.
    #[error("The PDF contains {0}, which is not taken. Print it to a new PDF, or send its text.")]
    ActivePdf(String),
    /// Looking at it took too long.
    #[error("Reading the file took longer than {} s. Send a simpler one.", ATTACHMENT_INSPECTION.as_secs())]
    TooSlow,
    /// Looking at it took more memory than it may, or broke its reader.
    #[error("Reading the file takes more memory than it may. Send a simpler one.")]
    TooCostly,
}

fn instead(found: Option<MediaType>) -> String {
    match found {
        Some(found) => format!("{found}: send it as that"),
        None => "neither that nor anything else that can be attached".into(),
    }
}
