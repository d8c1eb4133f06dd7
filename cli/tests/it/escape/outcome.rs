//! What an attempt came to: what it printed, and what was seen of it from outside.

use serde::{Deserialize, Serialize};

/// One attempt in one tier.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// What its tools answered.
    pub said: String,
    /// How long they took, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
    /// What it did to the host, in words; each is an escape, whatever it said.
    pub seen: Vec<String>,
}

impl Outcome {
    /// The evidence of an escape.
    fn evidence(&self) -> Option<String> {
        let said = self.said.lines().find(|line| line.starts_with("ESCAPED"));
        said.map(str::to_owned).or_else(|| self.seen.first().cloned())
    }

    /// Holds it to have worked.
    pub fn is_escape(&self) -> Result<(), String> {
        let none = || "it works where nothing isolates, and did not: the attempt proves nothing".to_owned();
        self.evidence().map(drop).ok_or_else(none)
    }

    /// Holds it to have been stopped by what says one of these (with `|` between them).
    pub fn is_stopped(&self, says: &str) -> Result<(), String> {
        if let Some(evidence) = self.evidence() {
            return Err(format!("it got out: {evidence}"));
        }
        self.is_told()?;
        match says.split('|').any(|says| self.said.contains(says)) {
            true => Ok(()),
            false => Err(format!("stopped, but not by what was expected ({says})")),
        }
    }

    /// Holds it to have ended as attempts end.
    pub fn is_told(&self) -> Result<(), String> {
        const ENDS: [&str; 3] = ["ESCAPED: ", "stopped: ", "planted: "];
        // Where a limit ends the attempt, the tool tells.
        let limit = self.said.contains("reached its") || self.said.contains("[killed after");
        match limit || self.said.lines().any(|line| ENDS.iter().any(|end| line.starts_with(end))) {
            true => Ok(()),
            false => Err("the attempt itself is broken: it did not tell what it came to".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(said: &str, seen: &[&str]) -> Outcome {
        Outcome { said: said.into(), took_ms: 0, seen: seen.iter().map(|s| (*s).to_owned()).collect() }
    }

    #[test]
    fn only_what_was_stopped_by_the_expected_wall_is_stopped() {
        assert!(of("x\nstopped: EPERM: no\n", &[]).is_stopped("EACCES|EPERM").is_ok());
        assert!(of("stopped: ENOENT: no", &[]).is_stopped("EACCES|EPERM").is_err());
        assert!(of("ESCAPED: canary\nstopped: EPERM", &[]).is_stopped("EPERM").is_err());
        assert!(of("stopped: EPERM", &["its file was changed"]).is_stopped("EPERM").is_err());
        assert!(of("Traceback EPERM", &[]).is_stopped("EPERM").is_err());
        assert!(of("stopped: EPERM", &[]).is_escape().is_err());
        assert!(of("stopped: EPERM", &["its process was killed"]).is_escape().is_ok());
    }
}
