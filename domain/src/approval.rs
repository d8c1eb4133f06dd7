//! How far an approval reaches, as the contract writes it.

use crate::limit;

/// Scopes that are a word of their own; *ABCA*.
const WORDS: [&str; 4] = ["this_call", "tool_type_session", "tool_group_session", "all_session"];
/// Tools that `tool_type:` may name; *ABCA*.
const TOOLS: [&str; 8] = ["Bash", "Read", "Write", "Edit", "Glob", "Grep", "WebFetch", "Task"];
/// Groups that `tool_group:` may name; *ABCA*.
const GROUPS: [&str; 1] = ["file_write"];

/// Checks a scope; the error says what is wrong with it.
pub fn check_scope(scope: &str) -> Result<(), String> {
    let max = limit::APPROVAL_SCOPE_MAX_CHARS;
    if scope.chars().count() > max {
        return Err(format!("has more than {max} characters"));
    }
    if WORDS.contains(&scope) {
        return Ok(());
    }
    let Some((kind, value)) = scope.split_once(':') else {
        return Err(format!(
            "is none of {}, and begins with none of tool_type:, tool_group:, bash_pattern:, write_path:, rule:",
            WORDS.join(", ")
        ));
    };
    match kind {
        "tool_type" if TOOLS.contains(&value) => Ok(()),
        "tool_type" => Err(format!("names no tool; there are {}", TOOLS.join(", "))),
        "tool_group" if GROUPS.contains(&value) => Ok(()),
        "tool_group" => Err(format!("names no group; there is {}", GROUPS.join(", "))),
        "bash_pattern" | "write_path" if degenerate(value) => {
            Err("has a pattern that would allow nearly everything; make it more specific".into())
        }
        "bash_pattern" | "write_path" => Ok(()),
        "rule" if value.trim().is_empty() => Err("names no rule".into()),
        "rule" => Ok(()),
        _ => Err(format!("begins with {:?}, which is no kind of scope", crate::event::preview(kind, 40))),
    }
}

/// At most two characters, or only wildcards, or more than half of it wildcards.
fn degenerate(pattern: &str) -> bool {
    let all = pattern.chars().count();
    let wild = pattern.chars().filter(|c| matches!(c, '*' | '?')).count();
    let empty = pattern.chars().all(|c| matches!(c, '*' | '?') || c.is_whitespace());
    all <= 2 || empty || wild * 2 > all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_checked_as_the_contract_says() {
        for good in [
            "this_call",
            "all_session",
            "tool_type:Bash",
            "tool_group:file_write",
            "bash_pattern:npm *",
            "write_path:src/**",
            "rule:r1",
            "bash_pattern:a:b c",
        ] {
            assert_eq!(check_scope(good), Ok(()), "{good}");
        }
        let long = format!("rule:{}", "x".repeat(124));
        for bad in [
            "",
            "everything",
            "tool_type:",
            "tool_type:bash",
            "tool_group:x",
            "bash_pattern:*",
            "bash_pattern:ab",
            "bash_pattern:* ? *",
            "write_path:***a",
            "rule: ",
            "x:y",
            &long,
        ] {
            assert!(check_scope(bad).is_err(), "{bad}");
        }
        assert_eq!(check_scope(&format!("rule:{}", "x".repeat(123))), Ok(()));
    }
}
