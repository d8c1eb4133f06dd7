//! What is told of findings, and what stays.

use redact::{Redactor, Refusal};
use secrecy::SecretString;

fn with(value: &str) -> Redactor {
    Redactor::new(&[SecretString::from(value.to_owned())])
}

#[test]
fn placeholders_and_ordinary_words_stay() {
    let redactor = Redactor::default();
    for text in [
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "GITHUB_TOKEN=ghp_your_token_here",
        "Authorization: Bearer $TOKEN",
        "Authorization: Bearer ${{ secrets.GITHUB_TOKEN }}",
        "Authorization: Bearer <token>",
        "Authorization: Basic <credentials>",
        "Basic information about authentication",
        "https://user:password@example.com/",
        "postgres://postgres:postgres@localhost:5432/test",
        "postgres://app:app_dev@db/app",
        "https://${USER}:${TOKEN}@git.example.org",
        "git@github.com:owner/name.git",
        "https://example.org/a@b:c",
        "task-force risk-averse disk-usage-of-some-very-long-name-in-a-line",
        "desk-0123456789012345678901234567890123456789",
        "aws_secret_access_key = os.environ['AWS_SECRET_ACCESS_KEY']",
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n-----END CERTIFICATE-----",
        "3f786850e387550fdab836ed7e6dc881de23001b",
        "sha512-xvFZjo5PgG0YqJxYcZ0bJvBqE4a3VzGm1oQx7zWm0rB4l8jL6b7X1oX0m1Qb8y7c5kU6Qx4o7Yw1xk8n5Yx1Og==",
        "123e4567-e89b-12d3-a456-426614174000",
        "use eyJ as a prefix; eyJhbGciOiJIUzI1NiJ9 is half a token",
        "npm_config_registry=https://registry.npmjs.org/",
        "data:application/json;base64,eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbImEuanMiXX0=",
        "if (token.startsWith('xoxb-')) { return sk_live_mode; }",
    ] {
        assert_eq!(redactor.mask(text), text);
        assert_eq!(redactor.scan(text.as_bytes()), []);
    }
}

#[test]
fn a_finding_says_what_and_where_and_not_the_secret() {
    let token = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6");
    let text = format!("one\n  let t = \"{token}\";\nlet v = 'the-configured-value';\n");
    let found = with("the-configured-value").scan(text.as_bytes());
    let told: Vec<_> = found.iter().map(|f| (f.kind, f.line, f.preview.as_str())).collect();
    assert_eq!(
        told,
        [
            ("a GitHub token", 2, "let t = \"[redacted]\";"),
            ("a secret of this platform's configuration", 3, "let v = '[redacted]';"),
        ]
    );
}

/// D-069: a pattern swallowed lines.
#[test]
fn only_the_secret_of_a_context_goes() {
    let redactor = Redactor::default();
    let password = "h7Gf2kLq";
    assert_eq!(
        redactor.mask(&format!("fetch https://me:{password}@git.example.org/x.git now")),
        "fetch https://me:[redacted]@git.example.org/x.git now"
    );
    let key = "wJalrXUtnFEMI0K7MDENGbPxRfiCY3zLqTvB8sHd";
    assert_eq!(
        redactor.mask(&format!("export AWS_SECRET_ACCESS_KEY=\"{key}\"")),
        "export AWS_SECRET_ACCESS_KEY=\"[redacted]\""
    );
}

#[test]
fn a_colour_or_an_escaped_line_break_before_a_token_hides_nothing() {
    let key = format!("sk-{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6aB3dE6gH9jK2");
    let redactor = Redactor::default();
    assert_eq!(redactor.mask(&format!("\u{1b}[31m{key}\u{1b}[0m")), "\u{1b}[31m[redacted]\u{1b}[0m");
    assert_eq!(redactor.mask(&format!("line\\n{key}\\n")), "line\\n[redacted]\\n");
}

#[test]
fn a_key_that_was_cut_is_masked_as_far_as_it_goes() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    let text = format!("-----BEGIN PRIVATE KEY-----\n{line}\n{line}\n");
    assert_eq!(Redactor::default().mask(&text), "[redacted]");
}

#[test]
fn short_values_are_refused() {
    assert_eq!(Redactor::refuses("1234567"), Some(Refusal::Short));
    assert_eq!(Redactor::refuses(" 1234567\n"), Some(Refusal::Short));
    assert_eq!(Redactor::refuses("redacted"), Some(Refusal::Mask));
    assert_eq!(Redactor::refuses("12345678"), None);
    assert_eq!(with("1234567").mask("a 1234567"), "a 1234567");
    assert_eq!(format!("{:?}", with("12345678")), "Redactor");
}

#[test]
fn a_broken_json_text_is_masked_too() {
    let redactor = with("the-configured-value");
    for (body, want) in [
        (r#"{"a": "the-configured-value"#, r#"{"a": "[redacted]"#),
        ("data: the-configured-value", "data: [redacted]"),
        (r#"{"a": "\ud800 the-configured-value"}"#, r#"{"a": "\ud800 [redacted]"}"#),
        (r#"{"a": 1.50, "the-configured-value" : "x\u0041"}"#, r#"{"a": 1.50, "[redacted]" : "x\u0041"}"#),
        (r#"["the\u002dconfigured\u002dvalue"]"#, r#"["[redacted]"]"#),
    ] {
        let masked = redactor.mask_json_bytes(body.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(masked).unwrap(), want);
    }
}

#[test]
fn a_stream_gives_what_is_clear_at_once() {
    let mut stream = with("the-configured-value").stream();
    assert_eq!(stream.push("building the "), "building the ");
    assert_eq!(stream.push("next the-conf"), "next ");
    assert_eq!(stream.push("using file\n"), "the-confusing file\n");
    assert_eq!(stream.push("the-configured"), "");
    assert_eq!(stream.push("-value."), "[redacted].");
    assert_eq!(stream.push("https://x.y/"), "https://x.y/");
    assert_eq!(stream.finish(), "");
}

#[test]
fn one_line_of_a_key_file_is_enough() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    let key = with(&format!("-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n"));
    assert_eq!(key.mask(&format!("line 2: {line}")), "line 2: [redacted]");
}

#[test]
fn values_alone_leave_shapes_as_they_are() {
    let token = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6");
    let redactor = Redactor::of_values(&[SecretString::from("the-configured-value")]);
    assert_eq!(redactor.mask(&format!("{token} the-configured-value")), format!("{token} [redacted]"));
    assert_eq!(Redactor::of_values(&[]).mask(&token), token);
}

#[test]
fn the_beginning_of_a_value_before_a_cut_is_masked() {
    let redactor = with("the-configured-value");
    for (text, want) in [
        ("A=the-configured-val...", "A=[redacted]..."),
        ("A=the-configured-value...", "A=[redacted]..."),
        ("over the...", "over the..."),
        ("dGhlLWNvbmZp... and the-configured-value", "[redacted]... and [redacted]"),
        ("the-configured", "the-configured"),
    ] {
        assert_eq!(redactor.mask_preview(text), want);
    }
}
