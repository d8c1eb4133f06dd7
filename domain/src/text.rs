//! Text of others (an agent's, a repository's, an issue's, a program's) on its way to a person or to a model.
//!
//! It is data: what it holds is shown, and does nothing. A terminal must not obey it ([`line`], [`block`], [`tail`]), a
//! reader must not be shown less or something else than is there ([`visible`]), and in a prompt it must not pass for the
//! words around it ([`fence`]).

use std::borrow::Cow;
use std::fmt::Write as _;

/// A text for one line of a terminal: line breaks and tabs become spaces, everything dangerous becomes visible.
pub fn line(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' | '\t' | '\r' => clean.push(' '),
            c => push(&mut clean, c),
        }
    }
    clean
}

/// A text of several lines for a terminal: line feeds and tabs stay.
pub fn block(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => clean.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            c => push(&mut clean, c),
        }
    }
    clean
}

/// What we print ourselves, with words of others in it: colours stay, and everything else is as in [`block`]. The last net
/// before a terminal, for words that nobody made safe before.
pub fn painted(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| is_dangerous(c) && !matches!(c, '\n' | '\t')) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        clean.push_str(&block(&rest[..at]));
        let escape = &rest[at..];
        let end = escape.strip_prefix("\u{1b}[").and_then(|numbers| {
            let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            numbers[end..].starts_with('m').then_some(end + "\u{1b}[m".len())
        });
        match end {
            Some(end) => clean.push_str(&escape[..end]),
            None => push(&mut clean, '\u{1b}'),
        }
        rest = &escape[end.unwrap_or(1)..];
    }
    clean.push_str(&block(rest));
    Cow::Owned(clean)
}

/// A program's output for a terminal, the last `max` bytes: its own colours and titles are left out, the rest as
/// [`block`].
pub fn tail(text: &str, max: usize) -> String {
    let mut clean = block(&without_sequences(text));
    let start = clean.ceil_char_boundary(clean.len().saturating_sub(max));
    clean.split_off(start)
}

