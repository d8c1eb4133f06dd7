//! JSON web tokens, and other runs of base64 with dots between.

use super::{End, Set, Tail, Verdict, varied};

/// The longest header and the longest payload. A longer run is data, not a token.
const PART_MAX: usize = 16 * 1024;

pub(super) fn judge(text: &[u8], end: End) -> Verdict {
    dotted(text, 0, &[12, 10, 10], end)
}

/// Runs of at least so many characters, the first from `head` on.
pub(super) fn dotted(text: &[u8], head: usize, runs: &[usize], end: End) -> Verdict {
    let mut at = head;
    for (n, least) in runs.iter().enumerate() {
        let last = n + 1 == runs.len();
        let run = Set::Url.run(&text[at..], if last { *least } else { PART_MAX });
        let stop = at + run;
        if last && run == *least {
            return if varied(&text[at..stop]) {
                Verdict::Yes { start: 0, end: stop, tail: Tail::Set(Set::Url) }
            } else {
                Verdict::No
            };
        }
        match text.get(stop) {
            None if run < PART_MAX => return end.ran_out(),
            Some(b'.') if !last && run >= *least => at = stop + 1,
            Some(_) | None => return Verdict::No,
        }
    }
    Verdict::No
}
