//! Ids of traces and spans: computed, never drawn.
//!
//! A ULID is 48 bits of time and 80 random bits, so the 128 bits of a task's id make a trace id as W3C Trace Context
//! (level 2) wants one: its last 56 bits are random. A span's id is the beginning of a SHA-256 over what it stands for.

use std::fmt;

use domain::{Attempt, RequestId, TaskId};
use sha2::{Digest, Sha256};

/// The bits of a trace id that are random.
const RANDOM_BITS: u32 = 56;

/// A trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl TraceId {
    /// The trace of a task.
    pub fn of_task(task: TaskId) -> TraceId {
        TraceId(task.bits())
    }

    /// The trace of a request that came without one.
    pub fn of_request(request: RequestId) -> TraceId {
        TraceId(request.bits())
    }

    /// Sixteen bytes, as they are sent.
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Whether a trace is among this share of all (0 to 1). Everybody who is asked says the same, and what is among a
    /// share is among every larger one.
    pub fn sampled(self, ratio: f64) -> bool {
        let all = 1u64 << RANDOM_BITS;
        let random = u64::try_from(self.0 & u128::from(all - 1)).unwrap_or(0);
        // A share of 1 rejects nothing, one of 0 everything; between them rounding does not matter.
        random >= ((1.0 - ratio.clamp(0.0, 1.0)) * all as f64) as u64
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

impl SpanId {
    /// The root span of a task.
    pub fn root(task: TaskId) -> SpanId {
        SpanId::derived(&format!("{task}/task"))
    }

    /// The span of a step of an attempt; `key` tells those of the same name apart.
    pub fn step(task: TaskId, attempt: Attempt, name: &str, key: &str) -> SpanId {
        SpanId::derived(&format!("{task}/{}/{name}/{key}", attempt.0))
    }

    /// The span of a request to the API.
    pub fn of_request(request: RequestId) -> SpanId {
        SpanId::derived(&format!("request/{request}"))
    }

    fn derived(from: &str) -> SpanId {
        let hash = Sha256::digest(from.as_bytes());
        let first = hash.iter().take(8).fold(0, |bits: u64, byte| bits << 8 | u64::from(*byte));
        // All zeros is no span.
        SpanId(first.max(1))
    }

    /// Eight bytes, as they are sent.
    pub fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where a request comes from, as its header `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The caller's trace.
    pub trace: TraceId,
    /// The caller's span.
    pub span: SpanId,
    /// Whether the caller records it.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads `VERSION-TRACE-SPAN-FLAGS`; `None` for what is no such header, which is then as if it had not come.
    pub fn parse(header: &str) -> Option<TraceParent> {
        let mut parts = header.trim().split('-');
        let version = hex_of(parts.next()?, 2)?;
        let trace = hex_of(parts.next()?, 32)?;
        let span = hex_of(parts.next()?, 16)?;
        let flags = hex_of(parts.next()?, 2)?;
        // A later version may have more to say; this one may not, and 255 is none.
        let known = version != 0xff && (version != 0 || parts.next().is_none());
        let parent = TraceParent {
            trace: TraceId(trace),
            span: SpanId(u64::try_from(span).ok()?),
            sampled: flags & 1 == 1,
        };
        (known && trace != 0 && span != 0).then_some(parent)
    }
}

/// A number of exactly so many lower-case hexadecimal digits.
fn hex_of(text: &str, digits: usize) -> Option<u128> {
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && lower).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task(bits: u128) -> TaskId {
        TaskId::from_bits(bits)
    }

    #[test]
    fn a_trace_is_the_bits_of_its_task() {
        let id: TaskId = "01KBH0G3V2Q8J5X7M4N6P9R1ST".parse().unwrap();
        let trace = TraceId::of_task(id);
        assert_eq!(trace.to_string().len(), 32);
        assert_eq!(u128::from_str_radix(&trace.to_string(), 16).unwrap(), id.bits());
        assert_eq!(trace.bytes(), id.bits().to_be_bytes());
    }

    #[test]
    fn spans_are_told_apart_by_all_they_stand_for() {
        let ids = [
            SpanId::root(task(1)),
            SpanId::root(task(2)),
            SpanId::step(task(1), Attempt(1), "a", ""),
            SpanId::step(task(1), Attempt(2), "a", ""),
            SpanId::step(task(1), Attempt(1), "b", ""),
            SpanId::step(task(1), Attempt(1), "a", "x"),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(ids[0], SpanId::root(task(1)), "the same again");
    }

    #[test]
    fn a_traceparent_is_what_w3c_says() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = TraceParent::parse(good).unwrap();
        assert_eq!(parent.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.span.to_string(), "b7ad6b7169203331");
        assert!(parent.sampled);
        assert!(!TraceParent::parse(&good.replace("-01", "-00")).unwrap().sampled);
        assert!(TraceParent::parse(&good.replacen("00", "cc", 1)).is_some(), "a later version");
        assert!(TraceParent::parse(&format!("{}-more", good.replacen("00", "cc", 1))).is_some());
        for bad in [
            "",
            "00",
            &good.to_uppercase(),
            &good.replacen("00", "ff", 1),
            &format!("{good}-more"),
            &good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &good.replace("b7ad6b7169203331", &"0".repeat(16)),
            &good.replace("b7ad", "b7a"),
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn sampling_keeps_about_its_share_and_grows_with_it(bits: u128, a in 0.0f64..=1.0, b in 0.0f64..=1.0) {
            let (less, more) = if a < b { (a, b) } else { (b, a) };
            let trace = TraceId(bits);
            prop_assert!(trace.sampled(1.0));
            prop_assert!(!trace.sampled(0.0));
            prop_assert!(!trace.sampled(less) || trace.sampled(more));
        }

        #[test]
        fn no_header_panics(text in ".{0,80}") {
            let _ = TraceParent::parse(&text);
        }
    }

    #[test]
    fn a_tenth_is_about_a_tenth() {
        let kept = (0..10_000u32)
            .filter(|n| {
                TraceId(u128::from_be_bytes(Sha256::digest(n.to_be_bytes())[..16].try_into().unwrap()))
                    .sampled(0.1)
            })
            .count();
        assert!((800..1_200).contains(&kept), "{kept}");
    }
}
