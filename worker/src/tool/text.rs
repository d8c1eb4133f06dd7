//! Keeping text within bounds: the head and the tail of output, long lines, terminal escapes.

/// Keeps the first and the last bytes of a stream, and counts the rest. Memory is bounded by the cap.
#[derive(Debug)]
pub struct HeadTail {
    cap: usize,
    head: Vec<u8>,
    tail: Vec<u8>,
    total: usize,
}

impl HeadTail {
    /// Keeps about `cap` bytes, half at either end.
    pub fn new(cap: usize) -> Self {
        Self { cap, head: Vec::new(), tail: Vec::new(), total: 0 }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len();
        let half = self.cap / 2;
        let room = half.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        let rest = &bytes[room..];
        self.tail.extend_from_slice(&rest[rest.len().saturating_sub(half)..]);
        if self.tail.len() > 2 * half {
            self.tail.drain(..self.tail.len() - half);
        }
    }

    /// Bytes seen.
    pub fn total(&self) -> usize {
        self.total
    }

    /// What was kept, without terminal escapes, with a line that says how much is missing.
    pub fn render(&self) -> String {
        let half = self.cap / 2;
        let tail = &self.tail[self.tail.len().saturating_sub(half)..];
        let missing = self.total - self.head.len() - tail.len();
        if missing == 0 {
            let whole: Vec<u8> = [&self.head[..], tail].concat();
            return plain(&String::from_utf8_lossy(&whole));
        }
        let head = plain(&String::from_utf8_lossy(&self.head));
        let tail = plain(&String::from_utf8_lossy(tail));
        format!("{head}\n\n[... {missing} bytes of output cut here ...]\n\n{tail}")
    }
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
    if !text.contains('\u{1b}') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
            Some(']') => {
                while let Some(c) = chars.next() {
                    if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                        break;
                    }
                }
            }
            Some(_) | None => (),
        }
    }
    out
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
        assert!(kept.tail.capacity() < 100);
        let mut kept = HeadTail::new(4);
        kept.push(&[b'a'; 100]);
        assert!(kept.render().contains("96 bytes"));
    }

    #[test]
    fn escapes_go_and_text_stays() {
        assert_eq!(plain("\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title\u{7}ok \u{1b}"), "red ok ");
        assert_eq!(prefix("añb", 2), "a");
    }
}
