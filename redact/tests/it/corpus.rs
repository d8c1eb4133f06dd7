//! This repository's own files hold no secret, and nothing in them is taken for one.

use std::path::Path;
use std::process::Command;

use redact::Redactor;

/// Where tests plant what looks like a secret, and should be found.
const PLANTED: &[&str] = &[
    "cli/tests/it/providers.rs",
    "gateway/tests/it/model/peer.rs",
    "gateway/tests/it/model/resolve.rs",
    "server/tests/it/envelope.rs",
];

#[test]
fn nothing_in_this_repository_is_taken_for_a_secret() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    let redactor = Redactor::default();
    let mut read = 0;
    let mut found = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty() && !PLANTED.contains(name)) {
        let Ok(bytes) = std::fs::read(root.join(name)) else { continue };
        read += bytes.len();
        found.extend(
            redactor
                .scan(&bytes)
                .into_iter()
                .map(|f| format!("{name}:{}: {}: {}", f.line, f.kind, f.preview)),
        );
    }
    assert!(read > 1_000_000, "only {read} bytes of sources");
    assert!(found.is_empty(), "{found:#?}");
}
