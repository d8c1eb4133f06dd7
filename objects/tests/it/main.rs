//! Every place passes the suite; and what only a folder can show.

use std::os::unix::fs::PermissionsExt as _;

use objects::{Key, LocalObjects, MemoryObjects, ObjectError, ObjectStore as _, body, conformance};

#[tokio::test]
async fn memory() {
    conformance::run(&MemoryObjects::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn local() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(&LocalObjects::open(dir.path().join("objects")).unwrap()).await;
}

#[tokio::test]
async fn files_are_this_users_only_and_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("objects");
    let key: Key = "traces/u/t.gz".parse().unwrap();
    LocalObjects::open(root.clone()).unwrap().put(&key, body("kept")).await.unwrap();
    let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        [mode(""), mode("traces"), mode("traces/u"), mode("traces/u/t.gz")],
        [0o700, 0o700, 0o700, 0o600]
    );
    // What a crash left of a put is no object, and is removed.
    std::fs::write(root.join(".part/abc"), "half").unwrap();
    let again = LocalObjects::open(root.clone()).unwrap();
    assert_eq!(again.get(&key).await.unwrap().unwrap().whole(9).await.unwrap(), b"kept");
    assert_eq!(again.list("").await.unwrap().len(), 1);
    assert!(!root.join(".part/abc").exists());
    again.delete(&key).await.unwrap();
    assert!(!root.join("traces").exists(), "empty folders go too");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let objects = LocalObjects::open(dir.path().join("o")).unwrap();
    objects.put(&"a".parse().unwrap(), body("x")).await.unwrap();
    // A file is no folder.
    let error = objects.put(&"a/b".parse().unwrap(), body("x")).await.unwrap_err();
    assert!(matches!(error, ObjectError::NotWritable { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("{}", dir.path().join("o/a/b").display())), "{error}");
}
