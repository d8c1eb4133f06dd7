//! Keys, webhooks and the audit log as people see them.

use protocol::access::*;
use serde_json::Value;

use super::table::{columns, fits, folded};
use super::{MISSING, View};
use crate::clean;

/// A new key, with its secret on a line of its own.
pub fn key_made(key: &CreatedApiKey) -> String {
    let expires = key.expires_at.as_deref().unwrap_or("never");
    facts(&[
        ("Key", &key.key_id),
        ("Name", &key.name),
        ("User", &format!("{} ({})", key.user_id, key.role)),
        ("Scopes", &key.scopes.join(", ")),
        ("Expires", expires),
        ("", ""),
        ("", &key.key),
    ])
}

/// Keys, one a row; scopes and times below it where there is no room.
pub fn keys(keys: &[ApiKeyDetail], view: &View) -> String {
    if keys.is_empty() {
        return "No keys found.".into();
    }
    let row = |key: &ApiKeyDetail| {
        [
            &key.key_id,
            &key.name,
            &key.status,
            &key.user_id,
            &key.scopes.join(","),
            key.last_used_at.as_deref().unwrap_or(MISSING),
            key.expires_at.as_deref().unwrap_or("never"),
        ]
        .map(clean::line)
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    let wide = columns(["KEY ID", "NAME", "STATUS", "USER", "SCOPES", "LAST USED", "EXPIRES"], &rows);
    let Some(width) = view.width.filter(|_| !fits(&wide, view.width)) else { return wide };
    let folds = rows.into_iter().map(|[id, name, status, user, scopes, used, expires]| {
        let used = if used == MISSING { "never used".to_owned() } else { format!("used {used}") };
        let note = format!("{}; {used}; expires {expires}", scopes.replace(',', ", "));
        ([id, name, status, user], note)
    });
    folded(["KEY ID", "NAME", "STATUS", "USER"], &folds.collect::<Vec<_>>(), width)
}

/// A secret of a webhook, and where deliveries go.
pub fn webhook_secret(webhook: &WebhookSecret) -> String {
    let mut rows = vec![
        ("Webhook", webhook.webhook_id.as_str()),
        ("Name", &webhook.name),
        ("Signature", &webhook.signature),
        ("URL", &webhook.webhook_url),
        ("Secret", &webhook.secret),
    ];
    if let Some(until) = &webhook.previous_secret_until {
        rows.push(("Old secret", until));
    }
    facts(&rows)
}

/// Webhooks, one a row; times below it where there is no room.
pub fn webhooks(webhooks: &[WebhookDetail], view: &View) -> String {
    if webhooks.is_empty() {
        return "No webhooks found.".into();
    }
    let row = |webhook: &WebhookDetail| {
        [
            &webhook.webhook_id,
            &webhook.name,
            &webhook.status,
            &webhook.signature,
            webhook.last_used_at.as_deref().unwrap_or(MISSING),
            &webhook.created_at,
        ]
        .map(clean::line)
    };
    let rows: Vec<_> = webhooks.iter().map(row).collect();
    let wide = columns(["WEBHOOK ID", "NAME", "STATUS", "SIGNATURE", "LAST USED", "CREATED"], &rows);
    let Some(width) = view.width.filter(|_| !fits(&wide, view.width)) else { return wide };
    let folds = rows.into_iter().map(|[id, name, status, signature, used, created]| {
        let used = if used == MISSING { "never used".to_owned() } else { format!("used {used}") };
        ([id, name, status, signature], format!("{used}; created {created}"))
    });
    folded(["WEBHOOK ID", "NAME", "STATUS", "SIGNATURE"], &folds.collect::<Vec<_>>(), width)
}

/// What was revoked, and when.
pub fn revoked(what: &str, id: &str, at: Option<&str>) -> String {
    clean::line(&format!("{what} {id} revoked at {}.", at.unwrap_or(MISSING)))
}

/// What came of a delivery that was sent to try.
pub fn tested(answer: &Value) -> String {
    let text = |field: &str| answer[field].as_str().unwrap_or(MISSING).to_owned();
    let told = match (answer["dry_run"].as_bool(), answer["task_checked"].as_bool()) {
        (Some(true), Some(true)) => {
            format!(
                "The signature is good ({}), and the task would be accepted. Nothing was made.",
                text("signature")
            )
        }
        (Some(true), _) => format!("The signature is good ({}). Nothing was made.", text("signature")),
        _ => format!("Task {0} was made: `bgagent status {0}` follows it.", text("task_id")),
    };
    clean::line(&told)
}

/// Lines of the audit log; credential and object below a line where there is no room.
pub fn audit(lines: &[AuditLine], view: &View) -> String {
    if lines.is_empty() {
        return "No lines found.".into();
    }
    let row = |line: &AuditLine| {
        [
            line.timestamp.clone(),
            line.actor.clone(),
            match &line.credential {
                Some(credential) => format!("{} {credential}", line.authenticated_by),
                None => line.authenticated_by.clone(),
            },
            line.action.clone(),
            line.object.clone().unwrap_or_else(|| MISSING.into()),
            match line.outcome.as_str() {
                "done" => "done".to_owned(),
                outcome => format!("{outcome} ({})", line.status),
            },
        ]
        .map(|cell| clean::line(&cell))
    };
    let rows: Vec<_> = lines.iter().map(row).collect();
    let wide = columns(["TIME", "WHO", "BY", "ACTION", "OBJECT", "OUTCOME"], &rows);
    let Some(width) = view.width.filter(|_| !fits(&wide, view.width)) else { return wide };
    let folds = rows.into_iter().map(|[time, who, by, action, object, outcome]| {
        let object = if object == MISSING { String::new() } else { format!("; object {object}") };
        ([time, who, action, outcome], format!("by {by}{object}"))
    });
    folded(["TIME", "WHO", "ACTION", "OUTCOME"], &folds.collect::<Vec<_>>(), width)
}

/// Names and values below each other.
fn facts(rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, &str)| match name.is_empty() {
        true => clean::line(value),
        false => format!("{name:width$}  {}", clean::line(value)),
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {

    use serde_json::json;

    use super::*;
    use crate::render::sample;

    #[test]
    fn keys_and_webhooks_are_rows() {
        let key: ApiKeyDetail = serde_json::from_value(json!({
            "key_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "name": "CI\u{1b}[2J", "status": "active",
            "scopes": ["tasks:read", "tasks:create"], "user_id": "ann", "role": "member",
            "created_at": "2026-11-28T10:00:00.000Z", "updated_at": "2026-11-28T10:00:00.000Z",
            "expires_at": null, "revoked_at": null, "last_used_at": "2026-11-28T11:00:00.000Z",
        }))
        .unwrap();
        let (view, narrow) = (sample::view(), View { width: Some(80), ..sample::view() });
        let key = [key];
        insta::assert_snapshot!("keys", keys(&key, &View { width: None, ..sample::view() }));
        insta::assert_snapshot!("keys_narrow", keys(&key, &narrow));
        assert!(fits(&keys(&key, &narrow), Some(80)));
        let webhook: WebhookDetail = serde_json::from_value(json!({
            "webhook_id": "01ARZ3NDEKTSV4RRFFQ69G5FAW", "name": "CI", "status": "revoked", "signature": "strict",
            "webhook_url": "http://127.0.0.1:7878/v1/webhooks/tasks?webhook_id=01ARZ3NDEKTSV4RRFFQ69G5FAW",
            "user_id": "ann", "created_at": "2026-11-28T10:00:00.000Z", "updated_at": "2026-11-28T10:00:00.000Z",
            "revoked_at": "2026-11-28T12:00:00.000Z", "last_used_at": null, "previous_secret_until": null,
        }))
        .unwrap();
        let webhook = [webhook];
        insta::assert_snapshot!("webhooks", webhooks(&webhook, &View { width: None, ..sample::view() }));
        insta::assert_snapshot!("webhooks_narrow", webhooks(&webhook, &narrow));
        assert!(fits(&webhooks(&webhook, &narrow), Some(80)));
        assert_eq!(keys(&[], &view), "No keys found.");
        assert_eq!(webhooks(&[], &view), "No webhooks found.");
    }

    #[test]
    fn secrets_are_easy_to_copy() {
        let key: CreatedApiKey = serde_json::from_value(json!({
            "key_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "name": "CI", "key": "bgak_01ARZ3NDEKTSV4RRFFQ69G5FAV_0a1b",
            "scopes": ["tasks:read"], "user_id": "ann", "role": "member", "created_at": "2026-11-28T10:00:00.000Z",
            "expires_at": null,
        }))
        .unwrap();
        insta::assert_snapshot!("key_made", key_made(&key));
        let webhook: WebhookSecret = serde_json::from_value(json!({
            "webhook_id": "01ARZ3NDEKTSV4RRFFQ69G5FAW", "name": "CI", "secret": "whsec_AAAA",
            "webhook_url": "http://127.0.0.1:7878/v1/webhooks/tasks?webhook_id=01ARZ3NDEKTSV4RRFFQ69G5FAW",
            "signature": "strict", "created_at": "2026-11-28T10:00:00.000Z",
            "previous_secret_until": "2026-11-29T10:00:00.000Z",
        }))
        .unwrap();
        insta::assert_snapshot!("webhook_secret", webhook_secret(&webhook));
    }

    #[test]
    fn the_audit_log_says_who_and_what() {
        let line = |by: &str, credential: Value, action: &str, outcome: &str, status: u16| -> AuditLine {
            serde_json::from_value(json!({
                "audit_id": "01ARZ3NDEKTSV4RRFFQ69G5FAX", "timestamp": "2026-11-28T10:00:00.000Z", "actor": "ann",
                "authenticated_by": by, "credential": credential, "action": action,
                "object": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "outcome": outcome, "status": status,
                "request_id": "01ARZ3NDEKTSV4RRFFQ69G5FAY",
            }))
            .unwrap()
        };
        let lines = [
            line("api_key", json!("01ARZ3NDEKTSV4RRFFQ69G5FAZ"), "task.cancel", "refused", 403),
            line("owner_key", Value::Null, "api_key.create", "done", 201),
        ];
        let wide = View { width: Some(200), ..sample::view() };
        let narrow = View { width: Some(80), ..sample::view() };
        insta::assert_snapshot!("audit", audit(&lines, &wide));
        insta::assert_snapshot!("audit_narrow", audit(&lines, &narrow));
        assert!(fits(&audit(&lines, &narrow), Some(80)));
        assert_eq!(audit(&[], &wide), "No lines found.");
    }

    #[test]
    fn a_try_says_whether_anything_was_made() {
        let dry = json!({ "dry_run": true, "webhook_id": "W", "signature": "strict", "task_checked": false });
        assert_eq!(tested(&dry), "The signature is good (strict). Nothing was made.");
        let task = json!({ "dry_run": true, "webhook_id": "W", "signature": "plain", "task_checked": true });
        assert!(tested(&task).contains("would be accepted"));
        assert_eq!(tested(&json!({ "task_id": "T1" })), "Task T1 was made: `bgagent status T1` follows it.");
    }
}
