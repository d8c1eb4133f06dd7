//! Attachments that are uploaded.

use std::time::Duration;

use domain::TaskId;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use url::Url;

use super::{Client, ClientError};
use crate::rest::{Data, TaskDetail, UploadInstruction};

/// An upload may take this long.
const UPLOAD: Duration = Duration::from_secs(120);
/// Looking at what was uploaded may take this long.
const CONFIRM: Duration = Duration::from_secs(120);

impl Client {
    /// Uploads the bytes of one attachment as it is told. The key is not sent: the form is signed, and may be another
    /// server's.
    pub async fn upload(&self, to: &UploadInstruction, bytes: Vec<u8>) -> Result<(), ClientError> {
        let bad = |why: String| ClientError::BadUrl { url: to.upload_url.clone(), why };
        let url = Url::parse(&to.upload_url).map_err(|e| bad(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("it must begin with http:// or https://".into()));
        }
        let form = to
            .upload_fields
            .iter()
            .fold(Form::new(), |form, (name, value)| form.text(name.clone(), value.clone()));
        // The file comes last: what stands after it is not read.
        let form = form.part("file", Part::bytes(bytes).file_name(to.filename.clone()));
        self.send_open(self.http.post(url).multipart(form).timeout(UPLOAD)).await.map(drop)
    }

    /// Says that everything is uploaded; the task as it stands then.
    pub async fn confirm_uploads(&self, task: TaskId) -> Result<TaskDetail, ClientError> {
        let path = format!("v1/tasks/{task}/confirm-uploads");
        let answer = self.send(self.request(Method::POST, &path)?.timeout(CONFIRM)).await?;
        Ok(self.body::<Data<_>>(answer, "the task").await?.data)
    }
}
