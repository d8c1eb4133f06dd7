//! What the server writes while it asks tools for their registries, and what is left of it.

use std::fs;

use crate::whole::*;

#[tokio::test]
async fn folders_of_questions_go_at_the_next_start_and_none_is_left_at_an_orderly_end() {
    let dir = tempfile::tempdir().unwrap();
    let script = transcript(dir.path(), "idle", &[say("Nothing to do")]);
    let mut platform = platform(&script, "idle");
    let tmp = platform.state_dir().join("tmp");
    let left = || fs::read_dir(&tmp).map(|all| all.count()).unwrap_or(0);
    // No process has the greatest number.
    fs::create_dir_all(tmp.join("ask-2147483647-aa/deep")).unwrap();
    platform.start().await.unwrap();
    assert!(!tmp.join("ask-2147483647-aa").exists(), "it was there before the server");

    let killed = tmp.join(format!("ask-{}-bb", platform.pid().unwrap()));
    fs::create_dir_all(&killed).unwrap();
    platform.kill().await.unwrap();
    assert!(killed.exists());
    platform.start().await.unwrap();
    assert!(!killed.exists(), "its process is gone");

    fs::create_dir_all(tmp.join(format!("ask-{}-cc", platform.pid().unwrap()))).unwrap();
    platform.stop(END).await.unwrap();
    assert_eq!(left(), 0);
}
