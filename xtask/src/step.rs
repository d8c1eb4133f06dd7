//! One command of a longer job: said aloud, run to its end, and a failure names it.

use std::{path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, bail};

/// Runs a command with our own output; its line is printed first, so that a reader can repeat it by hand.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", line(command));
    let status = command.status().with_context(|| format!("starting `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// Runs a command quietly and hands back what it printed; on failure the error carries its words.
pub fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting `{}`", line(command)))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words = if words.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { words };
        bail!("`{}` ended with {}:\n{}", line(command), output.status, words.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("reading the output of `{}`", line(command)))
}

/// The command as one would type it; variables that a caller set stand in front.
pub fn line(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value?.to_string_lossy())))
    });
    // The cargo that started us is an absolute path of the toolchain; people type its name.
    let program = Path::new(command.get_program());
    let program = if program.ends_with("cargo") { "cargo".into() } else { program.to_string_lossy() };
    let arguments = command.get_args().map(|argument| quoted(&argument.to_string_lossy()));
    variables.chain([quoted(&program)]).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Seconds since a moment, for people.
pub fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=./:,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_typed_again() {
        let mut command = Command::new("/usr/bin/git");
        command.args(["commit", "-m", "it's done"]).env("LANG", "C");
        assert_eq!(line(&command), r"LANG=C /usr/bin/git commit -m 'it'\''s done'");
    }

    #[test]
    fn a_failure_carries_the_words_of_the_command() {
        let error = read(Command::new("sh").args(["-c", "echo broken >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("broken"), "{error}");
    }
}
