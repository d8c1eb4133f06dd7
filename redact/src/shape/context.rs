//! Secrets that are known by what stands before them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{End, Set, Tail, Verdict, random};

/// Separators between a name and its value, at most.
const BETWEEN_MAX: usize = 12;
/// How much of a basic credential is decoded in search of its colon.
const BASIC_MAX: usize = 128;

pub(super) fn value(text: &[u8], head: usize, between: &[u8], set: Set, least: usize, end: End) -> Verdict {
    let gap = text[head..].iter().take(BETWEEN_MAX).take_while(|b| between.contains(b)).count();
    let start = head + gap;
    let run = set.run(&text[start..], least);
    if run < least {
        return if start + run == text.len() && gap < BETWEEN_MAX { end.ran_out() } else { Verdict::No };
    }
    if random(&text[start..start + least]) {
        Verdict::Yes { start, end: start + least, tail: Tail::Set(set) }
    } else {
        Verdict::No
    }
}

pub(super) fn basic(text: &[u8], head: usize, end: End) -> Verdict {
    let run = Set::Base64.run(&text[head..], BASIC_MAX);
    // Whole groups only, so that it does not matter how much of the text is there.
    let groups = text[head..head + run].chunks_exact(4);
    let mut decoded = Vec::new();
    for (n, group) in groups.enumerate() {
        let data = group.iter().position(|b| *b == b'=').map_or(group, |pad| &group[..pad]);
        let Ok(bytes) = STANDARD_NO_PAD.decode(data) else { return Verdict::No };
        for byte in bytes {
            match byte {
                b':' if !decoded.is_empty() => {
                    return Verdict::Yes {
                        start: head,
                        end: head + 4 * (n + 1),
                        tail: Tail::Set(Set::Base64),
                    };
                }
                0x21..=0x7e => decoded.push(byte),
                _ => return Verdict::No,
            }
        }
    }
    if head + run == text.len() && run < BASIC_MAX { end.ran_out() } else { Verdict::No }
}
