//! Private keys in PEM, of whatever program, with whatever before each line (a diff's sign, a line's number, the `\n` of a
//! JSON text).

use super::{End, Set, Tail, Verdict};

/// The longest first line.
const HEADER_MAX: usize = 64;
/// How far after it the key begins: encrypted keys say first how.
const LEAD_MAX: usize = 256;
/// A run of base64 that is a line of a key.
const LINE_MIN: usize = 32;
/// What may stand between two such lines; after more, a key without an end is over.
const GAP_MAX: usize = 96;
/// The longest key.
const KEY_MAX: usize = 32 * 1024;

pub(super) fn judge(text: &[u8], head: usize, end: End) -> Verdict {
    let name = text[head..]
        .iter()
        .take(HEADER_MAX)
        .take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || **b == b' ')
        .count();
    let (name, rest) = text[head..].split_at(name);
    let dashes = rest.iter().take(5).take_while(|b| **b == b'-').count();
    if dashes < 5 {
        return if dashes == rest.len() && name.len() < HEADER_MAX { end.ran_out() } else { Verdict::No };
    }
    if !(name.ends_with(b"PRIVATE KEY") || name.ends_with(b"PRIVATE KEY BLOCK")) {
        return Verdict::No;
    }
    let from = head + name.len() + 5;
    let mut run = 0;
    for (n, byte) in text[from..].iter().take(LEAD_MAX + LINE_MIN).enumerate() {
        run = if Set::Base64.has(*byte) { run + 1 } else { 0 };
        if run == LINE_MIN {
            return Verdict::Yes { start: 0, end: from + n + 1, tail: Tail::Pem(Pem::default()) };
        }
        if text[from..from + n + 1].ends_with(b"-----END") {
            return Verdict::No;
        }
    }
    if text.len() - from < LEAD_MAX + LINE_MIN { end.ran_out() } else { Verdict::No }
}

/// Where in a private key we are, after its first line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pem {
    /// Bytes so far.
    total: usize,
    /// Base64 characters just read.
    run: usize,
    /// Bytes since the last line of a key.
    gap: usize,
    /// What of the last line was read.
    end: Closing,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Closing {
    /// So many dashes.
    Dashes(usize),
    /// `E` or `EN` after them.
    Letters(usize),
    /// `-----END`, and so many dashes after it.
    Last(usize),
    #[default]
    Nothing,
}

impl Pem {
    /// How many of these bytes belong to the key, and whether it ends with them.
    pub fn feed(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (n, &byte) in bytes.iter().enumerate() {
            // Not within a character.
            if (self.gap > GAP_MAX || self.total > KEY_MAX) && !(0x80..0xc0).contains(&byte) {
                return (n, true);
            }
            self.total += 1;
            self.run = if Set::Base64.has(byte) { self.run + 1 } else { 0 };
            self.gap = if self.run >= LINE_MIN { 0 } else { self.gap + 1 };
            self.end = match (self.end, byte) {
                (Closing::Last(4), b'-') => return (n + 1, true),
                (Closing::Last(dashes), b'-') => Closing::Last(dashes + 1),
                (Closing::Last(_), _) => Closing::Last(0),
                (Closing::Letters(2), b'D') => Closing::Last(0),
                (Closing::Letters(1), b'N') => Closing::Letters(2),
                (Closing::Dashes(5..), b'E') => Closing::Letters(1),
                (Closing::Dashes(dashes), b'-') => Closing::Dashes(dashes + 1),
                (Closing::Nothing | Closing::Letters(_), b'-') => Closing::Dashes(1),
                (Closing::Nothing | Closing::Letters(_) | Closing::Dashes(_), _) => Closing::Nothing,
            };
        }
        (bytes.len(), false)
    }
}
