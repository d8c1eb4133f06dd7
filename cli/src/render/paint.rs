//! Colour, or none.

/// Whether escape sequences of ours may be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// A terminal that shows colour.
    Colour,
    /// A pipe, a dumb terminal, or a person who set `NO_COLOR`.
    Plain,
}

impl Paint {
    pub fn bold(self, text: &str) -> String {
        self.sgr("1", text)
    }
    pub fn dim(self, text: &str) -> String {
        self.sgr("2", text)
    }
    pub fn red(self, text: &str) -> String {
        self.sgr("31", text)
    }
    pub fn green(self, text: &str) -> String {
        self.sgr("32", text)
    }
    pub fn yellow(self, text: &str) -> String {
        self.sgr("33", text)
    }
    pub fn cyan(self, text: &str) -> String {
        self.sgr("36", text)
    }

    /// A state, in the colour of how it is.
    pub fn status(self, status: &str) -> String {
        match status {
            "COMPLETED" => self.green(status),
            "FAILED" | "TIMED_OUT" => self.red(status),
            "CANCELLED" => self.yellow(status),
            other => self.cyan(other),
        }
    }

    fn sgr(self, code: &str, text: &str) -> String {
        match self {
            Paint::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
            Paint::Plain => text.to_owned(),
        }
    }
}
