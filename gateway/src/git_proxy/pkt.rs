//! The head of a push: pkt-lines up to the first flush, each `old new ref`, the first with capabilities behind a NUL.
//! Everything in it comes from a box, so it is read strictly and within bounds.

/// Bytes the head may have: one ref is pushed, so this is generous.
const HEAD_MAX: usize = 64 * 1024;

/// Refs one push may name: one is pushed, and a push of more is answered for each.
const UPDATES_MAX: usize = 500;
/// Characters of a reason beside a ref; more is told before it.
const REASON_MAX: usize = 300;
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
    /// Whether it makes the ref.
    pub fn creates(&self) -> bool {
        self.old.bytes().all(|b| b == b'0')
    }

    /// Whether it removes the ref.
    pub fn deletes(&self) -> bool {
        self.new.bytes().all(|b| b == b'0')
    }
}

/// Reads the head of a push from the bytes that have come so far, and goes on where it stopped when more have.
#[derive(Debug, Default)]
pub struct Reader {
    commands: Commands,
    at: usize,
}

impl Reader {
    /// Reads on. `bytes` is all that has come; gives the commands when the head is whole, `None` when more is needed.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<Commands>, String> {
        let too_long = || "the head of the push is too long".to_owned();
        loop {
            let Some(size) = bytes.get(self.at..self.at + 4) else {
                return if bytes.len() > HEAD_MAX { Err(too_long()) } else { Ok(None) };
            };
            let size = std::str::from_utf8(size).ok().filter(|s| s.bytes().all(|b| b.is_ascii_hexdigit()));
            let size =
                size.and_then(|s| usize::from_str_radix(s, 16).ok()).ok_or("a pkt-line has no length")?;
            match size {
                0 => return Ok(Some(std::mem::take(&mut self.commands))),
                1..=4 => return Err("a pkt-line of an impossible length".into()),
                _ if self.at + size > HEAD_MAX => return Err(too_long()),
                _ => (),
            }
            let Some(line) = bytes.get(self.at + 4..self.at + size) else { return Ok(None) };
            self.at += size;
            let mut parts = line.splitn(2, |b| *b == 0);
            let (line, capabilities) = (parts.next().unwrap_or_default(), parts.next());
            if let Some(capabilities) = capabilities.filter(|_| self.commands.updates.is_empty()) {
                self.commands.told = told(capabilities);
            }
            let line = std::str::from_utf8(line).map_err(|_| "a ref name is not UTF-8")?;
            let line = line.trim_end_matches('\n');
            if line.starts_with("shallow ") {
                continue;
            }
            if self.commands.updates.len() == UPDATES_MAX {
                return Err(format!("a push may name {UPDATES_MAX} refs"));
            }
            self.commands.updates.push(update(line)?);
        }
    }
}

