//! The automaton that finds exact values and the beginnings of shapes in one pass.

use std::collections::HashMap;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::{Anchored, dfa, nfa::contiguous};

use crate::{form, shape};

/// Above this the table of a DFA would cost more memory than its speed is worth.
const DFA_MAX_BYTES: usize = 24 * 1024;

/// How far back from a cut the beginning of a value is looked for.
const BEGUN_MAX: usize = 256;

/// What is looked for.
pub struct Net {
    automaton: Machine,
    /// The exact forms, sorted; patterns after these are beginnings of shapes.
    exact: Vec<Vec<u8>>,
    /// How many of the bytes read last are the beginning of something, by state.
    depth: HashMap<StateID, usize>,
}

/// Whether shapes are looked for as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shapes {
    /// All that are known.
    Known,
    /// None.
    None,
}

enum Machine {
    Dfa(dfa::DFA),
    Nfa(contiguous::NFA),
}

/// What ended at a byte.
pub enum Hit {
    /// An exact value of so many bytes, line breaks not counted.
    Value(usize),
    /// The beginning of `shape::ALL[_]`.
    Shape(usize),
}

impl Net {
    pub fn new(values: &[&str], shapes: Shapes) -> Net {
        let shapes: &[shape::Shape] = match shapes {
            Shapes::Known => shape::ALL,
            Shapes::None => &[],
        };
        let forms: std::collections::BTreeSet<Vec<u8>> = values.iter().flat_map(|v| form::all(v)).collect();
        let exact: Vec<Vec<u8>> = forms.into_iter().collect();
        let patterns: Vec<&[u8]> =
            exact.iter().map(Vec::as_slice).chain(shapes.iter().map(|s| s.begins.as_bytes())).collect();
        let automaton = Machine::new(&patterns);
        let mut depth = HashMap::new();
        for pattern in &patterns {
            let mut at = automaton.start();
            for (n, byte) in pattern.iter().enumerate() {
                at = automaton.next(at, *byte);
                depth.insert(at, n + 1);
            }
        }
        Net { automaton, exact, depth }
    }

    pub fn start(&self) -> StateID {
        self.automaton.start()
    }

    /// From where on the end of these bytes may belong to something that is not complete.
    pub fn partial(&self, bytes: &[u8], at: Place) -> usize {
        let mut depth = self.depth.get(&at.state).copied().unwrap_or(0);
        if at.breaks > 0 {
            // Over a line break only an exact value goes on.
            let start = back(bytes, bytes.len(), depth);
            let tail: Vec<u8> = bytes[start..].iter().copied().filter(|b| !is_break(*b)).collect();
            depth = (1..=tail.len()).rev().find(|n| self.begins(&tail[tail.len() - n..])).unwrap_or(0);
        }
        if depth == 0 { bytes.len() } else { back(bytes, bytes.len(), depth) }
    }

    /// Where the longest beginning of an exact form stands that these bytes end with, if it has so many bytes at least.
    pub fn begun(&self, bytes: &[u8], least: usize) -> Option<usize> {
        let longest = bytes.len().min(BEGUN_MAX);
        let starts = bytes.len() - longest..=bytes.len().checked_sub(least)?;
        starts.into_iter().find(|start| self.begins(&bytes[*start..]))
    }

    /// Whether an exact form begins so.
    fn begins(&self, text: &[u8]) -> bool {
        let next = self.exact.partition_point(|form| form.as_slice() < text);
        self.exact.get(next).is_some_and(|form| form.starts_with(text))
    }

    /// Reads `bytes[from..]`, and tells of every hit with the offset after it. Line breaks are not seen, since tools
    /// break long values over lines; a gap of more than two lines ends all hope.
    pub fn read(&self, bytes: &[u8], from: usize, at: &mut Place, hit: &mut impl FnMut(Hit, usize)) {
        match &self.automaton {
            Machine::Dfa(dfa) => self.read_with(dfa, bytes, from, at, hit),
            Machine::Nfa(nfa) => self.read_with(nfa, bytes, from, at, hit),
        }
    }

    fn read_with(
        &self,
        machine: &impl Automaton,
        bytes: &[u8],
        from: usize,
        place: &mut Place,
        hit: &mut impl FnMut(Hit, usize),
    ) {
        let Place { mut state, mut breaks } = *place;
        for (n, &byte) in bytes.iter().enumerate().skip(from) {
            if is_break(byte) {
                breaks += 1;
                if breaks > Place::BREAKS_MAX {
                    (state, breaks) = (self.start(), 0);
                }
                continue;
            }
            breaks = 0;
            state = machine.next_state(Anchored::No, state, byte);
            if machine.is_special(state) && machine.is_match(state) {
                for index in 0..machine.match_len(state) {
                    let pattern = machine.match_pattern(state, index).as_usize();
                    let what = match self.exact.get(pattern) {
                        Some(form) => Hit::Value(form.len()),
                        None => Hit::Shape(pattern - self.exact.len()),
                    };
                    hit(what, n + 1);
                }
            }
        }
        *place = Place { state, breaks };
    }
}

/// A line break: not seen by the search.
fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// The offset `count` bytes before `end`, line breaks not counted.
pub fn back(bytes: &[u8], end: usize, count: usize) -> usize {
    let (mut left, mut at) = (count, end);
    while left > 0 && at > 0 {
        at -= 1;
        if !is_break(bytes[at]) {
            left -= 1;
        }
    }
    at
}

/// Where a reading was interrupted.
#[derive(Clone, Copy)]
pub struct Place {
    pub state: StateID,
    breaks: u8,
}

impl Place {
    const BREAKS_MAX: u8 = 4;

    pub fn start(net: &Net) -> Place {
        Place { state: net.start(), breaks: 0 }
    }
}

impl Machine {
    fn new(patterns: &[&[u8]]) -> Machine {
        let size: usize = patterns.iter().map(|p| p.len()).sum();
        // Neither can fail below some billion states: what is configured and compiled in is far from that.
        let machine = if size <= DFA_MAX_BYTES {
            dfa::DFA::builder().prefilter(false).build(patterns).map(Machine::Dfa)
        } else {
            contiguous::NFA::builder().prefilter(false).build(patterns).map(Machine::Nfa)
        };
        machine.unwrap_or_else(|e| panic!("the search for secrets cannot be made: {e}"))
    }

    fn start(&self) -> StateID {
        match self {
            Machine::Dfa(dfa) => dfa.start_state(Anchored::No),
            Machine::Nfa(nfa) => nfa.start_state(Anchored::No),
        }
        .expect("both are built for searches that are not anchored")
    }

    fn next(&self, state: StateID, byte: u8) -> StateID {
        match self {
            Machine::Dfa(dfa) => dfa.next_state(Anchored::No, state, byte),
            Machine::Nfa(nfa) => nfa.next_state(Anchored::No, state, byte),
        }
    }
}
