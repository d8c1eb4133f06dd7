//! Build and lint: the same commands before and after the work, and what the difference means.
//!
//! The baseline runs in a work tree of its own (`git worktree add`), beside the agent: measuring it first would keep the
//! agent waiting for minutes, measuring it in the agent's tree would measure the agent. Each tree has its own build
//! folder, so neither sees what the other half built; the price is that both build from nothing. Only repositories
//! with a command (configured or found) pay it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::report::GateResult;
use tokio_util::sync::CancellationToken;

use crate::launch::Launcher;
use crate::notice;
use crate::repo::Checkout;
use crate::tool::process::{Background, End, Finished, Shell};

mod find;

pub use find::{Command, Commands, Source, find};

/// Bytes of a run's output that are kept: head and tail.
const OUTPUT_MAX_BYTES: usize = 16 * 1024;
/// Lines of a red run's end that are shown.
const SHOWN_LINES: usize = 15;

/// Which of the two gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Build and tests.
    Build,
    /// Lint; informational.
    Lint,
}

impl Gate {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Gate::Build => "Build and tests",
            Gate::Lint => "Lint",
        }
    }
}

/// What one run of a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    /// It ended with 0.
    Green,
    /// It ended with another code.
    Red {
        /// The code.
        code: i32,
        /// The last lines it printed.
        tail: String,
    },
    /// It did not end in time.
    TimedOut,
    /// The machine failed, not the code.
    Infra(String),
    /// It cannot run here.
    Inert(String),
}

/// Both runs of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which gate.
    pub gate: Gate,
    /// The command; none when none is configured or found.
    pub command: Option<Command>,
    /// Before the work; none when it was not measured.
    pub before: Option<Measured>,
    /// After the work; none when nothing changed.
    pub after: Option<Measured>,
}

impl Verdict {
    /// A gate without a command.
    pub fn off(gate: Gate) -> Verdict {
        Verdict { gate, command: None, before: None, after: None }
    }

    /// The result for the report.
    pub fn result(&self) -> GateResult {
        compare(self.before.as_ref(), self.after.as_ref())
    }
}

/// What the two runs mean together. A machine's failure or a timeout is no usable baseline: then red counts as new. What
/// did not end in time before either is as before.
pub fn compare(before: Option<&Measured>, after: Option<&Measured>) -> GateResult {
    match (before, after) {
        (_, Some(Measured::Green)) => GateResult::Passed,
        (Some(Measured::TimedOut), Some(Measured::TimedOut)) => GateResult::FailedAsBefore,
        (_, Some(Measured::TimedOut)) => GateResult::TimedOut,
        (_, Some(Measured::Infra(_))) => GateResult::Infra,
        (Some(Measured::Red { .. }), Some(Measured::Red { .. })) => GateResult::FailedAsBefore,
        (_, Some(Measured::Red { .. })) => GateResult::Failed,
        // It ran before: the work took away what it needs.
        (Some(Measured::Green), Some(Measured::Inert(_))) => GateResult::Failed,
        (_, Some(Measured::Inert(_))) => GateResult::Inert,
        // Nothing changed: it is as it was, where that is known.
        (Some(Measured::Green), None) => GateResult::Passed,
        (Some(Measured::Red { .. }), None) => GateResult::FailedAsBefore,
        (Some(Measured::TimedOut | Measured::Infra(_) | Measured::Inert(_)) | None, None) => {
            GateResult::Inert
        }
    }
}

/// Runs a command in a work tree. It and all it started end when the future is dropped.
pub async fn measure(launcher: &Launcher, command: &Command, dir: &Path, time: Duration) -> Measured {
    let environment = launcher.environment().with("CI", "1");
    // In a box the shell says it: its programs are not ours.
    let missing = match launcher.is_boxed() {
        true => None,
        false => find::missing_program(&command.line, &environment),
    };
    if let Some(missing) = missing {
        return Measured::Inert(format!("`{missing}` is not installed here"));
    }
    let background = Background::of(launcher.clone());
    let (notices, mark) = (launcher.notices(), launcher.notices().count());
    let shell = Shell {
        command: &command.line,
        directory: dir.to_owned(),
        environment: &environment,
        launcher,
        timeout: time,
        output_max: OUTPUT_MAX_BYTES,
    };
    // Dropped with the stage, which ends the group: nothing else cancels it.
    match shell.run(&CancellationToken::new(), &background, &|_| ()).await {
        Ok(Finished { end: end @ End::Exited(137 | 143), .. })
            if !notices.after(mark, end).await.is_empty() =>
        {
            let told: Vec<String> = notices.since(mark).iter().map(notice::told).collect();
            Measured::Infra(told.join("; "))
        }
        Ok(Finished { processor_limit: Some(seconds), .. }) => {
            Measured::Infra(notice::processor_limit(seconds))
        }
        Ok(finished) => judge(finished.end, &finished.output.render()),
        Err(error) => Measured::Infra(format!("it could not be run: {error}")),
    }
}

