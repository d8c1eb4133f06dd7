//! In a bucket of moto.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use objects::{Key, ObjectError, ObjectStore as _, body, conformance};
use testkit::moto::{Auth, Moto};

use crate::objects;

const MIB: usize = 1024 * 1024;

async fn moto() -> Option<Moto> {
    let moto = Moto::start(Auth::Open).await.unwrap()?;
    moto.bucket("traces").await.unwrap();
    Some(moto)
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_is_passed_in_a_whole_bucket_and_below_a_prefix() {
    let Some(moto) = moto().await else { return };
    conformance::run(&objects(&moto.url, "traces", "")).await;
    // What others keep beside it is neither seen nor touched.
    moto.set("traces/team/a=2F1x", Some("beside")).await.unwrap();
    moto.set("traces/other", Some("beside")).await.unwrap();
    conformance::run(&objects(&moto.url, "traces", "team/a=2F1")).await;
    assert_eq!(moto.get("traces/team/a=2F1x").await.unwrap(), (200, b"beside".to_vec()));
    assert_eq!(moto.get("traces/other").await.unwrap(), (200, b"beside".to_vec()));
    moto.stop().await.unwrap();
}

#[tokio::test]
async fn keys_are_names_of_the_bucket_as_they_are() {
    let Some(moto) = moto().await else { return };
    let place = objects(&moto.url, "traces", "p");
    // Every character that a key may hold, and the longest one.
    let long = [["x"; 200].concat(), ["y"; 200].concat(), ["z"; 107].concat()].join("/");
    for (name, n) in [("traces/a=40b=2Ec/T.jsonl.gz", 1), ("A._=-z/0", 2), (&long, 3)] {
        let text = format!("object {n}");
        place.put(&key(name), body(text.clone())).await.unwrap();
        assert_eq!(moto.get(&format!("traces/p/{name}")).await.unwrap(), (200, text.into_bytes()));
        let listed = place.list(name).await.unwrap();
        assert_eq!((listed.len(), listed[0].key.as_str()), (1, name));
        place.delete(&key(name)).await.unwrap();
        assert_eq!(moto.get(&format!("traces/p/{name}")).await.unwrap().0, 404);
    }
    assert_eq!(place.uri(&key("a/b")), "s3://traces/p/a/b");
}

#[tokio::test]
async fn a_list_has_all_pages_and_nothing_that_is_no_key() {
    let Some(moto) = moto().await else { return };
    let place = objects(&moto.url, "traces", "p");
    // More than two pages of five.
    for n in 0..13 {
        place.put(&key(&format!("parts/{n}")), body("x")).await.unwrap();
    }
    for foreign in ["p/parts/.hidden", "p/parts/a b", "p/.check/0", "q/parts/99"] {
        moto.set(&format!("traces/{foreign}"), Some("of others")).await.unwrap();
    }
    let names = place.list("parts/").await.unwrap().into_iter().map(|m| m.key.to_string());
    let mut expected: Vec<String> = (0..13).map(|n| format!("parts/{n}")).collect();
    expected.sort();
    assert_eq!(names.collect::<Vec<_>>(), expected);
    let ones = place.list("parts/1").await.unwrap();
    assert_eq!(ones.len(), 4);
    // Retention goes by the times of lists: they are those of the objects, to the second.
    for listed in ones {
        let there = place.stat(&listed.key).await.unwrap().unwrap();
        assert_eq!((listed.bytes, listed.modified.as_second()), (there.bytes, there.modified.as_second()));
    }
    assert_eq!(place.list("").await.unwrap().len(), 13);
    // One that no path names stands in the way of the whole list, and is told.
    moto.set("traces/p/parts//x", Some("of others")).await.unwrap();
    let error = place.list("parts/").await.unwrap_err().to_string();
    assert!(error.contains("p/parts//x") && error.contains("objects.s3.prefix"), "{error}");
    assert_eq!(objects(&moto.url, "traces", "q").list("parts/").await.unwrap().len(), 1);
}

/// Pieces of a size that fits no part, `bytes` in all; then an error, if one is wanted.
fn pieces(bytes: usize, end: Option<&'static str>) -> objects::Body {
    let piece = Bytes::from((0..=250).cycle().take(700_000).collect::<Vec<u8>>());
    let count = bytes.div_ceil(piece.len());
    let all = (0..count).map(move |n| Ok(piece.slice(..piece.len().min(bytes - n * piece.len()))));
    stream::iter(all.chain(end.map(|end| Err(io::Error::other(end))))).boxed()
}

#[tokio::test]
async fn what_is_larger_than_a_part_is_stored_whole_or_not_at_all() {
    let Some(moto) = moto().await else { return };
    let place = objects(&moto.url, "traces", "").with_parts_of(5 * MIB);
    for bytes in [5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB, 12 * MIB + 345] {
        assert_eq!(place.put(&key("large"), pieces(bytes, None)).await.unwrap(), bytes as u64);
        let mut expected = pieces(bytes, None);
        let mut whole = Vec::new();
        while let Some(piece) = expected.next().await {
            whole.extend_from_slice(&piece.unwrap());
        }
        let object = place.get(&key("large")).await.unwrap().unwrap();
        assert_eq!(object.meta.bytes, bytes as u64);
        assert!(object.whole(usize::MAX).await.unwrap() == whole, "{bytes} bytes are not what was put");
    }
    // It breaks after two parts: what was there stays, and nothing is left of the upload.
    let error = place.put(&key("large"), pieces(11 * MIB, Some("the test breaks it"))).await.unwrap_err();
    assert!(matches!(error, ObjectError::Body { .. }), "{error}");
    assert_eq!(place.stat(&key("large")).await.unwrap().unwrap().bytes, (12 * MIB + 345) as u64);
    let (status, uploads) = moto.get("traces?uploads").await.unwrap();
    let uploads = String::from_utf8(uploads).unwrap();
    assert!(status == 200 && uploads.contains("ListMultipartUploadsResult"), "{uploads}");
    assert!(!uploads.contains("<Upload>"), "{uploads}");
}

#[tokio::test]
async fn a_check_says_what_is_missing_and_leaves_nothing() {
    let Some(moto) = moto().await else { return };
    objects(&moto.url, "traces", "p").check().await.unwrap();
    let (_, listed) = moto.get("traces?list-type=2").await.unwrap();
    assert!(!String::from_utf8(listed).unwrap().contains("<Key>"));
    let error = objects(&moto.url, "nothing", "p").check().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ObjectError::Refused { .. }), "{error:?}");
    assert!(text.contains("the bucket nothing is not there") && text.contains("objects.s3.bucket"), "{text}");
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_no_absent_object() {
    let Some(moto) = moto().await else { return };
    let place = objects(&moto.url, "gone", "");
    let absent = key("a");
    for error in [
        place.put(&absent, body("x")).await.unwrap_err(),
        place.get(&absent).await.unwrap_err(),
        place.stat(&absent).await.unwrap_err(),
        place.delete(&absent).await.unwrap_err(),
        place.list("").await.unwrap_err(),
    ] {
        assert!(matches!(error, ObjectError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains("the bucket gone is not there"), "{error}");
    }
}

#[tokio::test]
async fn keys_that_the_service_does_not_know_are_refused_and_not_told() {
    let Some(moto) = Moto::start(Auth::KnownAfter(1)).await.unwrap() else { return };
    moto.bucket("traces").await.unwrap();
    let place = objects(&moto.url, "traces", "");
    for error in [
        place.check().await.unwrap_err(),
        place.get(&key("a")).await.unwrap_err(),
        place.stat(&key("a")).await.unwrap_err(),
        place.list("").await.unwrap_err(),
    ] {
        let text = format!("{error} {error:?}");
        assert!(matches!(error, ObjectError::Refused { .. }), "{text}");
        assert!(text.contains("403") && text.contains("objects.s3."), "{text}");
        assert!(!text.contains("of-the-test"), "{text}");
    }
}
