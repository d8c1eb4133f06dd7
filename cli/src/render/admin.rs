//! Tables of `bgagent admin`.

use protocol::admin::{ObligationRecord, Purged, SessionRecord};

use super::table::table;
use super::{MISSING, View};
use crate::clean;

/// What is owed.
pub fn obligations(rows: &[ObligationRecord], view: &View) -> String {
    if rows.is_empty() {
        return "Nothing is owed.".into();
    }
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            let duty = match row.attempt {
                Some(attempt) => format!("{} (attempt {attempt})", row.duty),
                None => row.duty.clone(),
            };
            [clean::line(&row.task_id), clean::line(&duty), row.tries.to_string(), clean::line(&row.due_at)]
        })
        .collect();
    let mut text = table(["TASK ID", "DUTY", "TRIES", "NEXT TRY"], &cells, view);
    for row in rows.iter().filter(|row| row.last_error.is_some()) {
        let error = clean::line(row.last_error.as_deref().unwrap_or_default());
        let line = format!("{}: {error}", clean::line(&row.task_id));
        let line = match row.alarm {
            true => view.paint.red(&format!("{line} (no retry will mend this: look at it)")),
            false => view.paint.yellow(&line),
        };
        text.push_str(&format!("\n{line}"));
    }
    text
}

/// The boxes that live.
pub fn sessions(rows: &[SessionRecord], view: &View) -> String {
    if rows.is_empty() {
        return "No box lives.".into();
    }
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            [
                clean::line(&row.task_id),
                row.attempt.to_string(),
                clean::line(row.status.as_deref().unwrap_or("unknown task")),
                clean::line(row.stage.as_deref().unwrap_or(MISSING)),
                clean::line(row.heartbeat_at.as_deref().unwrap_or(MISSING)),
                clean::line(&row.session_id),
            ]
        })
        .collect();
    let mut text = table(["TASK ID", "ATTEMPT", "STATUS", "STAGE", "LAST SEEN", "SESSION"], &cells, view);
    let unwanted = rows.iter().filter(|row| !row.wanted).count();
    if unwanted > 0 {
        let line = format!("{unwanted} of them no task wants any more; they are stopped within a minute.");
        text.push_str(&format!("\n{}", view.paint.yellow(&line)));
    }
    text
}

/// What was purged, or would be.
pub fn purged(purged: &Purged) -> String {
    let number = |n: u64, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    let what = format!("{} and {}", number(purged.tasks, "task"), number(purged.objects, "object"));
    match (purged.dry_run, purged.user_erased) {
        (true, _) => format!("{what} would be removed."),
        (false, true) => format!("{what} were removed, and the user is erased."),
        (false, false) => format!("{what} were removed."),
    }
}

/// `512 B`, `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].iter().peekable();
    while size >= 1024.0 && units.len() > 1 {
        size /= 1024.0;
        units.next();
    }
    match units.next() {
        Some(&"B") | None => format!("{bytes} B"),
        Some(unit) => format!("{size:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn tables_read_well() {
        let owed = |duty: &str, error: Option<&str>, alarm| ObligationRecord {
            obligation_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
            task_id: "01ARZ3NDEKTSV4RRFFQ69G5FAW".into(),
            duty: duty.into(),
            attempt: (duty == "stop_session").then_some(2),
            session_id: None,
            created_at: "2026-11-28T10:00:00.000Z".into(),
            tries: 3,
            due_at: "2026-11-28T10:05:00.000Z".into(),
            last_error: error.map(Into::into),
            alarm,
        };
        let rows = [
            owed("stop_session", Some("permission\u{1b}[2J denied"), true),
            owed("seal_trace", Some("the disk is full"), false),
            owed("stop_session", None, false),
        ];
        let session = |wanted, status: Option<&str>| SessionRecord {
            session_id: "local-01ARZ3NDEKTSV4RRFFQ69G5FAW-1".into(),
            task_id: "01ARZ3NDEKTSV4RRFFQ69G5FAW".into(),
            attempt: 1,
            status: status.map(Into::into),
            user_id: status.map(|_| "ann".into()),
            wanted,
            heartbeat_at: status.map(|_| "2026-11-28T10:00:00.000Z".into()),
            stage: status.map(|_| "agent".into()),
        };
        let live = [session(true, Some("RUNNING")), session(false, None)];
        let view = sample::view();
        let all = format!("{}\n\n{}", obligations(&rows, &view), sessions(&live, &view));
        insta::assert_snapshot!(all);
        assert_eq!(obligations(&[], &view), "Nothing is owed.");
        assert_eq!(sessions(&[], &view), "No box lives.");
        let gone = |tasks, dry_run, user_erased| purged(&Purged { tasks, objects: 2, user_erased, dry_run });
        assert_eq!(gone(1, true, false), "1 task and 2 objects would be removed.");
        assert_eq!(gone(3, false, true), "3 tasks and 2 objects were removed, and the user is erased.");
    }

    #[test]
    fn sizes_are_short() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB"), (5 << 50, "5120.0 TiB")];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }
}
