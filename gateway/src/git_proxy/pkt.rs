//! The head of a push: pkt-lines up to the first flush, each `old new ref`, the first with capabilities behind a NUL.
//! Everything in it comes from a box, so it is read strictly and within bounds.

/// Bytes the head may have: one ref is pushed, so this is generous.
const HEAD_MAX: usize = 64 * 1024;

/// What a push asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    /// One for each ref.
    pub updates: Vec<Update>,
}

/// One ref to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The commit it is expected at; zeros for none.
    pub old: String,
    /// The commit it goes to; zeros for none.
    pub new: String,
    /// The full name of the ref.
    pub name: String,
}

impl Update {
    /// Whether it removes the ref.
    pub fn deletes(&self) -> bool {
        self.new.bytes().all(|b| b == b'0')
    }
}

/// Reads the head of a push from the bytes that have come so far; `None` when more are needed.
pub fn commands(bytes: &[u8]) -> Result<Option<Commands>, String> {
    let mut commands = Commands::default();
    let mut at = 0;
    loop {
        let Some(size) = bytes.get(at..at + 4) else {
            return if bytes.len() > HEAD_MAX {
                Err("the head of the push is too long".into())
            } else {
                Ok(None)
            };
        };
        let size = std::str::from_utf8(size).ok().filter(|s| s.bytes().all(|b| b.is_ascii_hexdigit()));
        let size = size.and_then(|s| usize::from_str_radix(s, 16).ok()).ok_or("a pkt-line has no length")?;
        match size {
            0 => return Ok(Some(commands)),
            1..=4 => return Err("a pkt-line of an impossible length".into()),
            _ if at + size > HEAD_MAX => return Err("the head of the push is too long".into()),
            _ => (),
        }
        let Some(line) = bytes.get(at + 4..at + size) else { return Ok(None) };
        at += size;
        let line = line.split(|b| *b == 0).next().unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| "a ref name is not UTF-8")?.trim_end_matches('\n');
        if line.starts_with("shallow ") {
            continue;
        }
        commands.updates.push(update(line)?);
    }
}

fn update(line: &str) -> Result<Update, String> {
    let oid = |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let mut parts = line.splitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(old), Some(new), Some(name)) if oid(old) && oid(new) && name.starts_with("refs/") => {
            Ok(Update { old: old.into(), new: new.into(), name: name.into() })
        }
        _ => Err("a push line that is not `old new ref`".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Vec<u8> {
        format!("{:04x}{text}", text.len() + 4).into_bytes()
    }

    fn head(lines: &[&str]) -> Vec<u8> {
        let mut all: Vec<u8> = lines.iter().flat_map(|l| line(l)).collect();
        all.extend_from_slice(b"0000PACK....");
        all
    }

    const A: &str = "1111111111111111111111111111111111111111";
    const ZERO: &str = "0000000000000000000000000000000000000000";

    #[test]
    fn refs_are_read_up_to_the_flush() {
        let text = format!("{ZERO} {A} refs/heads/x\0 report-status agent=git/2");
        let second = format!("{A} {ZERO} refs/heads/y\n");
        let got = commands(&head(&[&text, &second])).unwrap().unwrap();
        assert_eq!(got.updates.len(), 2);
        assert_eq!(got.updates[0].name, "refs/heads/x");
        assert!(!got.updates[0].deletes());
        assert!(got.updates[1].deletes());
    }

    #[test]
    fn a_probe_has_no_commands_and_half_a_head_waits() {
        assert_eq!(commands(b"0000").unwrap(), Some(Commands::default()));
        let whole = head(&[&format!("{ZERO} {A} refs/heads/x\0")]);
        for cut in 0..whole.len() - 12 {
            assert_eq!(commands(&whole[..cut]).unwrap(), None, "cut at {cut}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [&b"zzzz"[..], b"0001", b"0009hello", b"ffff"] {
            let mut bytes = bad.to_vec();
            bytes.resize(70_000, b'x');
            assert!(commands(&bytes).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = commands(&bytes);
        }
    }
}
