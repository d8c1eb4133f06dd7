//! What goes wrong because of what is put in: each gets a text that names it and says what to do, the right exit code,
//! and loses nothing. The texts themselves are in `snapshots/`.
//!
//! A clock that is moved back is tested where time is an argument, in the conformance suite of `store`.

mod agent;
mod machine;
mod repository;
mod setting;

use std::path::Path;

use protocol::rest::TaskDetail;
use testkit::platform::Platform;

use crate::whole::Said;

/// A failed task as people are told of it.
fn told(name: &str, task: &TaskDetail) -> String {
    let remedy = task.error_classification.as_ref().map_or("-", |c| c.remedy.as_str());
    let message = task.error_message.as_deref().unwrap_or("-");
    let warning = task.warning.as_deref().unwrap_or("-");
    format!("{name}: {}\n  message: {message}\n  remedy:  {remedy}\n  warning: {warning}\n", task.status)
}

/// What a command printed.
fn printed(name: &str, said: &Said) -> String {
    format!("{name}: exit {}\n{}", said.code, said.err)
}

/// Holds a text against its snapshot, without what differs each time.
fn snapshot(name: &str, text: &str, platform: &Platform) {
    let state = platform.state_dir();
    let home = state.parent().map(Path::display).map(|h| h.to_string()).unwrap_or_default();
    let text = text.replace(&home, "HOME");
    let filters = vec![
        (r"/tmp/\.?bgagent-repo-\w+/project", "REPO"),
        (r"/tmp/\.?tmp\w+", "FOLDER"),
        (r"\b[0-9A-HJKMNP-TV-Z]{26}\b", "ULID"),
        (r"127\.0\.0\.1:\d{2,}", "ADDRESS"),
        (r"process \d+", "process PID"),
        (r"knows up to \d+", "knows up to VERSION"),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
    ];
    insta::with_settings!({ filters => filters, prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}
