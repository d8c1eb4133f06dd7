//! This repository's own files hold no secret, and nothing in them is taken for one.

use std::path::Path;
use std::process::Command;

use redact::Redactor;

/// Tests plant what looks like a secret, and it should be found: they are left out.
fn is_test(name: &str) -> bool {
    name.split('/').any(|part| part == "tests" || part == "tests.rs")
}

#[test]
fn nothing_in_this_repository_is_taken_for_a_secret() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    let redactor = Redactor::default();
    let mut read = 0;
    let mut found = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty() && !is_test(name)) {
        let Ok(mut bytes) = std::fs::read(root.join(name)) else { continue };
        if let Some(tests) = bytes.windows(12).position(|w| w == b"#[cfg(test)]") {
            bytes.truncate(tests);
        }
        read += bytes.len();
        let told = redactor.scan(&bytes).into_iter();
        found.extend(told.map(|f| format!("{name}:{}: {}: {}", f.line, f.kind, f.preview)));
    }
    assert!(read > 1_000_000, "only {read} bytes of sources");
    assert!(found.is_empty(), "{found:#?}");
}
