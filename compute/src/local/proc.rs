//! What Linux says of the processes of this machine (`/proc`). Reads only.
//!
//! A process is named by its id AND its start time: ids are reused, the pair is not. A zombie has ended: it holds no
//! compute, and inside a container whose first process reaps nothing it would otherwise live for ever.

use std::fs::File;
use std::io::{self, ErrorKind, Read};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable that every process of a session carries: `<task>-<attempt>`. Not a secret.
pub const SESSION_MARK: &str = "BGAGENT_SESSION";

/// More environment than this is not looked through.
const ENVIRON_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// One process, as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) ppid: i32,
    pub(super) sid: i32,
    pub(super) start_ticks: u64,
    pub(super) life: Life,
    pub(super) mark: Mark,
}

/// Whether a process still does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    /// Alive and stopped by a signal.
    Frozen,
    /// Ended; a zombie until somebody reaps it.
    Ended,
}

/// Which session a process says it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// Not readable (another user's), or the process is just being made or ended.
    Unknown,
    /// It has an environment without a mark.
    Absent,
    /// It carries the mark of this session.
    Session(String),
}

/// How a signal was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    Sent,
    /// The process is gone, or its id belongs to another one by now.
    Gone,
    /// It belongs to another user.
    Refused,
}

/// Every process of this machine that we may see.
pub(super) fn snapshot() -> io::Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(process) = read(pid)? {
            all.push(process);
        }
    }
    Ok(all)
}

/// The process with this id; `None` when there is none.
pub(super) fn read(pid: i32) -> io::Result<Option<Process>> {
    let Some(stat) = slurp(&format!("/proc/{pid}/stat"))? else { return Ok(None) };
    let Some(mut process) = parse_stat(&stat) else {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("/proc/{pid}/stat is not understood")));
    };
    if process.life != Life::Ended {
        process.mark =
            slurp(&format!("/proc/{pid}/environ"))?.map_or(Mark::Unknown, |text| parse_mark(&text));
    }
    Ok(Some(process))
}

/// Signals `process` if its id still belongs to it.
pub(super) fn signal(process: &Process, signal: Signal) -> io::Result<Delivery> {
    let Some(stat) = slurp(&format!("/proc/{}/stat", process.pid))? else { return Ok(Delivery::Gone) };
    if parse_stat(&stat).is_none_or(|now| now.start_ticks != process.start_ticks) {
        return Ok(Delivery::Gone);
    }
    match kill(Pid::from_raw(process.pid), signal) {
        Ok(()) => Ok(Delivery::Sent),
        Err(Errno::ESRCH) => Ok(Delivery::Gone),
        Err(Errno::EPERM) => Ok(Delivery::Refused),
        Err(other) => Err(other.into()),
    }
}

/// A file of `/proc`; `None` when the process is gone or not ours to read. Other errors (no file descriptors left,
/// say) are errors: taking them for "gone" would declare a running session dead.
fn slurp(path: &str) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(ENVIRON_MAX_BYTES).read_to_end(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(None),
        Err(e) if e.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Fields of `/proc/<pid>/stat`. The second is the program's name in parentheses, which may itself hold spaces,
/// parentheses and newlines: what follows the LAST closing parenthesis is regular.
fn parse_stat(stat: &[u8]) -> Option<Process> {
    let open = stat.iter().position(|b| *b == b'(')?;
    let close = stat.iter().rposition(|b| *b == b')')?;
    let pid = std::str::from_utf8(&stat[..open]).ok()?.trim().parse().ok()?;
    let rest: Vec<&str> = std::str::from_utf8(&stat[close + 1..]).ok()?.split_ascii_whitespace().collect();
    let life = match *rest.first()? {
        "Z" | "X" | "x" => Life::Ended,
        "T" | "t" => Life::Frozen,
        _other => Life::Alive,
    };
    Some(Process {
        pid,
        ppid: rest.get(1)?.parse().ok()?,
        sid: rest.get(3)?.parse().ok()?,
        start_ticks: rest.get(19)?.parse().ok()?,
        life,
        mark: Mark::Unknown,
    })
}

fn parse_mark(environ: &[u8]) -> Mark {
    if environ.is_empty() {
        return Mark::Unknown;
    }
    environ
        .split(|b| *b == 0)
        .filter_map(|entry| entry.strip_prefix(SESSION_MARK.as_bytes())?.strip_prefix(b"="))
        .next()
        .map_or(Mark::Absent, |name| Mark::Session(String::from_utf8_lossy(name).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_program_name_does_not_shift_the_fields() {
        let stat = b"42 (a) Z 1 (\n) S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2\n";
        let process = parse_stat(stat).unwrap();
        assert_eq!((process.pid, process.ppid, process.sid), (42, 7, 9));
        assert_eq!((process.start_ticks, process.life), (987_654, Life::Alive));
    }

    #[test]
    fn a_zombie_has_ended() {
        let stat = b"42 (x) Z 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2\n";
        assert_eq!(parse_stat(stat).unwrap().life, Life::Ended);
        assert!(parse_stat(b"42 (x) Z 7").is_none());
    }

    #[test]
    fn a_mark_is_a_whole_variable() {
        assert_eq!(parse_mark(b""), Mark::Unknown);
        assert_eq!(parse_mark(b"A=1\0XBGAGENT_SESSION=no\0BGAGENT_SESSIONS=no\0"), Mark::Absent);
        assert_eq!(parse_mark(b"A=1\0BGAGENT_SESSION=t-1\0B=2\0"), Mark::Session("t-1".into()));
    }

    #[test]
    fn we_see_ourselves() {
        let me = i32::try_from(std::process::id()).unwrap();
        let here = read(me).unwrap().unwrap();
        assert_eq!((here.pid, here.life), (me, Life::Alive));
        assert!(snapshot().unwrap().iter().any(|p| p.pid == me && p.start_ticks == here.start_ticks));
    }
}
