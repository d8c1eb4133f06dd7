//! Steering a task: nudges and questions.

use std::time::Duration;

use domain::{AskId, TaskId};
use reqwest::Method;

use super::{ANSWER, Client, ClientError};
use crate::rest::Data;
use crate::steer::{AskDetail, AskRequest, NudgeAccepted, NudgeRequest};

impl Client {
    /// Says something to the agent of a task.
    pub async fn nudge(&self, task: TaskId, message: &str) -> Result<NudgeAccepted, ClientError> {
        let request = NudgeRequest { message: message.to_owned() };
        let call = self.request(Method::POST, &format!("v1/tasks/{task}/nudge"))?.json(&request);
        let answer = self.send(call.timeout(ANSWER)).await?;
        Ok(self.body::<Data<_>>(answer, "the nudge").await?.data)
    }

    /// Asks a question about a task.
    pub async fn ask(&self, task: TaskId, question: &str) -> Result<AskDetail, ClientError> {
        let request = AskRequest { question: question.to_owned() };
        let call = self.request(Method::POST, &format!("v1/tasks/{task}/asks"))?.json(&request);
        let answer = self.send(call.timeout(ANSWER)).await?;
        Ok(self.body::<Data<_>>(answer, "the question").await?.data)
    }

    /// A question, as soon as it is answered, or as it stands after `wait`.
    pub async fn answer(&self, task: TaskId, ask: AskId, wait: Duration) -> Result<AskDetail, ClientError> {
        let path = format!("v1/tasks/{task}/asks/{ask}");
        let call =
            self.request(Method::GET, &path)?.query(&[("wait", wait.as_secs())]).timeout(ANSWER + wait);
        let answer = self.send(call).await?;
        Ok(self.body::<Data<_>>(answer, "the answer").await?.data)
    }
}
