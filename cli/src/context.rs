//! What a command works with: the configuration, and where its words go. Results go to stdout; everything that is not
//! the result (progress, hints) goes to stderr, so that stdout stays readable for programs. Whatever is printed passes one
//! last net here ([`painted`]): a terminal is given text and our colours, and nothing else.

use std::io::{self, IsTerminal as _, Write as _};

use console::Term;
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
        let terminal = io::stdout().is_terminal();
        View {
            now: now(),
            zone: TimeZone::system(),
            width: terminal
                .then(|| Term::stdout().size_checked().map_or(COLUMNS, |(_, columns)| columns.into())),
            paint: if console::colors_enabled() { Paint::Colour } else { Paint::Plain },
        }
    }

    /// A result for people.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", painted(text))?;
        Ok(out.flush()?)
    }

    /// A result for programs.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.text(&clean::json(value)?)
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
        let _ = writeln!(io::stderr().lock(), "{}", painted(text));
    }

    /// A word for those who asked for more.
    pub fn verbose(&self, text: &str) {
        match self.verbose {
            Verbose::Yes => self.note(&format!("bgagent: {}", clean::line(text))),
            Verbose::No => {}
        }
    }

    /// Shows a passing state on a terminal, over the one before; an empty text takes it away.
    pub fn passing(&self, text: &str) {
        let mut err = io::stderr().lock();
        if self.output == Output::Text && err.is_terminal() {
            let _ = write!(err, "\r\x1b[K{}", painted(text));
            let _ = err.flush();
        }
    }
}

/// The present.
#[expect(clippy::disallowed_methods, reason = "the command line is where a person's clock is read")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