/// Reads the head of a push, all at once and byte by byte, and answers it; for a fuzz target.
pub fn exercise(bytes: &[u8]) {
    let whole = Reader::default().read(bytes);
    let mut reader = Reader::default();
    let stopped = (0..=bytes.len()).map(|n| reader.read(&bytes[..n])).find(|read| !matches!(read, Ok(None)));
    match (&whole, stopped) {
        (Ok(Some(commands)), stopped) => {
            assert_eq!(stopped.as_ref(), Some(&whole), "read bit by bit, it says the same");
            if let Some(answer) = refusal(commands, "no", &["no".to_owned()]) {
                assert!(answer.ends_with(b"0000") && answer.len() < 8 * HEAD_MAX);
            }
        }
        (Ok(None), stopped) => assert!(stopped.is_none(), "read bit by bit, it says the same"),
        (Err(_), stopped) => {
            assert!(stopped.is_none_or(|s| s.is_err()), "read bit by bit, it is refused too")
        }
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

/// The answer to a push that is refused whole: `lines` for people, then each of its refs with `reason`. `None` for a
/// client that asked for no answer.
pub fn refusal(commands: &Commands, reason: &str, lines: &[String]) -> Option<Vec<u8>> {
    let plain = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let reason = domain::event::preview(&plain(reason), REASON_MAX);
    let mut report = line(b"unpack ok\n");
    for update in &commands.updates {
        report.extend(line(format!("ng {} {reason}\n", update.name).as_bytes()));
    }
    report.extend_from_slice(b"0000");
    match commands.told {
        Told::Silent => None,
        Told::Report => Some(report),
        Told::SideBand => {
            let mut answer = Vec::new();
            for text in lines {
                // The older of the two side bands has room for no more in one packet.
                let text: String = plain(text).chars().take(SIDE_BAND_MAX / 4 - 2).collect();
                answer.extend(line(format!("\x02{text}\n").as_bytes()));
            }
            for part in report.chunks(SIDE_BAND_MAX) {
                answer.extend(line(&[b"\x01", part].concat()));
            }
            answer.extend_from_slice(b"0000");
            Some(answer)
        }
    }
}

/// Why git refused a push, from its own report.
pub fn reason(report: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(report);
    let (_, refused) = text.split_once("ng refs/")?;
    let (_, reason) = refused.split_once(' ')?;
    Some(reason.lines().next()?.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect())
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

    fn commands(bytes: &[u8]) -> Result<Option<Commands>, String> {
        Reader::default().read(bytes)
    }

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
            let commands = commands(&head).unwrap().unwrap();
            refusal(&commands, "not\nthis", &["not\nthis".to_owned()]).map(|a| String::from_utf8(a).unwrap())
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

    #[test]
    fn git_s_own_reason_is_found() {
        let report = b"0036\x01000eunpack ok\n0023ng refs/heads/x non-fast-forward\n0000";
        assert_eq!(reason(report).as_deref(), Some("non-fast-forward"));
        assert_eq!(reason(b"0030\x01000eunpack ok\n0019ok refs/heads/x\n0000"), None);
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_refs() {
        let many: Vec<String> = (0..=UPDATES_MAX).map(|n| format!("{ZERO} {A} refs/{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(commands(&head(&many)).unwrap_err().contains("500 refs"));
        let shallow = format!("shallow {A}");
        assert!(commands(&head(&vec![shallow.as_str(); 2_000])).unwrap_err().contains("too long"));
        // A length that never comes is waited for within bounds.
        assert_eq!(commands(b"fff0").unwrap(), None);
        let answer = refusal(
            &commands(&head(&many[..UPDATES_MAX])).unwrap().unwrap(),
            &"long ".repeat(10_000),
            &["line ".repeat(10_000)],
        );
        assert_eq!(answer, None, "no answer was asked for");
    }

    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let oid = prop_oneof![Just(A.to_owned()), Just(ZERO.to_owned()), "[0-9a-f]{39,41}"];
        let name = prop_oneof!["refs/heads/[a-z/ ]{0,12}", ".{0,8}"];
        let caps = prop_oneof![Just(""), Just("\0report-status"), Just("\0 report-status-v2 side-band-64k")];
        let update = (oid.clone(), oid, name, caps).prop_map(|(a, b, n, c)| format!("{a} {b} {n}{c}"));
        let text = prop_oneof![4 => update, 1 => "shallow [0-9a-f]{40}", 1 => ".{0,20}"];
        let size = prop_oneof![6 => Just(None), 1 => "[0-9a-f]{4}".prop_map(Some)];
        let one = (text, size).prop_map(|(text, size)| match size {
            None => line(text.as_bytes()),
            Some(size) => [size.as_bytes(), text.as_bytes()].concat(),
        });
        (proptest::collection::vec(one, 0..5), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(lines, rest)| [lines.concat(), b"0000".to_vec(), rest].concat())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            exercise(&bytes);
        }

        #[test]
        fn heads_of_every_kind_are_read_the_same_however_they_come(bytes in lines(), cut in 0_usize..400) {
            exercise(&bytes);
            exercise(&bytes[..cut.min(bytes.len())]);
        }
    }
}
