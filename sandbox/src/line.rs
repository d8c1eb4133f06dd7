//! Messages with descriptors over a UNIX stream: four bytes of length, then JSON; descriptors ride on the first byte.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes of one message: the kernel's bound on arguments and environment, with room for JSON's escapes.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// Descriptors that may wait for their message.
const DESCRIPTORS_MAX: usize = 64;

/// Text that may hold any byte.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Text {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl From<&OsStr> for Text {
    fn from(text: &OsStr) -> Text {
        match text.to_str() {
            Some(utf8) => Text::Utf8(utf8.to_owned()),
            None => Text::Bytes(text.as_bytes().to_vec()),
        }
    }
}

impl From<Text> for OsString {
    fn from(text: Text) -> OsString {
        match text {
            Text::Utf8(text) => text.into(),
            Text::Bytes(bytes) => OsString::from_vec(bytes),
        }
    }
}

/// What the worker asks of the tools' first process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// With two descriptors (output, errors), and a third before them when it has input.
    Spawn {
        id: u64,
        program: Text,
        args: Vec<Text>,
        env: Vec<(Text, Text)>,
        dir: Text,
        stdin: bool,
    },
    Signal {
        group: i32,
        signal: i32,
    },
    Alive {
        id: u64,
        group: i32,
    },
    KillAll,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// First of all, with the listener's descriptor; and when it is `watched` from there, one on which limits are told.
    Hello {
        environment: Vec<(Text, Text)>,
        watched: bool,
    },
    Started {
        id: u64,
        group: i32,
    },
    Failed {
        id: u64,
        errno: i32,
    },
    Ended {
        id: u64,
        code: i32,
        /// The seconds of processor time that it was ended at.
        #[serde(default)]
        processor_s: Option<u64>,
    },
    Alive {
        id: u64,
        alive: bool,
    },
}

/// Sends one message; blocks while the other end does not read.
pub(crate) fn send(line: BorrowedFd<'_>, message: &impl Serialize, fds: &[RawFd]) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > MESSAGE_MAX {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    let rights = [ControlMessage::ScmRights(fds)];
    let mut rights: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match sendmsg::<()>(line.as_raw_fd(), &[IoSlice::new(rest)], rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) => {
                rest = &rest[sent..];
                rights = &[];
            }
            Err(nix::Error::EINTR) => (),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The receiving end: keeps what came in pieces.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Reads what is there, waiting for it; `false` at the end of the stream.
    pub(crate) fn fill(&mut self, line: BorrowedFd<'_>) -> io::Result<bool> {
        let mut chunk = [0u8; 64 * 1024];
        let mut space = nix::cmsg_space!([RawFd; 16]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let (length, fds) = loop {
            let mut into = [IoSliceMut::new(&mut chunk)];
            match recvmsg::<()>(line.as_raw_fd(), &mut into, Some(&mut space), flags) {
                Ok(got) => {
                    let mut fds = Vec::new();
                    for message in got.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(raw) = message {
                            // SAFETY: the kernel has just made them for this process, and nobody else knows them.
                            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                        }
                    }
                    break (got.bytes, fds);
                }
                Err(nix::Error::EINTR) => (),
                Err(e) => return Err(e.into()),
            }
        };
        self.fds.extend(fds);
        if self.fds.len() > DESCRIPTORS_MAX {
            return Err(io::Error::other("more descriptors than messages"));
        }
        self.bytes.extend_from_slice(&chunk[..length]);
        Ok(length > 0)
    }

    /// The next whole message.
    pub(crate) fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(length) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MESSAGE_MAX {
            return Err(io::Error::other("a message longer than any is"));
        }
        let Some(body) = self.bytes.get(4..4 + length) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + length);
        Ok(Some(message))
    }

    /// The next descriptor that came.
    pub(crate) fn descriptor(&mut self) -> io::Result<OwnedFd> {
        self.fds.pop_front().ok_or_else(|| io::Error::other("a message came without its descriptor"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn messages_in_pieces_keep_their_descriptors() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(a.as_fd(), &Request::Signal { group: 7, signal: 9 }, &[writer.as_raw_fd()]).unwrap();
        send(a.as_fd(), &Request::KillAll, &[]).unwrap();
        drop(writer);
        let mut inbox = Inbox::default();
        while inbox.fds.is_empty() {
            assert!(inbox.fill(b.as_fd()).unwrap());
        }
        assert!(matches!(inbox.take().unwrap(), Some(Request::Signal { group: 7, signal: 9 })));
        let mut writer = std::fs::File::from(inbox.descriptor().unwrap());
        writer.write_all(b"x").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        drop(a);
        while inbox.fill(b.as_fd()).unwrap() {}
        assert!(matches!(inbox.take().unwrap(), Some(Request::KillAll)));
        assert!(inbox.take::<Request>().unwrap().is_none());
        assert!(inbox.descriptor().is_err());
        assert_eq!(b.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn any_byte_passes() {
        let odd = OsStr::from_bytes(b"a\xff\x00b");
        let text = serde_json::to_string(&Text::from(odd)).unwrap();
        assert_eq!(OsString::from(serde_json::from_str::<Text>(&text).unwrap()), odd);
    }
}
