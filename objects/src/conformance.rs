//! What every implementation must do: one suite, called from each one's own test with a place that is empty.
//!
//! A check asserts (panics with what it saw).

#![expect(
    clippy::unwrap_used,
    reason = "a suite of tests, compiled here so that every implementation can use it"
)]

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{Body, Key, ObjectError, ObjectStore, body};

/// Runs every check in one place, which must be empty and is left empty.
pub async fn run(place: &dyn ObjectStore) {
    what_is_stored_comes_back(place).await;
    a_second_put_replaces_the_first(place).await;
    a_body_that_breaks_changes_nothing(place).await;
    what_is_read_is_read_whole(place).await;
    a_delete_may_be_repeated(place).await;
    lists_are_by_prefix_and_in_order(place).await;
    many_at_once_do_not_mix(place).await;
    puts_and_deletes_of_neighbours_do_not_collide(place).await;
    assert_eq!(place.list("").await.unwrap(), vec![], "the suite leaves nothing behind");
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

/// A body in several pieces.
fn pieces(texts: &[&'static str]) -> Body {
    stream::iter(texts.to_vec()).map(|text| Ok(Bytes::from_static(text.as_bytes()))).boxed()
}

async fn read(place: &dyn ObjectStore, key: &Key) -> Option<Vec<u8>> {
    match place.get(key).await.unwrap() {
        Some(object) => Some(object.whole(usize::MAX).await.unwrap()),
        None => None,
    }
}

async fn what_is_stored_comes_back(place: &dyn ObjectStore) {
    let key = key("a/b/c.txt");
    assert!(place.get(&key).await.unwrap().is_none() && place.stat(&key).await.unwrap().is_none());
    assert_eq!(place.put(&key, pieces(&["one ", "", "two"])).await.unwrap(), 7);
    assert_eq!(read(place, &key).await.unwrap(), b"one two");
    let meta = place.stat(&key).await.unwrap().unwrap();
    assert_eq!((&meta.key, meta.bytes), (&key, 7));
    assert!(meta.modified.as_second() > 1_600_000_000, "{meta:?}");
    assert_eq!(place.get(&key).await.unwrap().unwrap().meta, meta);
    assert!(place.uri(&key).contains("://") && place.uri(&key).ends_with("a/b/c.txt"), "{}", place.uri(&key));
    // The folder of an object is none.
    assert!(place.get(&self::key("a/b")).await.unwrap().is_none());
    assert!(place.stat(&self::key("a/b")).await.unwrap().is_none());
    place.delete(&key).await.unwrap();
    let empty = self::key("empty");
    assert_eq!(place.put(&empty, stream::empty().boxed()).await.unwrap(), 0);
    assert_eq!(read(place, &empty).await.unwrap(), b"");
    place.delete(&empty).await.unwrap();
}

async fn a_second_put_replaces_the_first(place: &dyn ObjectStore) {
    let key = key("replaced");
    place.put(&key, body("a longer first text")).await.unwrap();
    place.put(&key, body("second")).await.unwrap();
    assert_eq!(read(place, &key).await.unwrap(), b"second");
    place.delete(&key).await.unwrap();
}

async fn a_body_that_breaks_changes_nothing(place: &dyn ObjectStore) {
    let key = key("x/broken");
    let broken = || {
        let pieces = vec![Ok(Bytes::from_static(b"half")), Err(io::Error::other("the test breaks it"))];
        stream::iter(pieces).boxed()
    };
    let error = place.put(&key, broken()).await.unwrap_err();
    assert!(
        matches!(&error, ObjectError::Body { .. }) && error.to_string().contains("the test breaks it"),
        "{error}"
    );
    assert!(place.get(&key).await.unwrap().is_none());
    place.put(&key, body("whole")).await.unwrap();
    place.put(&key, broken()).await.unwrap_err();
    assert_eq!(read(place, &key).await.unwrap(), b"whole");
    assert_eq!(place.list("").await.unwrap().len(), 1, "no part is listed");
    place.delete(&key).await.unwrap();
}

async fn what_is_read_is_read_whole(place: &dyn ObjectStore) {
    let key = key("large");
    let piece = Bytes::from(vec![7u8; 100_000]);
    let large = stream::iter(0..20).map({
        let piece = piece.clone();
        move |_| Ok(piece.clone())
    });
    place.put(&key, large.boxed()).await.unwrap();
    let mut object = place.get(&key).await.unwrap().unwrap();
    let first = object.body.try_next().await.unwrap().unwrap();
    // It is replaced and removed while it is read.
    place.put(&key, body("other")).await.unwrap();
    place.delete(&key).await.unwrap();
    let rest = object.whole(usize::MAX).await.unwrap();
    assert_eq!(first.len() + rest.len(), 2_000_000);
    assert!(first.iter().chain(&rest).all(|b| *b == 7));
    place.put(&key, body("12345")).await.unwrap();
    let error = place.get(&key).await.unwrap().unwrap().whole(4).await.unwrap_err();
    assert!(error.to_string().contains("larger than 4 bytes"), "{error}");
    place.delete(&key).await.unwrap();
}

async fn a_delete_may_be_repeated(place: &dyn ObjectStore) {
    place.delete(&key("never/was")).await.unwrap();
    place.put(&key("d/once"), body("x")).await.unwrap();
    place.delete(&key("d/once")).await.unwrap();
    place.delete(&key("d/once")).await.unwrap();
    assert!(place.stat(&key("d/once")).await.unwrap().is_none());
}

async fn lists_are_by_prefix_and_in_order(place: &dyn ObjectStore) {
    let all = ["p/a/2", "p/a/10", "p/ab/1", "p/b", "q"];
    for name in all {
        place.put(&key(name), body(name)).await.unwrap();
    }
    let names = async |prefix: &str| -> Vec<String> {
        place.list(prefix).await.unwrap().into_iter().map(|m| m.key.to_string()).collect()
    };
    assert_eq!(names("").await, ["p/a/10", "p/a/2", "p/ab/1", "p/b", "q"]);
    assert_eq!(names("p/a/").await, ["p/a/10", "p/a/2"]);
    assert_eq!(names("p/a").await, ["p/a/10", "p/a/2", "p/ab/1"]);
    assert_eq!(names("p/a/1").await, ["p/a/10"]);
    for nothing in ["r", "q/", "../", "/", "p//"] {
        assert_eq!(names(nothing).await, Vec::<String>::new(), "{nothing}");
    }
    for name in all {
        place.delete(&key(name)).await.unwrap();
    }
}

async fn many_at_once_do_not_mix(place: &dyn ObjectStore) {
    let key = key("contended");
    let texts: Vec<String> = (0..16).map(|n| format!("{n} ").repeat(5_000)).collect();
    let puts = texts.iter().map(|text| place.put(&key, body(text.clone())));
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    let there = String::from_utf8(read(place, &key).await.unwrap()).unwrap();
    assert!(texts.contains(&there), "a mixture of two");
    place.delete(&key).await.unwrap();
}

async fn puts_and_deletes_of_neighbours_do_not_collide(place: &dyn ObjectStore) {
    let rounds = (0..40).map(|n| async move {
        let mine = key(&format!("shared/folder/{n}"));
        place.put(&mine, body("x")).await.unwrap();
        assert_eq!(read(place, &mine).await.unwrap(), b"x");
        place.delete(&mine).await.unwrap();
    });
    futures_util::future::join_all(rounds).await;
}
