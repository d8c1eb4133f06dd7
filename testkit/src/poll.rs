//! Waiting for something with a deadline: the only way tests wait.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` finds it, at most for `within`. The error names what was waited for.
pub async fn until<T, F, Look>(what: impl Display, within: Duration, mut look: Look) -> anyhow::Result<T>
where
    F: Future<Output = Option<T>>,
    Look: FnMut() -> F,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < deadline, "waited {} s for {what}", within.as_secs_f32());
        tokio::time::sleep(EVERY).await;
    }
}
