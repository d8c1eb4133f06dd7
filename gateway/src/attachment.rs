//! What the person attached, handed to the box: only what passed, only of its own task, only while its attempt counts.

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use domain::{AttachmentId, Screened, Task};
use objects::Key;
use orchestrator::attachment::{content_key, text_key};
use protocol::box_api::{BoxErrorCode, WorkAttachment};

use crate::Gateway;
use crate::auth::{Caller, Refusal};

/// The routes of attachments.
pub(crate) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/box/v1/attachments/{id}", get(content))
        .route("/box/v1/attachments/{id}/text", get(text))
}

/// What a box is told of its task's attachments.
pub(crate) fn of_work(task: &Task) -> Vec<WorkAttachment> {
    task.attached()
        .filter_map(|(id, asked, known)| match known {
            Some(Screened::Passed(content)) => Some(WorkAttachment {
                id,
                filename: asked.filename.clone(),
                content_type: content.content_type.clone(),
                size_bytes: content.size_bytes,
                sha256: content.sha256.clone(),
                text_bytes: content.text_bytes,
            }),
            Some(Screened::Blocked) | None => None,
        })
        .collect()
}

type Asked = Result<Path<AttachmentId>, PathRejection>;

async fn content(State(gateway): State<Gateway>, Caller(me): Caller, id: Asked) -> Result<Response, Refusal> {
    let Path(id) = id.map_err(|e| Refusal::unread(e.status(), &e.body_text()))?;
    send(&gateway, content_key(me.task, id).map_err(|e| failed(&e))?).await
}

async fn text(State(gateway): State<Gateway>, Caller(me): Caller, id: Asked) -> Result<Response, Refusal> {
    let Path(id) = id.map_err(|e| Refusal::unread(e.status(), &e.body_text()))?;
    send(&gateway, text_key(me.task, id).map_err(|e| failed(&e))?).await
}

/// The key holds the caller's own task, so there is nothing else to be had by it.
async fn send(gateway: &Gateway, key: Key) -> Result<Response, Refusal> {
    let object = gateway.orchestrator().parts().objects.get(&key).await.map_err(|e| failed(&e))?;
    let Some(object) = object else {
        return Err(Refusal::new(BoxErrorCode::BadRequest, "the task has no such attachment"));
    };
    let length = HeaderValue::from(object.meta.bytes);
    let mut response = Response::new(Body::from_stream(object.body));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    Ok(response)
}

fn failed(why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(BoxErrorCode::Unavailable, format!("the attachment could not be read: {why}"))
}
