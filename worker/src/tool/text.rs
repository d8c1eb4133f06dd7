//! Keeping text within bounds: the head and the tail of output, long lines, terminal escapes.

use redact::{Redactor, Stream};

/// A cut looks so far for the end of a line.
const LINE_MAX_BYTES: usize = 2 * 1024;

/// Keeps the first and the last bytes of a stream, and counts the rest. Memory is bounded by the cap. What has the shape
/// of a token is masked on the way in, so that no cut leaves half of one.
#[derive(Debug)]
pub struct HeadTail {
    cap: usize,
    masked: Stream,
    /// Bytes of a character that is not complete.
    pending: Vec<u8>,
    kept: Kept,
    total: usize,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    head: Vec<u8>,
    tail: Vec<u8>,
    total: usize,
}

impl HeadTail {
    /// Keeps about `cap` bytes, half at either end.
    pub fn new(cap: usize) -> Self {
        let masked = Redactor::default().stream();
        Self { cap, masked, pending: Vec::new(), kept: Kept::default(), total: 0 }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len();
        let text = decoded(&mut self.pending, bytes);
        self.kept.push(self.masked.push(&text).as_bytes(), self.cap);
    }

    /// Bytes seen.
    pub fn total(&self) -> usize {
        self.total
    }

    /// What was kept, without terminal escapes, with a line that says how much is missing. A cut is at the end of a line
    /// where there is one, so that no word is left in halves.
    pub fn render(&self) -> String {
        let mut kept = self.kept.clone();
        let mut masked = self.masked.clone();
        let last = masked.push(&String::from_utf8_lossy(&self.pending)) + &masked.finish();
        kept.push(last.as_bytes(), self.cap);
        let half = self.cap / 2;
        let tail = &kept.tail[kept.tail.len().saturating_sub(half)..];
        if kept.total == kept.head.len() + tail.len() {
            let whole: Vec<u8> = [&kept.head[..], tail].concat();
            return plain(&String::from_utf8_lossy(&whole));
        }
        let line = half.min(LINE_MAX_BYTES);
        let after = kept.head.iter().rev().take(line).position(|b| *b == b'\n');
        let head = &kept.head[..kept.head.len() - after.unwrap_or(0)];
        let before = tail.iter().take(line).position(|b| *b == b'\n');
        let tail = &tail[before.map_or(0, |at| at + 1)..];
        let missing = kept.total - head.len() - tail.len();
        let head = plain(&String::from_utf8_lossy(head)).trim_end_matches('\n').to_owned();
        let tail = plain(&String::from_utf8_lossy(tail));
        format!("{head}\n\n[... {missing} bytes of output cut here ...]\n\n{tail}")
    }
}

impl Kept {
    fn push(&mut self, bytes: &[u8], cap: usize) {
        self.total += bytes.len();
        let half = cap / 2;
        let room = half.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        let rest = &bytes[room..];
        self.tail.extend_from_slice(&rest[rest.len().saturating_sub(half)..]);
        if self.tail.len() > 2 * half {
            self.tail.drain(..self.tail.len() - half);
        }
    }
}

/// The text of bytes that come in pieces; what may still become a character waits in `pending`.
pub fn decoded(pending: &mut Vec<u8>, bytes: &[u8]) -> String {
    pending.extend_from_slice(bytes);
    let whole = match std::str::from_utf8(pending) {
        Err(e) if e.error_len().is_none() => e.valid_up_to(),
        // Bytes that are no text may stand before a character that is not complete.
        Err(_) => pending.len() - incomplete(pending),
        Ok(text) => text.len(),
    };
    let rest = pending.split_off(whole);
    let text = String::from_utf8_lossy(pending).into_owned();
    *pending = rest;
    text
}

/// How many bytes at the end may be the beginning of a character.
fn incomplete(bytes: &[u8]) -> usize {
    let most = bytes.len().min(3);
    let starts = (1..=most).find(|n| bytes[bytes.len() - n] >= 0xc0);
    starts
        .filter(|n| std::str::from_utf8(&bytes[bytes.len() - n..]).is_err_and(|e| e.error_len().is_none()))
        .unwrap_or(0)
}

/// At most about `max` bytes of `text`: head and tail with a note between them.
pub fn cut_middle(text: &str, max: usize) -> String {
    let mut kept = HeadTail::new(max);
    kept.push(text.as_bytes());
    kept.render()
}

/// The longest prefix of at most `max` bytes that ends between characters.
pub fn prefix(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Without terminal escape sequences.
pub fn plain(text: &str) -> String {
    domain::text::without_sequences(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_whole_and_long_output_keeps_both_ends() {
        let mut kept = HeadTail::new(10);
        for byte in b"0123456789" {
            kept.push(&[*byte]);
        }
        assert_eq!(kept.render(), "0123456789");
        let mut kept = HeadTail::new(10);
        (0..1000).for_each(|n| kept.push(format!("{n:03}").as_bytes()));
        assert_eq!(kept.render(), "00000\n\n[... 2990 bytes of output cut here ...]\n\n98999");
        assert!(kept.kept.tail.capacity() < 100);
        let mut kept = HeadTail::new(4);
        kept.push(&[b'a'; 100]);
        assert!(kept.render().contains("96 bytes"));
    }

    #[test]
    fn a_cut_is_between_lines_and_splits_no_token() {
        let token = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6");
        let mut kept = HeadTail::new(200);
        for n in 0..100 {
            kept.push(format!("line {n} {}", &token[..20]).as_bytes());
            kept.push(format!("{}\n", &token[20..]).as_bytes());
        }
        let shown = kept.render();
        assert!(
            shown.starts_with("line 0 [redacted]\n") && shown.ends_with("line 99 [redacted]\n"),
            "{shown}"
        );
        assert!(!shown.contains("ghp_") && !shown.contains("3hJ6"), "{shown}");
        let (head, tail) = shown.split_once("\n\n[... ").unwrap();
        assert!(head.ends_with("[redacted]") && tail.contains(" ...]\n\nline "), "{shown}");
    }

    #[test]
    fn characters_that_come_in_pieces_are_put_together() {
        let mut kept = HeadTail::new(100);
        for byte in "añ漢😀".bytes() {
            kept.push(&[byte]);
        }
        assert_eq!(kept.render(), "añ漢😀");
        kept.push(b"\xff\xe6\xbc");
        kept.push(b"\xa2 \xf0\x9f");
        assert_eq!(kept.render(), "añ漢😀\u{fffd}漢 \u{fffd}");
    }

    #[test]
    fn escapes_go_and_text_stays() {
        assert_eq!(plain("\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title\u{7}ok \u{1b}"), "red ok ");
        assert_eq!(prefix("añb", 2), "a");
    }
}
