//! Passwords in URLs.

use super::{End, Tail, Verdict, distinct, random};
use crate::MASK;

/// The longest `user:password@host`.
const AUTHORITY_MAX: usize = 512;
/// A name without a password that is this long and looks random is a token.
const TOKEN_MIN: usize = 20;
/// Passwords that every example has.
const PLACEHOLDERS: &[&str] = &[
    "admin",
    "changeme",
    "dev",
    "example",
    "guest",
    "mysql",
    "pass",
    "passwd",
    "password",
    "postgres",
    "pwd",
    "root",
    "secret",
    "test",
    "testing",
    "token",
    "user",
    "username",
    "your-password",
    "your_password",
    "yourpassword",
];

pub(super) fn judge(text: &[u8], head: usize, end: End) -> Verdict {
    let authority = text[head..]
        .iter()
        .take(AUTHORITY_MAX)
        .take_while(|b| {
            !matches!(
                b,
                0..=b' '
                    | b'/'
                    | b'?'
                    | b'#'
                    | b'"'
                    | b'\''
                    | b'<'
                    | b'>'
                    | b'`'
                    | b'\\'
                    | b'('
                    | b')'
                    | b'|'
                    | b'\x7f'
            )
        })
        .count();
    if authority == AUTHORITY_MAX {
        return Verdict::No;
    }
    if head + authority == text.len() && end == End::Open {
        return Verdict::Wait;
    }
    let authority = &text[head..head + authority];
    let Some(at) = authority.iter().rposition(|b| *b == b'@') else { return Verdict::No };
    let (name, host) = (&authority[..at], &authority[at + 1..]);
    let stop = head + at;
    match name.iter().position(|b| *b == b':') {
        Some(colon) if is_password(&name[..colon], &name[colon + 1..], host) => {
            Verdict::Yes { start: head + colon + 1, end: stop, tail: Tail::None }
        }
        None if name.len() >= TOKEN_MIN && random(name) && !masked(name) => {
            Verdict::Yes { start: head, end: stop, tail: Tail::None }
        }
        Some(_) | None => Verdict::No,
    }
}

/// Not a placeholder, and not what everyone's database on this machine has.
fn is_password(user: &[u8], password: &[u8], host: &[u8]) -> bool {
    let lower = password.to_ascii_lowercase();
    let placeholder = password.len() < 3
        || password == user
        || masked(password)
        || matches!(password[0], b'$' | b'{' | b'%' | b'*' | b'[' | b'.')
        || distinct(password) < 3
        || PLACEHOLDERS.iter().any(|p| p.as_bytes() == lower);
    !placeholder && !host.is_empty() && (!is_local(host) || (password.len() >= 16 && random(password)))
}

fn is_local(host: &[u8]) -> bool {
    let name = host.split(|b| *b == b':').next().unwrap_or_default();
    !name.contains(&b'.') || name.starts_with(b"127.") || name.starts_with(b"example.") || name == b"0.0.0.0"
}

fn masked(text: &[u8]) -> bool {
    text.windows(MASK.len()).any(|w| w == MASK.as_bytes())
}
