//! Whatever the bytes are, there is an answer.

use content::{MediaType, check, sniff};
use proptest::prelude::*;

use crate::made;

fn sound() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(made::png(9, 7)),
        Just(made::jpeg(40, 24)),
        Just(made::pdf("Hello, world")),
        Just(made::pages(3)),
        Just(b"{\"a\":[1,2,{\"b\":null}]}".to_vec()),
        Just("some text, d\u{e9}j\u{e0} vu\n".into()),
    ]
}

fn declared() -> impl Strategy<Value = Option<MediaType>> {
    proptest::option::of(proptest::sample::select(MediaType::ALL.to_vec()))
}

/// One or a few small changes: bytes overwritten, taken out, put in, doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0..4u8, proptest::collection::vec(any::<u8>(), 1..9));
    (sound(), proptest::collection::vec(change, 1..6)).prop_map(|(mut bytes, changes)| {
        for (at, how, with) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + with.len()).min(bytes.len());
            match how {
                0 => drop(bytes.splice(at..end, with)),
                1 => drop(bytes.drain(at..end)),
                2 => drop(bytes.splice(at..at, with)),
                _ => {
                    let doubled = bytes[at / 2..end].to_vec();
                    bytes.splice(at..at, doubled);
                }
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(declared in declared(), bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let found = check(declared, &bytes);
        if let Ok(checked) = found {
            prop_assert!(declared.is_none_or(|declared| declared == checked.media));
            prop_assert!(sniff(&bytes).is_some());
        }
    }

    #[test]
    fn a_changed_file_has_an_answer(declared in declared(), bytes in mutated()) {
        if let Ok(checked) = check(declared, &bytes) {
            // What is stored instead is itself taken, as it is.
            if let Some(clean) = checked.clean {
                let again = check(Some(checked.media), &clean);
                prop_assert!(again.as_ref().is_ok_and(|again| again.clean.is_none() && again.size == checked.size));
            }
        }
    }

    #[test]
    fn a_head_and_any_tail_have_an_answer(head in 0..4usize, tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        let heads = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], b"\xff\xd8\xff", b"%PDF-1.7\n", b"{\"a\":"];
        let _ = check(None, &[heads[head], &tail].concat());
    }
}
