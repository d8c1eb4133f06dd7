//! The image that a repository names for its development, in `.devcontainer/devcontainer.json`. Pure: text in, name out.
//!
//! Only an image is taken from it. Everything else there (mounts, commands, users, privileges) is written by whoever writes
//! the repository, and would be a way around the box.

use serde_json::Value;

/// Where the file is, in the order in which it is looked for.
pub const PATHS: [&str; 2] = [".devcontainer/devcontainer.json", ".devcontainer.json"];
/// Longer than the name of any image.
const NAME_MAX: usize = 255;

/// The image that `text` names; nothing when it names none. `Err` says why its image cannot be had, and what to do.
pub fn image(text: &str) -> Result<Option<String>, String> {
    let instead = "set `compute.image` of the repository, or `compute.devcontainer = false`";
    let value: Value = serde_json::from_str(&plain(text)).map_err(|e| {
        format!("the repository's devcontainer.json is not readable ({e}): correct it, or {instead}")
    })?;
    let builds = ["build", "dockerFile", "dockerComposeFile"];
    if let Some(key) = builds.into_iter().find(|key| value.get(key).is_some_and(|v| !v.is_null())) {
        return Err(format!(
            "the repository's devcontainer.json has `{key}`, and images are not built here: build it by hand, give it a \
             name, and {instead}"
        ));
    }
    let Some(name) = value.get("image").and_then(Value::as_str) else { return Ok(None) };
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if name.is_empty()
        || name.len() > NAME_MAX
        || !name.chars().all(fits)
        || name.starts_with(['-', '.', '/'])
    {
        return Err(format!(
            "the repository's devcontainer.json names an image {name:?}, which is no image's name: {instead}"
        ));
    }
    Ok(Some(name.to_owned()))
}

/// JSON as it is without comments and without commas before a closing bracket.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '"' => quoted(rest),
            '/' if rest.starts_with("//") => {
                rest = rest.find('\n').map_or("", |end| &rest[end..]);
                continue;
            }
            '/' if rest.starts_with("/*") => {
                rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
                out.push(' ');
                continue;
            }
            ']' | '}' => {
                let kept = out.trim_end().len();
                if out[..kept].ends_with(',') {
                    out.truncate(kept - 1);
                }
                1
            }
            c => c.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

/// The length of the string that `text` begins with, quotes included.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => (),
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<Option<&str>, &str>) {
        match (image(text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), expected, "{text}"),
            (Err(words), Err(part)) => assert!(words.contains(part), "{text}: {words}"),
            (found, expected) => panic!("{text}: {found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn an_image_is_found_among_comments_and_commas() {
        check(r#"{"image": "registry.example/org/dev:1.2"}"#, Ok(Some("registry.example/org/dev:1.2")));
        let text = r#"// For the editor
            {
              "name": "a // b", /* the "image": "other" */ "image": "debian:12", // twelve
              "mounts": ["source=/,target=/host,type=bind",],
              "runArgs": ["--privileged"],
            }"#;
        check(text, Ok(Some("debian:12")));
        check("\u{feff}{\"image\":\"a@sha256:0f\"}", Ok(Some("a@sha256:0f")));
    }

    #[test]
    fn no_image_is_no_error() {
        check("{}", Ok(None));
        check(r#"{"name": "x", "features": {}}"#, Ok(None));
        check(r#"{"build": null}"#, Ok(None));
    }

    #[test]
    fn what_must_be_built_is_refused_with_what_to_do() {
        for text in [
            r#"{"build": {"dockerfile": "Dockerfile"}}"#,
            r#"{"dockerFile": "Dockerfile", "image": "x"}"#,
            r#"{"dockerComposeFile": "compose.yml"}"#,
        ] {
            check(text, Err("build it by hand"));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["", "-v", "/abs", "a b", "${localEnv:IMAGE}", "a\\nb", "../x", "é"] {
            check(&format!(r#"{{"image": "{name}"}}"#), Err("no image's name"));
        }
        check(&format!(r#"{{"image": "{}"}}"#, "a".repeat(256)), Err("no image's name"));
    }

    #[test]
    fn broken_text_is_said_and_harms_nothing() {
        for text in ["", "{", "\"", "\"\\", "/*", "//", "{,,}", "{\"a\":\"\\\"}", "nul", "\u{feff}"] {
            check(text, Err("not readable"));
        }
    }

    #[test]
    fn commas_within_strings_stay() {
        assert_eq!(plain(r#"{"a": ",]", "b": [1, 2 , ], }"#), r#"{"a": ",]", "b": [1, 2 ]}"#);
    }
}
