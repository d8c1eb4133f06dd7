//! The head of a push: pkt-lines up to the first flush, each `old new ref`, the first with capabilities behind a NUL.
//! Everything in it comes from a box, so it is read strictly and within bounds.

/// Bytes the head may have: one ref is pushed, so this is generous.
const HEAD_MAX: usize = 64 * 1024;

/// Bytes of a report in one packet of a side band; the older of the two has room for no more.
const SIDE_BAND_MAX: usize = 990;
/// Bytes in one pkt-line.
const LINE_MAX: usize = 65_516;

/// What a push asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    /// One for each ref.
    pub updates: Vec<Update>,
    /// How the client wants to be told what became of them.
    pub told: Told,
}

/// How a client wants to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Told {
    /// Not at all.
    #[default]
    Silent,
    /// `report-status`, alone.
    Report,
    /// `report-status` in a side band, beside words for people.
    SideBand,
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
        let mut parts = line.splitn(2, |b| *b == 0);
        let (line, capabilities) = (parts.next().unwrap_or_default(), parts.next());
        if let Some(capabilities) = capabilities.filter(|_| commands.updates.is_empty()) {
            commands.told = told(capabilities);
        }
        let line = std::str::from_utf8(line).map_err(|_| "a ref name is not UTF-8")?.trim_end_matches('\n');
        if line.starts_with("shallow ") {
            continue;
        }
        commands.updates.push(update(line)?);
    }
}

fn told(capabilities: &[u8]) -> Told {
    let text = String::from_utf8_lossy(capabilities);
    let has = |names: [&str; 2]| text.split_ascii_whitespace().any(|c| names.contains(&c));
    match (has(["report-status", "report-status-v2"]), has(["side-band-64k", "side-band"])) {
        (false, _) => Told::Silent,
        (true, false) => Told::Report,
        (true, true) => Told::SideBand,
    }
}

/// The answer to a push that is refused whole: each of its refs, with the reason. `None` for a client that asked for no
/// answer.
pub fn refusal(commands: &Commands, why: &str) -> Option<Vec<u8>> {
    let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut report = line(b"unpack ok\n");
    for update in &commands.updates {
        report.extend(line(format!("ng {} {why}\n", update.name).as_bytes()));
    }
    report.extend_from_slice(b"0000");
    match commands.told {
        Told::Silent => None,
        Told::Report => Some(report),
        Told::SideBand => {
            let mut answer = line(format!("\x02{why}\n").as_bytes());
            for part in report.chunks(SIDE_BAND_MAX) {
                answer.extend(line(&[b"\x01", part].concat()));
            }
            answer.extend_from_slice(b"0000");
            Some(answer)
        }
    }
}

/// A pkt-line; what is longer than one can be is cut.
fn line(content: &[u8]) -> Vec<u8> {
    let content = &content[..content.len().min(LINE_MAX)];
    [format!("{:04x}", content.len() + 4).as_bytes(), content].concat()
}

fn update(line: &str) -> Result<Update, String> {
    let oid = |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let plain =
        |name: &str| name.starts_with("refs/") && !name.contains(|c: char| c.is_control() || c == ' ');
    let mut parts = line.splitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(old), Some(new), Some(name)) if oid(old) && oid(new) && plain(name) => {
            Ok(Update { old: old.into(), new: new.into(), name: name.into() })
        }
        _ => Err("a push line that is not `old new ref`".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(lines: &[&str]) -> Vec<u8> {
        let mut all: Vec<u8> = lines.iter().flat_map(|l| line(l.as_bytes())).collect();
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
    fn a_refusal_speaks_as_the_client_asked() {
        let refused = |capabilities: &str| {
            let head = head(&[&format!("{ZERO} {A} refs/heads/x\0 {capabilities} agent=git/2")]);
            refusal(&commands(&head).unwrap().unwrap(), "not\nthis").map(|a| String::from_utf8(a).unwrap())
        };
        assert_eq!(refused(""), None);
        let report = "000eunpack ok\n001dng refs/heads/x not this\n0000";
        assert_eq!(refused("report-status").as_deref(), Some(report));
        let banded = format!("000e\u{2}not this\n{:04x}\u{1}{report}0000", report.len() + 5);
        assert_eq!(refused("report-status-v2 side-band-64k").as_deref(), Some(banded.as_str()));
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
