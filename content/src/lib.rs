//! What the bytes of an attachment are, and whether a model may be shown them.
//!
//! People send pictures, text and PDFs; whoever can submit a task, or be quoted in one, chooses the bytes. So a file is
//! believed to be nothing but what its bytes prove, and what has to be parsed to prove it is parsed where a mistake of a
//! parser harms nothing: in a child that can only read what it was given and answer ([`isolated`]).
//!
//! ```text
//! check_name ─▶ Inspector::check ─▶ [child: confine ─▶ check] ─▶ Checked { media, size, text, tokens, clean } or Refusal
//! ```
//!
//! [`check`] is pure and is the whole decision. What it refuses it refuses with a sentence that a person can act on; it
//! never shortens or repairs a file into acceptance. All it changes is what may be taken out unseen: metadata of
//! pictures ([`Checked::clean`]), which carries places, names and hidden instructions.

mod check;
mod frame;
mod image;
mod inspect;
pub mod isolated;
mod jpeg;
mod json;
mod media;
mod name;
mod pdf;
mod png;
mod refusal;
mod sniff;
mod token;

pub use check::{Checked, check};
pub use inspect::{COMMAND, main_inspect};
pub use isolated::{InspectError, Inspector};
pub use media::MediaType;
pub use name::{NameError, check_name};
pub use refusal::Refusal;
pub use sniff::sniff;
pub use token::{image_tokens, text_tokens};
