//! `bgagent box`: a person tries what an agent could.

use std::fs;

use testkit::repo::TempRepo;

use crate::person::Person;

#[test]
fn a_command_runs_in_a_box_and_leaves_nothing() {
    let person = Person::new();
    fs::create_dir(person.home.path().join(".ssh")).unwrap();
    let key = person.home.path().join(".ssh/id_ed25519");
    fs::write(&key, "a private key").unwrap();
    let look = format!("id -un; pwd; cat {}; ls -A ~; echo x > left; touch /tmp/left", key.display());
    let (code, out, err) = person.types(&["box", "--", "sh", "-c", &look]);
    assert_eq!((code, out.as_str()), (0, "agent\n/box/repo\n"), "{err}");
    assert!(err.contains("No such file") && !err.contains("a private key"), "{err}");

    let (code, out, err) = person.types(&["box", "--verbose", "--", "sh", "-c", "exit 7"]);
    assert_eq!((code, out.as_str()), (7, ""));
    assert!(err.contains("namespaces, seccomp") && err.contains(" ms"), "{err}");
    let (code, _, err) = person.types(&["box", "--", "no-such-program"]);
    assert!(code == 127 || code == 1, "{code} {err}");

    let boxes = person.home.path().join(".local/state/bgagent/boxes");
    let left: Vec<_> = fs::read_dir(&boxes).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(fs::read_to_string(key).unwrap(), "a private key");
}

#[tokio::test]
async fn a_box_starts_in_a_check_out_whose_objects_are_lent() {
    let repo = TempRepo::new(&[("src/a.txt", "one\n")]).await.unwrap();
    let person = Person::new();
    let path = repo.path().to_str().unwrap();
    let work = "cat src/a.txt; git status --short; echo two > src/a.txt; git -c user.name=a -c user.email=a@b.example \
                commit -qam two; git log --format=%s; touch /box/objects/x || echo lent";
    let (code, out, err) = person.types(&["box", "--repo", path, "--", "sh", "-c", work]);
    assert_eq!((code, out.as_str()), (0, "one\ntwo\nfirst commit\nlent\n"), "{err}");
    assert_eq!(repo.git(&["log", "--format=%s", "--all"]).await.unwrap(), "first commit");
    assert_eq!(fs::read_to_string(repo.path().join("src/a.txt")).unwrap(), "one\n");
}

#[test]
fn what_cannot_be_tried_is_told() {
    let person = Person::new();
    person.is_told(&["box"], 2, "COMMAND");
    person.is_told(&["box", "--tier", "process", "--", "true"], 2, "isolates nothing");
    person.is_told(&["box", "--tier", "container", "--", "true"], 2, "cannot be tried so");
    person.is_told(&["box", "--tier", "vault", "--", "true"], 2, "must be one of");
    person.is_told(&["box", "--repo", "/", "--", "true"], 2, "not a git repository");
}
