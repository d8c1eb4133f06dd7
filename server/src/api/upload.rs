//! Attachments that are uploaded: the signed form that takes the bytes, and the word that they are all there.

use std::collections::BTreeMap;

use axum::extract::multipart::{Field, MultipartRejection};
use axum::extract::{Multipart, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use domain::transition::after;
use domain::{Attachment, AttachmentId, AttachmentSource, Status, Task, TaskId, limit};
use objects::Key;
use orchestrator::Done;
use orchestrator::attachment::{NotTaken, upload_key};
use protocol::rest::*;
use screening::Source;

use super::access::Object;
use super::{ApiError, App, Caller, TaskPath, task, wire};
use crate::link::Refused;

/// Bytes that a form may have beside the file.
const FORM_BYTES: usize = 64 * 1024;
/// Bytes of a whole form.
pub(super) const UPLOAD_MAX_BYTES: usize = limit::ATTACHMENT_MAX_BYTES as usize + FORM_BYTES;
/// Bytes of one of its fields that is no file.
const FIELD_MAX_BYTES: usize = 2_048;
/// When to ask again what could not be looked at, in seconds.
const TRY_AGAIN_S: u64 = 30;

/// Where and how the attachments of a task that waits for them are uploaded; `None` for any other task.
pub(super) fn instructions(app: &App, task: &Task) -> Option<Vec<UploadInstruction>> {
    if task.status() != Status::PendingUploads {
        return None;
    }
    let expires = after(app.orchestrator().now(), limit::UPLOAD_ADDRESS);
    let url = format!("{}/v1/uploads", app.settings().public_url);
    let of = |(id, asked): (AttachmentId, &Attachment)| {
        let key = upload_key(task.id, id).ok()?;
        let signature = app.links().sign_upload(&key, expires);
        let fields = [
            ("key", key.to_string()),
            ("Content-Type", asked.content_type.clone().unwrap_or_default()),
            ("expires", expires.as_second().to_string()),
            ("signature", signature),
        ];
        Some(UploadInstruction {
            attachment_id: id.to_string(),
            filename: asked.filename.clone(),
            upload_url: url.clone(),
            upload_fields: fields.map(|(name, value)| (name.to_owned(), value)).into(),
            upload_expires_at: wire::time(expires),
        })
    };
    Some(to_upload(task).into_iter().filter_map(of).collect())
}

/// The attachments of a task that are uploaded.
fn to_upload(task: &Task) -> Vec<(AttachmentId, &Attachment)> {
    task.attached()
        .filter(|(_, asked, _)| matches!(asked.source, AttachmentSource::Presigned { .. }))
        .map(|(id, asked, _)| (id, asked))
        .collect()
}

/// The form of an upload, as `upload_instructions` give it: their fields first, `file` last.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes the form")]
pub struct UploadForm {
    /// As given.
    key: String,
    /// As given.
    #[schema(rename = "Content-Type")]
    content_type: String,
    /// As given.
    expires: String,
    /// As given.
    signature: String,
    /// The bytes.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Takes the bytes of one attachment. No key is needed: the fields that creating the task gave are signed. Repeating it
/// replaces the bytes, until the uploads are confirmed.
#[utoipa::path(post, path = "/v1/uploads",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses((status = 204, description = "Kept, and not looked at yet"), (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 408, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 500, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn upload(
    State(app): State<App>,
    form: Result<Multipart, MultipartRejection>,
) -> Result<StatusCode, ApiError> {
    let form =
        form.map_err(|e| ApiError::invalid(format!("body: send a form (multipart/form-data): {e}")))?;
    let seconds = limit::UPLOAD_READ.as_secs();
    let taken = tokio::time::timeout(limit::UPLOAD_READ, take(&app, form)).await;
    taken.map_err(|_| {
        let why = format!("the form was not there within {seconds} s; nothing was stored, send it again");
        ApiError::new(ErrorCode::RequestTimeout, why)
    })?
}

async fn take(app: &App, mut form: Multipart) -> Result<StatusCode, ApiError> {
    let broken = |e: axum::extract::multipart::MultipartError| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let max = limit::ATTACHMENT_MAX_BYTES;
            ApiError::new(ErrorCode::PayloadTooLarge, format!("file: at most {max} bytes are allowed"))
        }
        _ => ApiError::invalid(format!("body: the form cannot be read: {}", e.body_text())),
    };
    let mut fields = BTreeMap::new();
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            let waiting = admitted(app, &fields).await?;
            let bytes = whole(field, limit::ATTACHMENT_MAX_BYTES as usize).await?;
            return keep(app, waiting, bytes).await;
        }
        let value = whole(field, FIELD_MAX_BYTES).await?;
        let value =
            String::from_utf8(value).map_err(|_| ApiError::invalid(format!("{name}: it is not UTF-8")))?;
        fields.insert(name, value);
    }
    Err(ApiError::invalid("file: it is missing; the form ends with it"))
}