fn judge(end: End, output: &str) -> Measured {
    let low = output.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().find(|w| low.contains(**w)).map(|w| (*w).to_owned());
    match end {
        End::TimedOut => Measured::TimedOut,
        End::Cancelled => Measured::Infra("it was stopped".into()),
        End::Exited(0) => Measured::Green,
        End::Exited(137) => Measured::Infra("it was killed (137): most likely out of memory".into()),
        End::Exited(code) => {
            let machine =
                ["no space left on device", "disk quota exceeded", "cannot allocate memory", "out of memory"];
            let absent =
                ["no module named pytest", "no rule to make target", "missing script:", "no task named"];
            match (says(&machine), says(&absent)) {
                (Some(words), _) => Measured::Infra(words),
                (None, Some(words)) => Measured::Inert(words),
                (None, None) if code == 127 => Measured::Inert(last_lines(output, 1)),
                (None, None) if code == 5 && low.contains("no tests ran") => {
                    Measured::Inert("no tests".into())
                }
                (None, None) => Measured::Red { code, tail: last_lines(output, SHOWN_LINES) },
            }
        }
    }
}

fn last_lines(output: &str, count: usize) -> String {
    let lines: Vec<&str> = output.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The base in a work tree of its own, gone when dropped.
#[derive(Debug)]
pub struct BaseTree {
    dir: PathBuf,
}

impl BaseTree {
    /// Checks the base out beside the work tree.
    pub async fn add(checkout: &Checkout, dir: &Path) -> Result<BaseTree, git::GitError> {
        let add = checkout
            .git()
            .args(["worktree", "add", "--quiet", "--force", "--detach"])
            .arg(dir)
            .arg(&checkout.base);
        add.doing("checking out the base for its baseline").run().await?;
        Ok(BaseTree { dir: dir.to_owned() })
    }

    /// Its top folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for BaseTree {
    fn drop(&mut self) {
        // git forgets a work tree whose folder is gone.
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::debug!(%error, "the baseline's work tree is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn red() -> Measured {
        Measured::Red { code: 1, tail: String::new() }
    }

    /// D-086: a baseline that timed out counted as green.
    #[test]
    fn the_matrix_of_before_and_after() {
        use GateResult::{Failed, FailedAsBefore, Inert, Infra, Passed, TimedOut};
        let infra = || Measured::Infra("x".into());
        let inert = || Measured::Inert("x".into());
        let earlier = [
            None,
            Some(Measured::Green),
            Some(red()),
            Some(Measured::TimedOut),
            Some(infra()),
            Some(inert()),
        ];
        let rows = [
            (None, [Inert, Passed, FailedAsBefore, Inert, Inert, Inert]),
            (Some(Measured::Green), [Passed; 6]),
            (Some(red()), [Failed, Failed, FailedAsBefore, Failed, Failed, Failed]),
            (Some(Measured::TimedOut), [TimedOut, TimedOut, TimedOut, FailedAsBefore, TimedOut, TimedOut]),
            (Some(infra()), [Infra; 6]),
            (Some(inert()), [Inert, Failed, Inert, Inert, Inert, Inert]),
        ];
        for (after, expected) in rows {
            for (before, expected) in earlier.iter().zip(expected) {
                assert_eq!(compare(before.as_ref(), after.as_ref()), expected, "{before:?} -> {after:?}");
            }
        }
    }

    #[test]
    fn ends_are_judged_by_code_and_words() {
        let of = |code, output| judge(End::Exited(code), output);
        assert_eq!(of(0, "No space left on device"), Measured::Green);
        assert!(matches!(of(1, "write: No space left on device"), Measured::Infra(_)));
        assert!(matches!(of(137, ""), Measured::Infra(_)));
        assert_eq!(
            of(127, "bash: jest: command not found\n"),
            Measured::Inert("bash: jest: command not found".into())
        );
        assert!(matches!(of(2, "make: *** No rule to make target 'test'.  Stop."), Measured::Inert(_)));
        assert!(matches!(of(5, "no tests ran in 0.01s"), Measured::Inert(_)));
        let Measured::Red { code: 2, tail } = of(2, &"line\n".repeat(100)) else { panic!() };
        assert_eq!(tail.lines().count(), SHOWN_LINES);
        assert_eq!(judge(End::TimedOut, ""), Measured::TimedOut);
    }

    #[tokio::test]
    async fn a_missing_program_and_a_slow_one_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let command = |line: &str| Command { line: line.into(), source: Source::Configured };
        let (second, here) = (Duration::from_secs(1), &Launcher::Direct);
        assert!(matches!(
            measure(here, &command("no-such-program-x test"), dir.path(), second).await,
            Measured::Inert(_)
        ));
        assert_eq!(measure(here, &command("A=1 true && true"), dir.path(), second).await, Measured::Green);
        assert_eq!(
            measure(here, &command("sleep 20"), dir.path(), Duration::from_millis(100)).await,
            Measured::TimedOut
        );
    }
}