/// Without terminal control sequences. One that does not end within its line hides nothing: only its beginning goes.
pub fn without_sequences(text: &str) -> Cow<'_, str> {
    let introduces =
        |c: char| c == '\u{1b}' || matches!(c, '\u{90}' | '\u{98}' | '\u{9b}' | '\u{9d}'..='\u{9f}');
    if !text.contains(introduces) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(introduces) {
        out.push_str(&rest[..at]);
        let mut after = rest[at..].chars();
        let kind = match after.next() {
            Some('\u{1b}') => after.next(),
            Some('\u{9b}') => Some('['),
            Some(_) | None => Some(']'),
        };
        rest = after.as_str();
        match kind {
            // A control sequence ends with its first byte from `@` to `~`.
            Some('[') => {
                let end = rest.find(|c| !(' '..='?').contains(&c));
                rest = match end.map(|end| (end, rest[end..].chars().next())) {
                    Some((end, Some('@'..='~'))) => &rest[end + 1..],
                    Some((end, _)) => &rest[end..],
                    None => "",
                };
            }
            // A command string ends with BEL, or ST in either form.
            Some(']' | 'P' | '^' | '_' | 'X') => {
                let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
                let ends = ["\u{7}", "\u{1b}\\", "\u{9c}"];
                let end = ends.iter().filter_map(|end| Some(line.find(end)? + end.len())).min();
                rest = &rest[end.unwrap_or(0)..];
            }
            // Two characters between: a choice of character sets.
            Some('(' | ')' | '*' | '+' | '#' | '%' | ' ') => {
                let mut after = rest.chars();
                after.next();
                rest = after.as_str();
            }
            // An escape that was cut short by a line's end or another one's beginning.
            Some(c) if c == '\n' || introduces(c) => rest = &text[text.len() - rest.len() - c.len_utf8()..],
            Some(_) | None => (),
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A text with every hidden character shown as `<U+202E>`, and how many there were. Line ends, tabs, page breaks and
/// what scripts and emoji need to be written are not hidden.
pub fn visible(text: &str) -> (Cow<'_, str>, usize) {
    if text.is_ascii()
        && !text.bytes().any(|b| b.is_ascii_control() && !matches!(b, b'\n' | b'\t' | b'\r' | b'\x0c'))
    {
        return (Cow::Borrowed(text), 0);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut hidden = 0;
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\n' | '\t' | '\r' | '\x0c' => true,
            // A joiner between letters of a script that joins, or between emoji; nothing joins to a variant alone.
            '\u{200c}' | '\u{200d}' => {
                before.is_some_and(joins)
                    && chars.peek().is_some_and(|&next| joins(next) && !is_selector(next))
            }
            // One variation selector after what has variants.
            '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => before.is_some_and(has_variants),
            c => !is_hidden(c),
        };
        if plain {
            shown.push(c);
        } else {
            hidden += 1;
            code(&mut shown, c);
        }
        // What is shown as a code has no part in what its neighbours mean.
        before = plain.then_some(c);
    }
    if hidden == 0 { (Cow::Borrowed(text), 0) } else { (Cow::Owned(shown), hidden) }
}

/// What is said beside a text whose hidden characters are shown; `None` when there are none.
pub fn hidden_note(hidden: usize) -> Option<String> {
    let (are, them) = if hidden == 1 { ("character is", "it is") } else { ("characters are", "they are") };
    (hidden > 0).then(|| {
        format!(
            "[Note of the platform: {hidden} {are} not seen on a screen (controls, marks of direction, invisible \
             letters); {them} shown as <U+...>. Such characters are used to hide instructions.]"
        )
    })
}

/// A text between `<tag ...>` and `</tag>`, which it cannot close.
pub fn fence(tag: &str, attributes: &[(&str, &str)], text: &str) -> String {
    let mut fenced = format!("<{tag}");
    for (name, value) in attributes {
        let value = line(value)
            .replace('&', "&amp;")
            .replace('"', "&quot;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let _ = write!(fenced, " {name}=\"{value}\"");
    }
    let _ = write!(fenced, ">\n{}\n</{tag}>", defused(tag, text));
    fenced
}

/// The text with a backslash in everything that could be read as the end or as another beginning of the fence.
fn defused(tag: &str, text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at + 1);
        out.push_str(before);
        let name = from.trim_start_matches(|c: char| c == '/' || c.is_whitespace() || is_hidden(c));
        let names = name.get(..tag.len()).is_some_and(|n| n.eq_ignore_ascii_case(tag));
        if names {
            out.push('\\');
        }
        rest = from;
    }
    out.push_str(rest);
    out
}

fn push(clean: &mut String, c: char) {
    match c {
        '\0'..='\x1f' => clean.extend(char::from_u32(0x2400 + u32::from(c))),
        '\x7f' => clean.push('\u{2421}'),
        c if is_dangerous(c) => code(clean, c),
        c => clean.push(c),
    }
}

fn code(out: &mut String, c: char) {
    // Writing to a text does not fail.
    let _ = write!(out, "<U+{:04X}>", u32::from(c));
}

/// Whether a terminal must not be given this character: controls, line separators, marks of direction, and what is not
/// seen at all. Joiners stay, since whole scripts need them.
pub fn is_dangerous(c: char) -> bool {
    is_hidden(c) && !matches!(c, '\u{200c}' | '\u{200d}')
}

/// Whether a character is not seen where it stands.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether a joiner beside this character has a meaning.
fn joins(c: char) -> bool {
    !c.is_ascii() && !is_hidden(c) && !is_latin(c)
}

fn has_variants(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '#' | '*') || (joins(c) && !is_selector(c))
}

fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Letters of scripts that never join.
fn is_latin(c: char) -> bool {
    matches!(c, '\u{c0}'..='\u{24f}' | '\u{370}'..='\u{52f}')
}

#[cfg(test)]
mod tests;
