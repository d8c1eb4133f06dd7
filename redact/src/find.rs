//! What is in a file that should not be.

use std::ops::Range;

use crate::MASK;
use crate::net::Net;
use crate::shape::End;
use crate::walk::{CONFIGURED, Walk, joined};

/// Bytes of a line shown before and after its secret.
const AROUND: usize = 60;

/// A secret in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is, in words that stand in a sentence: "a GitHub token".
    pub kind: &'static str,
    /// Its line, from 1.
    pub line: usize,
    /// What stands around it in that line, with every secret masked.
    pub preview: String,
}

pub fn scan(net: &Net, bytes: &[u8]) -> Vec<Finding> {
    let mut walk = Walk::new(net);
    walk.read(net, bytes, End::Final);
    let secrets = joined(&walk.spans);
    let mut spans = walk.spans;
    spans.sort_by_key(|span| (span.range.start, span.kind != CONFIGURED));
    let mut spans = spans.iter().peekable();
    let (mut line, mut at) = (1, 0);
    let mut findings = Vec::with_capacity(secrets.len());
    for (n, secret) in secrets.iter().enumerate() {
        // A configured value is told rather than the shape it is part of.
        let mut kind = None;
        while let Some(span) = spans.next_if(|span| span.range.start < secret.end) {
            if kind.is_none() || span.kind == CONFIGURED {
                kind = Some(span.kind);
            }
        }
        line += bytes[at..secret.start].iter().filter(|b| **b == b'\n').count();
        at = secret.start;
        let kind = kind.unwrap_or(CONFIGURED);
        findings.push(Finding { kind, line, preview: preview(bytes, &secrets, n) });
    }
    findings
}

/// The surroundings of a secret in its line; neighbours are masked as well.
fn preview(bytes: &[u8], secrets: &[Range<usize>], n: usize) -> String {
    let secret = &secrets[n];
    let mut before = secret.start.saturating_sub(AROUND);
    before += bytes[before..secret.start].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let mut after = bytes.len().min(secret.end + AROUND);
    after = bytes[secret.end..after].iter().position(|b| *b == b'\n').map_or(after, |at| secret.end + at);
    let (mut text, mut at) = (Vec::new(), before);
    let first = secrets[..n].iter().rposition(|s| s.end <= before).map_or(0, |at| at + 1);
    for other in secrets[first..].iter().take_while(|other| other.start < after) {
        text.extend_from_slice(&bytes[at..other.start.max(at)]);
        text.extend_from_slice(MASK.as_bytes());
        at = other.end.max(at);
    }
    text.extend_from_slice(&bytes[at.min(after)..after]);
    String::from_utf8_lossy(&text).trim().to_owned()
}
