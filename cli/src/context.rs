//! What a command works with: the configuration, and where its words go. Results go to stdout; everything that is not
//! the result (progress, hints) goes to stderr, so that stdout stays readable for programs. Whatever is printed passes one
//! last net here ([`painted`]): a terminal is given text and our colours, and nothing else.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};

use console::{Term, measure_text_width};
use domain::text::painted;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use server::Config;
use server::config::Env;
use server::config::secret::Need;

use crate::args::{Global, Output};
use crate::clean;
use crate::failure::Failure;
use crate::render::wrap::fit;
use crate::render::{Paint, View};

/// Columns where the terminal does not say.
const COLUMNS: usize = 80;

/// What a command works with.
#[derive(Debug)]
pub struct Context {
    /// The form of the output.
    pub output: Output,
    /// Server that was named by flag or environment.
    pub api_url: Option<String>,
    /// The environment.
    pub env: Env,
    verbose: Verbose,
    /// Columns of the passing state that is on the screen.
    passing: AtomicUsize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verbose {
    Yes,
    No,
}

impl Context {
    /// Reads the environment.
    pub fn new(global: &Global) -> Self {
        Self {
            output: global.output,
            api_url: global.api_url.clone().filter(|url| !url.is_empty()),
            env: server::config::environment(),
            verbose: if global.verbose { Verbose::Yes } else { Verbose::No },
            passing: AtomicUsize::new(0),
        }
    }

    /// The configuration, with the secrets that a client of a server needs.
    pub fn config(&self) -> Result<Config, Failure> {
        Ok(Config::load(None, &self.env, Need::Client)?)
    }

    /// The configuration, with all its secrets.
    pub fn server_config(&self) -> Result<Config, Failure> {
        Ok(Config::load(None, &self.env, Need::Server)?)
    }

    /// What stdout looks like now.
    pub fn view(&self) -> View {
        View {
            now: now(),
            zone: TimeZone::system(),
            width: columns(&Term::stdout()),
            paint: if console::colors_enabled() { Paint::Colour } else { Paint::Plain },
        }
    }

    /// A result for people, in lines that fit the terminal.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        self.lines(&fit(text, columns(&Term::stdout())))
    }

    /// A result whose lines stay as they are, whatever their length.
    pub fn lines(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", painted(text))?;
        Ok(out.flush()?)
    }

    /// A result for programs.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.lines(&clean::json(value)?)
    }

    /// A result in the form that was asked for.
    pub fn result(&self, value: &impl Serialize, text: impl FnOnce(&View) -> String) -> Result<(), Failure> {
        match self.output {
            Output::Text => self.text(&text(&self.view())),
            Output::Json => self.json(value),
        }
    }

    /// A word beside the result.
    pub fn note(&self, text: &str) {
        // Nobody is helped by a failure to print a note.
        let _ = writeln!(io::stderr().lock(), "{}", painted(&fit(text, columns(&Term::stderr()))));
    }

    /// A word for those who asked for more.
    pub fn verbose(&self, text: &str) {
        match self.verbose {
            Verbose::Yes => self.note(&format!("bgagent: {}", clean::line(text))),
            Verbose::No => {}
        }
    }

    /// Shows a passing state on a terminal, over the one before; an empty text takes it away. No escape sequence is needed
    /// for that; a terminal that may not be able to go back in a line (`TERM=dumb`) is told the first state only.
    pub fn passing(&self, text: &str) {
        let Some(columns) = columns(&Term::stderr()).filter(|_| self.output == Output::Text) else { return };
        let text = domain::event::preview(&painted(text), columns.saturating_sub(1));
        let before = self.passing.swap(measure_text_width(&text), Ordering::Relaxed);
        let mut err = io::stderr().lock();
        let _ = match (self.is_dumb(), before) {
            (true, 0) if !text.is_empty() => writeln!(err, "{text}"),
            (true, _) => {
                self.passing.fetch_max(before, Ordering::Relaxed);
                Ok(())
            }
            (false, 0) => write!(err, "{text}"),
            (false, _) => write!(err, "\r{:before$}\r{text}", ""),
        };
        let _ = err.flush();
    }

    fn is_dumb(&self) -> bool {
        self.env.get("TERM").is_some_and(|term| term == "dumb")
    }
}

/// Columns of a terminal; `None` where nobody looks.
fn columns(term: &Term) -> Option<usize> {
    term.is_term().then(|| term.size_checked().map_or(COLUMNS, |(_, columns)| columns.into()))
}

/// The present.
#[expect(clippy::disallowed_methods, reason = "the command line is where a person's clock is read")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
