//! Masking a whole text.

use std::borrow::Cow;
use std::ops::Range;

use crate::MASK;
use crate::net::Net;
use crate::shape::End;
use crate::walk::{Walk, join, joined};

pub fn text<'a>(net: &Net, text: &'a str) -> Cow<'a, str> {
    without(text, find(net, text.as_bytes()))
}

/// What stands where a text was cut.
const CUT: &str = "...";
/// The shortest beginning of a value that is masked before a cut. A shorter one tells little, and is found in every text.
const CUT_MIN: usize = 5;
/// Cuts that are looked at in one text: previews have few, and a text that is nothing else must cost no more.
const CUTS_MAX: usize = 64;

pub fn preview<'a>(net: &Net, text: &'a str) -> Cow<'a, str> {
    let mut secrets = find(net, text.as_bytes());
    let whole = secrets.len();
    for (end, _) in text.match_indices(CUT).take(CUTS_MAX) {
        secrets.extend(net.begun(&text.as_bytes()[..end], CUT_MIN).map(|start| start..end));
    }
    if secrets.len() > whole {
        secrets = join(secrets);
    }
    without(text, secrets)
}

fn without(text: &str, secrets: Vec<Range<usize>>) -> Cow<'_, str> {
    if secrets.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    for Range { start, end } in secrets {
        // Secrets begin and end at characters: every form is a whole text.
        clean.push_str(text.get(at..start).unwrap_or_default());
        clean.push_str(MASK);
        at = end;
    }
    clean.push_str(text.get(at..).unwrap_or_default());
    Cow::Owned(clean)
}

/// Where the secrets of a whole text are, in order, apart from each other.
pub fn find(net: &Net, bytes: &[u8]) -> Vec<Range<usize>> {
    let mut walk = Walk::new(net);
    walk.read(net, bytes, End::Final);
    joined(&walk.spans)
}
