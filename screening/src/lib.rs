//! Looks at what people and the world say to an agent before it reads it: is this an attempt to take it over?
//!
//! [`Screen`] is the seam. A screen says *passed*, *warned* or *blocked*; one that cannot say is an outage, and an outage
//! refuses: nothing that should have been screened goes on unscreened.
//!
//! | module | screens with |
//! |---|---|
//! | [`heuristic`] | a few patterns, in this process |
//! | [`http`] | any classifier that speaks HTTP and JSON |
//! | [`bedrock`] | a guardrail of Amazon Bedrock |

pub mod bedrock;
pub mod heuristic;
pub mod http;
mod send;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub use bedrock::{Bedrock, BedrockSettings};
pub use heuristic::Heuristics;
pub use http::{HttpClassifier, HttpSettings};

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// What a task is to do, as submitted.
    Submission,
    /// The text of an attachment.
    Attachment,
    /// The whole prompt that an agent begins with: also what came from the repository and the code host.
    Prompt,
    /// What a person says to an agent at work.
    Nudge,
    /// What a person asks it.
    Ask,
}

impl Source {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Submission => "submission",
            Source::Attachment => "attachment",
            Source::Prompt => "prompt",
            Source::Nudge => "nudge",
            Source::Ask => "ask",
        }
    }
}

/// What a screen says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Passed,
    /// It looks wrong; it goes on, and is told.
    Warned(String),
    /// It must not go on. The reason is for the person who wrote it.
    Blocked(String),
}

/// A screen that cannot say. The text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{screen} could not screen the text: {reason}")]
pub struct ScreenError {
    /// Which screen.
    pub screen: String,
    /// Why, without the text and without credentials.
    pub reason: String,
}

/// One way to screen.
#[async_trait]
pub trait Screen: Send + Sync + fmt::Debug {
    /// Looks at a text.
    async fn screen(&self, source: Source, text: &str) -> Result<Verdict, ScreenError>;
}

/// All screens that are configured: each must let a text pass. Without one everything passes.
#[derive(Debug, Clone, Default)]
pub struct Screens(Vec<Arc<dyn Screen>>);

impl Screens {
    /// These, asked in this order: the cheap ones first.
    pub fn new(screens: Vec<Arc<dyn Screen>>) -> Screens {
        Screens(screens)
    }

    /// Whether nothing is screened.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks each until one blocks. Warnings are put together.
    pub async fn screen(&self, source: Source, text: &str) -> Result<Verdict, ScreenError> {
        let mut warnings = Vec::new();
        for screen in &self.0 {
            match screen.screen(source, text).await? {
                Verdict::Passed => (),
                Verdict::Warned(reason) => warnings.push(reason),
                Verdict::Blocked(reason) => return Ok(Verdict::Blocked(reason)),
            }
        }
        Ok(if warnings.is_empty() { Verdict::Passed } else { Verdict::Warned(warnings.join("; ")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Says(Result<Verdict, ScreenError>);

    #[async_trait]
    impl Screen for Says {
        async fn screen(&self, _source: Source, _text: &str) -> Result<Verdict, ScreenError> {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn each_must_let_it_pass_and_an_outage_is_no_pass() {
        let warned = |text: &str| Ok(Verdict::Warned(text.into()));
        let blocked = || Ok(Verdict::Blocked("no".into()));
        let away = || Err(ScreenError { screen: "s".into(), reason: "away".into() });
        let cases = [
            (vec![], Ok(Verdict::Passed)),
            (vec![Ok(Verdict::Passed), Ok(Verdict::Passed)], Ok(Verdict::Passed)),
            (vec![warned("a"), Ok(Verdict::Passed), warned("b")], warned("a; b")),
            (vec![warned("a"), blocked(), away()], blocked()),
            (vec![warned("a"), away(), blocked()], away()),
        ];
        for (all, expected) in cases {
            let screens: Vec<Arc<dyn Screen>> =
                all.into_iter().map(|said| Arc::new(Says(said)) as Arc<dyn Screen>).collect();
            assert_eq!(Screens::new(screens).screen(Source::Nudge, "x").await, expected);
        }
    }
}
