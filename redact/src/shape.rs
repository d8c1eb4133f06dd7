//! What the tokens of well-known services look like. A shape begins with fixed characters; what follows decides.
//!
//! A recogniser sees the text from those characters on. It decides on a bounded number of characters and never takes
//! back what it said, so that a text that comes in pieces is judged as the whole is. Placeholders (`ghp_xxxxxxxx`,
//! `Bearer $TOKEN`) stay: an agent that edits a file must see what is in it.

mod context;
mod jwt;
mod pem;
mod table;
mod url;

pub use self::pem::Pem;
pub use self::table::ALL;

/// One shape.
pub struct Shape {
    /// What it is, in words that stand in a sentence: "a GitHub token".
    pub kind: &'static str,
    /// The characters it begins with.
    pub begins: &'static str,
    /// What may stand before it.
    pub before: Before,
    /// What must follow.
    pub rule: Rule,
}

/// What may stand before a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Anything: the beginning is distinctive.
    Any,
    /// No letter, digit, `_` or `-`: the beginning is also the end of ordinary words.
    Edge,
    /// A letter.
    Letter,
}

/// What must follow the beginning.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// At least so many characters of a set, not all alike.
    Run(Set, usize),
    /// Just so many, then another.
    Exactly(Set, usize),
    /// Runs of at least so many, with dots between.
    Dotted(&'static [usize]),
    /// After some of these separators, a value of at least so many characters that looks random. The value alone goes.
    Value(&'static [u8], Set, usize),
    /// Base64 of `name:password`.
    Basic,
    /// A JSON web token.
    Jwt,
    /// A private key in PEM.
    Pem,
    /// `user:password@host` after `://`.
    Url,
}

/// A set of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// Letters and digits.
    Alnum,
    /// And `_`.
    Word,
    /// And `-`: base64 for URLs.
    Url,
    /// And `.`.
    Dotted,
    /// Capital letters and digits.
    Upper,
    /// Hexadecimal digits.
    Hex,
    /// Letters, digits, `+`, `/`, `=`.
    Base64,
    /// What RFC 6750 calls `token68`.
    Token,
    /// Letters, digits and `/`.
    Path,
}

impl Set {
    pub fn has(self, byte: u8) -> bool {
        match self {
            Set::Alnum => byte.is_ascii_alphanumeric(),
            Set::Word => byte.is_ascii_alphanumeric() || byte == b'_',
            Set::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Set::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
            Set::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Set::Hex => byte.is_ascii_hexdigit(),
            Set::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
            Set::Token => {
                byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-' | b'.' | b'~')
            }
            Set::Path => byte.is_ascii_alphanumeric() || byte == b'/',
        }
    }

    /// How many of the first `most` bytes belong to the set, from the first on.
    pub fn run(self, bytes: &[u8], most: usize) -> usize {
        bytes.iter().take(most).take_while(|b| self.has(**b)).count()
    }
}

/// What a recogniser says of a text that begins like its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is none.
    No,
    /// The text ends before that is clear.
    Wait,
    /// These bytes are one, and more may follow.
    Yes {
        /// First byte of the secret.
        start: usize,
        /// The byte after it.
        end: usize,
        /// What else belongs to it.
        tail: Tail,
    },
}

/// What of the bytes after a recognised beginning belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    None,
    /// All of the set.
    Set(Set),
    /// The rest of a private key.
    Pem(Pem),
}

/// Whether more text may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It may.
    Open,
    /// This is all.
    Final,
}

impl End {
    /// What a recogniser says that has read to the end.
    fn ran_out(self) -> Verdict {
        match self {
            End::Open => Verdict::Wait,
            End::Final => Verdict::No,
        }
    }
}

impl Shape {
    /// Judges a text that begins with `self.begins`.
    pub fn judge(&self, text: &[u8], end: End) -> Verdict {
        let head = self.begins.len();
        let rest = &text[head..];
        match self.rule {
            Rule::Run(set, least) => {
                let run = set.run(rest, least);
                match run == least {
                    true if varied(&rest[..least]) => {
                        Verdict::Yes { start: 0, end: head + least, tail: Tail::Set(set) }
                    }
                    true => Verdict::No,
                    false if run == rest.len() => end.ran_out(),
                    false => Verdict::No,
                }
            }
            Rule::Exactly(set, count) => {
                let run = set.run(rest, count + 1);
                match run == count && (rest.len() > count || end == End::Final) {
                    true if varied(&rest[..count]) && !rest[..count].ends_with(b"EXAMPLE") => {
                        Verdict::Yes { start: 0, end: head + count, tail: Tail::None }
                    }
                    true => Verdict::No,
                    false if run == rest.len() && run <= count => end.ran_out(),
                    false => Verdict::No,
                }
            }
            Rule::Dotted(runs) => jwt::dotted(text, head, runs, end),
            Rule::Value(between, set, least) => context::value(text, head, between, set, least, end),
            Rule::Basic => context::basic(text, head, end),
            Rule::Jwt => jwt::judge(text, end),
            Rule::Pem => pem::judge(text, head, end),
            Rule::Url => url::judge(text, head, end),
        }
    }
}

/// Whether these characters are more than a placeholder (`xxxx`, `0000`, `your_token`).
fn varied(bytes: &[u8]) -> bool {
    distinct(bytes) >= (bytes.len() / 3).clamp(4, 8)
}

/// Whether they look as if drawn by lot: varied, and no word.
fn random(bytes: &[u8]) -> bool {
    let has = |test: fn(&u8) -> bool| bytes.iter().any(test);
    let cases = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    varied(bytes) && (cases || (has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)))
}

fn distinct(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    bytes.iter().for_each(|b| seen[usize::from(*b)] = true);
    seen.iter().filter(|s| **s).count()
}