/// All bytes of a field.
async fn whole(mut field: Field<'_>, max: usize) -> Result<Vec<u8>, ApiError> {
    let name = domain::event::preview(field.name().unwrap_or_default(), 40);
    let mut bytes = Vec::new();
    loop {
        let piece = field.chunk().await.map_err(|e| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(&name, max),
            _ => ApiError::invalid(format!("{name}: it broke off; nothing was stored, send it again")),
        })?;
        let Some(piece) = piece else { return Ok(bytes) };
        if bytes.len() + piece.len() > max {
            return Err(too_large(&name, max));
        }
        bytes.extend_from_slice(&piece);
    }
}

fn too_large(name: &str, max: usize) -> ApiError {
    match name {
        "file" => {
            ApiError::new(ErrorCode::AttachmentTooLarge, format!("file: at most {max} bytes are allowed"))
        }
        name => ApiError::invalid(format!("{name}: at most {max} bytes are allowed")),
    }
}

/// An attachment that is waited for.
struct Waiting {
    key: Key,
    filename: String,
    size_bytes: u64,
}

/// What a form is for, when this server signed it and the task still waits.
async fn admitted(app: &App, fields: &BTreeMap<String, String>) -> Result<Waiting, ApiError> {
    let not_ours = || {
        let why = "this is no form that this server signed; send the fields of upload_instructions as they are, before `file`";
        ApiError::new(ErrorCode::Forbidden, why)
    };
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let key: Key = field("key").parse().map_err(|_| not_ours())?;
    let expires: i64 = field("expires").parse().map_err(|_| not_ours())?;
    let now = app.orchestrator().now();
    app.links().check_upload(&key, expires, field("signature"), now).map_err(|why| match why {
        Refused::NotOurs => not_ours(),
        Refused::Expired => ApiError::new(
            ErrorCode::Forbidden,
            "the time to upload it is over; repeat the request that made the task, with its Idempotency-Key, for new upload_instructions",
        ),
    })?;
    let mut parts = key.as_str().split('/').skip(1);
    let task = parts.next().and_then(|id| id.parse::<TaskId>().ok()).ok_or_else(not_ours)?;
    let id = parts.next().and_then(|id| id.parse::<AttachmentId>().ok()).ok_or_else(not_ours)?;
    let found = app.orchestrator().store().task_get(task).await?;
    let found = found.ok_or_else(|| ApiError::no_task(&task.to_string()))?;
    if found.status() != Status::PendingUploads {
        return Err(not_pending(&found));
    }
    let (_, asked) = to_upload(&found).into_iter().find(|(known, _)| *known == id).ok_or_else(not_ours)?;
    let AttachmentSource::Presigned { size_bytes } = asked.source else { return Err(not_ours()) };
    let (said, expected) = (field("Content-Type"), asked.content_type.as_deref().unwrap_or_default());
    if said != expected {
        let why = format!(
            "Content-Type: {:?} was announced, and {:?} is sent",
            expected,
            domain::event::preview(said, 80)
        );
        return Err(ApiError::new(ErrorCode::AttachmentInvalidType, why));
    }
    Ok(Waiting { key, filename: asked.filename.clone(), size_bytes })
}

