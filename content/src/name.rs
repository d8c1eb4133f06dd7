//! What an attachment may be called: it becomes a file in a work tree, a part of a key and a line that people read.

use domain::limit::ATTACHMENT_NAME_MAX_CHARS;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is none.
    #[error("the file name is empty: give one such as `screenshot.png`")]
    Empty,
    /// Longer than [`ATTACHMENT_NAME_MAX_CHARS`].
    #[error("the file name has {chars} characters, and {ATTACHMENT_NAME_MAX_CHARS} are allowed: shorten it")]
    TooLong {
        /// Characters that it has.
        chars: usize,
    },
    /// It would be a path.
    #[error("the file name contains {0:?}: give the name alone, without a folder")]
    Separator(char),
    /// It begins with what options, hidden files or nothing begin with.
    #[error("the file name begins with {0:?}: it has to begin with a letter (A-Z, a-z) or a digit")]
    First(char),
    /// It ends in a space or a hyphen.
    #[error("the file name ends with {0:?}: it has to end with a letter (A-Z, a-z), a digit, `.` or `_`")]
    Last(char),
    /// A character of no file name: control characters, and those that look like others.
    #[error("the file name contains {0:?}: allowed are A-Z, a-z, 0-9, `.`, `_`, `-` and space")]
    Character(char),
}

/// Whether an attachment may be called this.
///
/// # Errors
/// What is wrong and what is allowed.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let (Some(first), Some(last)) = (name.chars().next(), name.chars().next_back()) else {
        return Err(NameError::Empty);
    };
    let chars = name.chars().count();
    if chars > ATTACHMENT_NAME_MAX_CHARS {
        return Err(NameError::TooLong { chars });
    }
    if let Some(separator) = name.chars().find(|c| matches!(c, '/' | '\\')) {
        return Err(NameError::Separator(separator));
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ');
    if let Some(strange) = name.chars().find(|c| !allowed(c)) {
        return Err(NameError::Character(strange));
    }
    if !first.is_ascii_alphanumeric() {
        return Err(NameError::First(first));
    }
    if matches!(last, ' ' | '-') {
        return Err(NameError::Last(last));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_a_name() {
        for name in ["a.png", "A", "0", "a b.txt", "build-2024_01.log", "x..y", "ends.", "ends_"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let longest = format!("{}.png", "a".repeat(ATTACHMENT_NAME_MAX_CHARS - 4));
        assert_eq!(check_name(&longest), Ok(()));
        assert_eq!(check_name(&format!("a{longest}")), Err(NameError::TooLong { chars: 256 }));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        for (name, expected) in [
            ("", NameError::Empty),
            ("../a.png", NameError::Separator('/')),
            ("a\\b", NameError::Separator('\\')),
            ("a\0b", NameError::Character('\0')),
            ("a\nb", NameError::Character('\n')),
            (".env", NameError::First('.')),
            ("..", NameError::First('.')),
            ("-rf", NameError::First('-')),
            ("_a", NameError::First('_')),
            (" a", NameError::First(' ')),
            ("a ", NameError::Last(' ')),
            ("a-", NameError::Last('-')),
            ("bild\u{e4}.png", NameError::Character('\u{e4}')),
            ("gpj\u{202e}.exe", NameError::Character('\u{202e}')),
            ("a:b", NameError::Character(':')),
            ("a\"b", NameError::Character('"')),
        ] {
            assert_eq!(check_name(name), Err(expected), "{name:?}");
        }
        assert_eq!(
            check_name("a\u{202e}b").unwrap_err().to_string(),
            r"the file name contains '\u{202e}': allowed are A-Z, a-z, 0-9, `.`, `_`, `-` and space"
        );
    }

    proptest! {
        #[test]
        fn no_name_is_a_path_an_option_or_hidden(name in any::<String>()) {
            if check_name(&name).is_ok() {
                prop_assert!(!name.contains(['/', '\\']) && !name.chars().any(char::is_control));
                prop_assert!(!name.starts_with(['.', '-', ' ']));
                prop_assert!(std::path::Path::new(&name).components().count() == 1);
            }
        }

        #[test]
        fn a_separator_or_a_leading_dot_is_never_accepted(before in "[a-zA-Z0-9._ -]{0,9}", after in "[a-zA-Z0-9._ -]{0,9}") {
            for separator in ['/', '\\', '\0', '\n'] {
                let name = format!("{before}{separator}{after}");
                prop_assert!(check_name(&name).is_err());
            }
            let hidden = [format!(".{before}"), format!("-{before}")];
            prop_assert!(hidden.iter().all(|name| check_name(name).is_err()));
        }
    }
}
