//! Steering a task: nudges and questions.

use std::time::Duration;

use domain::{AskId, TaskId};
use reqwest::Method;

use super::{ANSWER, Client, ClientError};
use crate::rest::{Data, TaskDetail};
use crate::steer::{AskDetail, AskRequest, NudgeAccepted, NudgeRequest, TaskMoved};

impl Client {
    /// Says something to the agent of a task.
    pub async fn nudge(&self, task: TaskId, message: &str) -> Result<NudgeAccepted, ClientError> {
        let request = NudgeRequest { message: message.to_owned() };
        let call = self.request(Method::POST, &format!("v1/tasks/{task}/nudge"))?.json(&request);
        let answer = self.send(call.timeout(ANSWER)).await?;
        Ok(self.body::<Data<_>>(answer, "the nudge").await?.data)
    }

    /// Lets a task wait.
    pub async fn pause(&self, task: TaskId) -> Result<TaskMoved, ClientError> {
        let call = self.request(Method::POST, &format!("v1/tasks/{task}/pause"))?;
        let answer = self.send(call.timeout(ANSWER)).await?;
        Ok(self.body::<Data<_>>(answer, "the paused task").await?.data)
    }

    /// Ends the waiting of a task.
    pub async fn resume(&self, task: TaskId) -> Result<TaskMoved, ClientError> {
        let call = self.request(Method::POST, &format!("v1/tasks/{task}/resume"))?;
        let answer = self.send(call.timeout(ANSWER)).await?;
        Ok(self.body::<Data<_>>(answer, "the resumed task").await?.data)
    }

    /// Tries a task again that has ended; the new task.
    pub async fn retry(&self, task: TaskId) -> Result<TaskDetail, ClientError> {
        let call = self.request(Method::POST, &format!("v1/tasks/{task}/retry"))?;
        let answer = self.send(call.timeout(ANSWER)).await?;
        Ok(self.body::<Data<_>>(answer, "the new task").await?.data)
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
