//! Sending a request to a classifier: a few tries, a bounded time, a bounded answer, and errors without the text.

use std::time::Duration;

use reqwest::{Response, StatusCode};

use crate::ScreenError;

/// Tries in all; the pauses between them double, from [`PAUSE`].
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);
/// An answer is a few hundred bytes.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// Sends until there is a success; 429 and 5xx and lost connections are tried again.
pub(crate) async fn send(
    screen: &str,
    request: impl Fn() -> Result<reqwest::RequestBuilder, String>,
) -> Result<Vec<u8>, ScreenError> {
    let failed = |reason: String| ScreenError { screen: screen.to_owned(), reason };
    let mut pause = PAUSE;
    let mut tries = 0;
    loop {
        tries += 1;
        let (again, reason) = match request().map_err(failed)?.send().await {
            Ok(answer) if answer.status().is_success() => return read(answer).await.map_err(failed),
            Ok(answer) => (may_mend(answer.status()), format!("it answered {}", answer.status())),
            // The address may hold a key.
            Err(error) => (true, error.without_url().to_string()),
        };
        if !again || tries == TRIES {
            return Err(failed(reason));
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

fn may_mend(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

async fn read(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|e| e.without_url().to_string())? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > ANSWER_MAX_BYTES {
            return Err(format!("its answer has more than {ANSWER_MAX_BYTES} bytes"));
        }
    }
    Ok(bytes)
}
