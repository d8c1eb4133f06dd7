//! A process that confined itself.

use std::process::Command;

#[test]
fn it_reads_thinks_and_answers_and_no_more() {
    let output = Command::new(env!("CARGO_BIN_EXE_confine-try")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let (last, others) =
        said.lines().collect::<Vec<_>>().split_last().map(|(l, o)| (*l, o.to_vec())).unwrap();
    assert_eq!(last, "take some memory: done");
    assert_eq!(others.len(), 12, "{said}");
    for line in others {
        assert!(line.ends_with(": refused"), "{said}");
    }
}
