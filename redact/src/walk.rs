//! One walk over a text: where its secrets are, and how much of its end is not yet clear.
//!
//! The walk may be interrupted anywhere. [`Walk::read`] takes a buffer whose beginning was seen before; [`Walk::drop`]
//! takes what is clear off that beginning. A whole text is the same walk with one reading.

use std::ops::Range;

use crate::net::{Hit, Net, Place, back};
use crate::shape::{self, Before, End, Set, Tail, Verdict};

/// A secret in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub range: Range<usize>,
    pub kind: &'static str,
    /// What of the text to come belongs to it.
    tail: Tail,
}

/// What an exact value is called.
pub const CONFIGURED: &str = "a secret of this platform's configuration";

/// Spans looked at for one that ends where a shape begins. More never end at one place in a text of this world.
const NEIGHBOURS: usize = 32;

#[derive(Clone)]
pub struct Walk {
    place: Place,
    /// How far the buffer was read.
    read: usize,
    /// The two bytes before the buffer.
    before: [u8; 2],
    /// What was found, in the order it was found in.
    pub spans: Vec<Span>,
    waiting: Vec<Waiting>,
    /// Up to where each set was followed, so that a run is followed once.
    followed: Vec<(Set, usize)>,
}

#[derive(Clone, Copy)]
struct Waiting {
    shape: usize,
    start: usize,
}

impl Walk {
    pub fn new(net: &Net) -> Walk {
        Walk {
            place: Place::start(net),
            read: 0,
            before: [b' '; 2],
            spans: Vec::new(),
            waiting: Vec::new(),
            followed: Vec::new(),
        }
    }

    /// Reads what is new at the end of `buffer`. With `End::Final` everything is decided.
    pub fn read(&mut self, net: &Net, buffer: &[u8], end: End) {
        let from = self.read;
        self.read = buffer.len();
        for span in &mut self.spans {
            follow(buffer, span);
            if let Tail::Set(set) = span.tail {
                self.followed.retain(|(s, _)| *s != set);
                self.followed.push((set, span.range.end));
            }
        }
        for Waiting { shape, start } in std::mem::take(&mut self.waiting) {
            self.judge(buffer, shape, start, end);
        }
        let mut place = self.place;
        net.read(buffer, from, &mut place, &mut |hit, stop| match hit {
            Hit::Value(length) => {
                let range = back(buffer, stop, length)..stop;
                self.spans.push(Span { range, kind: CONFIGURED, tail: Tail::None });
            }
            Hit::Shape(shape) => {
                let begins = shape::ALL[shape].begins.as_bytes();
                let Some(start) = stop.checked_sub(begins.len()) else { return };
                // A line break within makes it no beginning.
                if &buffer[start..stop] == begins && self.may_begin(buffer, start, shape::ALL[shape].before) {
                    self.judge(buffer, shape, start, end);
                }
            }
        });
        self.place = place;
    }

    /// Up to where the buffer is decided.
    pub fn clear(&self, net: &Net, buffer: &[u8]) -> usize {
        let partial = net.partial(buffer, self.place);
        self.waiting.iter().map(|w| w.start).min().unwrap_or(partial).min(partial)
    }

    /// The buffer loses its first `count` bytes.
    pub fn drop(&mut self, buffer: &[u8], count: usize) {
        match buffer[..count] {
            [.., a, b] => self.before = [a, b],
            [b] => self.before = [self.before[1], b],
            [] => return,
        }
        self.read -= count;
        self.waiting.iter_mut().for_each(|w| w.start -= count);
        self.followed.retain(|(_, to)| *to > count);
        self.followed.iter_mut().for_each(|(_, to)| *to -= count);
        // One that ends just here is still a neighbour of what follows.
        self.spans.retain(|span| span.range.end >= count);
        for span in &mut self.spans {
            span.range = span.range.start.saturating_sub(count)..span.range.end - count;
        }
    }

    fn may_begin(&self, buffer: &[u8], start: usize, before: Before) -> bool {
        let at = |back: usize| match start.checked_sub(back) {
            Some(n) => buffer[n],
            None => self.before[2 + start - back],
        };
        let (one, two) = (at(1), at(2));
        match before {
            Before::Any => true,
            Before::Letter => one.is_ascii_alphabetic(),
            Before::Edge => {
                let word = one.is_ascii_alphanumeric() || matches!(one, b'_' | b'-');
                // The ends of `\n` in a quoted text and of a terminal's colour look like letters.
                let escape = two == b'\\' && matches!(one, b'n' | b'r' | b't');
                let colour = one == b'm' && (two.is_ascii_digit() || two == b'[');
                !word
                    || escape
                    || colour
                    || self.spans.iter().rev().take(NEIGHBOURS).any(|s| s.range.end == start)
            }
        }
    }

    fn judge(&mut self, buffer: &[u8], shape: usize, start: usize, end: End) {
        let known = &shape::ALL[shape];
        if let shape::Rule::Run(set, _) = known.rule
            && self.followed.iter().any(|(s, to)| *s == set && start + known.begins.len() < *to)
            && known.begins.bytes().all(|b| set.has(b))
        {
            return;
        }
        match known.judge(&buffer[start..], end) {
            Verdict::No => (),
            Verdict::Wait => self.waiting.push(Waiting { shape, start }),
            Verdict::Yes { start: first, end: last, tail } => {
                let set = if let Tail::Set(set) = tail { Some(set) } else { None };
                let mut span = Span { range: start + first..start + last, kind: known.kind, tail };
                follow(buffer, &mut span);
                if let Some(set) = set {
                    self.followed.retain(|(s, _)| *s != set);
                    self.followed.push((set, span.range.end));
                }
                self.spans.push(span);
            }
        }
    }
}

/// Takes what follows a secret and belongs to it into its span.
fn follow(buffer: &[u8], span: &mut Span) {
    let rest = &buffer[span.range.end..];
    match &mut span.tail {
        Tail::None => (),
        Tail::Set(set) => {
            let run = set.run(rest, rest.len());
            span.range.end += run;
            if run < rest.len() {
                span.tail = Tail::None;
            }
        }
        Tail::Pem(pem) => {
            let (fed, over) = pem.feed(rest);
            span.range.end += fed;
            if over {
                span.tail = Tail::None;
            }
        }
    }
}

/// Spans in order, those that touch as one.
pub fn joined(spans: &[Span]) -> Vec<Range<usize>> {
    join(spans.iter().map(|s| s.range.clone()).collect())
}

/// Ranges in order, those that touch as one.
pub fn join(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|r| (r.start, r.end));
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}