async fn keep(app: &App, waiting: Waiting, bytes: Vec<u8>) -> Result<StatusCode, ApiError> {
    let Waiting { key, filename, size_bytes } = waiting;
    if bytes.len() as u64 != size_bytes {
        return Err(mismatch(&filename, size_bytes, bytes.len() as u64));
    }
    app.orchestrator().parts().objects.put(&key, objects::body(bytes)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn mismatch(filename: &str, announced: u64, sent: u64) -> ApiError {
    let why =
        format!("{filename}: {announced} bytes were announced, and {sent} are there; upload the file again");
    ApiError::new(ErrorCode::AttachmentSizeMismatch, why)
}

fn not_pending(task: &Task) -> ApiError {
    let why = format!("task {} is {} and waits for no uploads", task.id, task.status());
    ApiError::new(ErrorCode::UploadsNotPending, why)
}

/// Says that all attachments are uploaded: they are looked at, and the task goes on. One that may not be shown fails the
/// task.
#[utoipa::path(post, path = "/v1/tasks/{task_id}/confirm-uploads", params(("task_id" = String, Path)),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Data<TaskDetail>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 500, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub async fn confirm(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<(Extension<Object>, Json<Data<TaskDetail>>), ApiError> {
    let task = task::owned(&app, &caller, &id).await?;
    if task.status() != Status::PendingUploads {
        return Err(not_pending(&task));
    }
    all_there(&app, &task).await?;
    let looked = app.orchestrator().take_in_uploads(&task);
    let looked = tokio::time::timeout(limit::ATTACHMENT_SCREENING, looked).await.map_err(|_| {
        let seconds = limit::ATTACHMENT_SCREENING.as_secs();
        let why = format!("the attachments could not be looked at within {seconds} s; confirm them again");
        ApiError::new(ErrorCode::ScreeningDeadlineExceeded, why).retry_after(TRY_AGAIN_S)
    })?;
    let taken = match looked {
        Ok(taken) => taken,
        Err((id, why)) => return Err(refused(&app, &task, id, why).await?),
    };
    let warnings: Vec<String> = taken.iter().filter_map(|(_, taken)| taken.warning.clone()).collect();
    match app.orchestrator().confirm_uploads(&task, taken).await? {
        Done::Applied(task) => {
            for reason in warnings {
                app.orchestrator().tell_screened(task.id, Source::Attachment, &reason).await;
            }
            app.orchestrator().drop_uploads(task.id).await;
            let data = task::detail_of(&app, &task, None);
            Ok((Extension(Object(data.task_id.clone())), Json(Data { data })))
        }
        Done::Nothing(task) | Done::Refused(_, task) => Err(not_pending(&task)),
        Done::NoSuchTask => Err(ApiError::no_task(&id)),
        Done::Stale | Done::Fenced | Done::NoSlot(_) => {
            Err(ApiError::new(ErrorCode::InternalError, "the uploads could not be confirmed; try again"))
        }
    }
}

/// Whether everything is there, in the sizes that were announced.
async fn all_there(app: &App, task: &Task) -> Result<(), ApiError> {
    let mut missing = Vec::new();
    for (id, asked) in to_upload(task) {
        let AttachmentSource::Presigned { size_bytes } = asked.source else { continue };
        let key =
            upload_key(task.id, id).map_err(|e| ApiError::new(ErrorCode::InternalError, e.to_string()))?;
        match app.orchestrator().parts().objects.stat(&key).await? {
            None => missing.push(asked.filename.as_str()),
            Some(meta) if meta.bytes != size_bytes => {
                return Err(mismatch(&asked.filename, size_bytes, meta.bytes));
            }
            Some(_) => (),
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => {
            let why =
                format!("not uploaded yet: {}; upload each with its upload_instructions", missing.join(", "));
            Err(ApiError::new(ErrorCode::AttachmentUploadMissing, why))
        }
    }
}

/// What an attachment that was not taken in means: what may not be shown fails the task, an outage changes nothing.
async fn refused(app: &App, task: &Task, id: AttachmentId, why: NotTaken) -> Result<ApiError, ApiError> {
    let asked = task.attached().find(|(known, ..)| *known == id);
    let name = asked.map(|(_, asked, _)| asked.filename.as_str()).unwrap_or_default();
    match &why {
        NotTaken::Refused(_) | NotTaken::Blocked(_) => {
            let reason = why.to_string();
            match app.orchestrator().block_attachment(task.id, id, &reason).await? {
                // Somebody else decided about it meanwhile.
                Done::Refused(_, now) | Done::Nothing(now) => return Err(not_pending(&now)),
                Done::NoSuchTask => return Err(ApiError::no_task(&task.id.to_string())),
                Done::Applied(_) | Done::Stale | Done::Fenced | Done::NoSlot(_) => (),
            }
            app.orchestrator().drop_attachments(task.id).await;
            let reason = reason.trim_end_matches('.');
            let what = format!("{name}: {reason}; the task has failed, submit it again with another file");
            Ok(ApiError::new(ErrorCode::AttachmentBlocked, what))
        }
        NotTaken::Screen(_) | NotTaken::Inspect(_) | NotTaken::Object(_) | NotTaken::Key(_) => {
            Ok(not_looked_at(name, &why))
        }
    }
}

/// An attachment that came within the request and was not taken in: nothing was stored.
pub(super) fn inline_refused(place: usize, name: &str, why: &NotTaken) -> ApiError {
    let what = format!("attachments[{place}] ({name}): {why}");
    match why {
        NotTaken::Refused(_) => ApiError::new(ErrorCode::AttachmentInvalidContent, what),
        NotTaken::Blocked(_) => ApiError::new(ErrorCode::AttachmentBlocked, what),
        NotTaken::Screen(_) | NotTaken::Inspect(_) | NotTaken::Object(_) | NotTaken::Key(_) => {
            not_looked_at(name, why)
        }
    }
}

fn not_looked_at(name: &str, why: &NotTaken) -> ApiError {
    tracing::warn!(error = %why, "an attachment could not be looked at");
    let what = format!("{name}: it could not be looked at or stored now, so nothing was; try again");
    ApiError::new(ErrorCode::AttachmentScreeningUnavailable, what).retry_after(TRY_AGAIN_S)
}
