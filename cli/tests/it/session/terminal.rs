//! A terminal that a command runs in, and what stands on it in the end.

use std::io::Read as _;
use std::process::Stdio;

use nix::pty::{Winsize, openpty};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// A command in a terminal of its own.
pub struct Terminal {
    child: Child,
    output: JoinHandle<Vec<u8>>,
}

impl Terminal {
    /// Starts it.
    pub fn run(mut command: Command, columns: u16) -> Terminal {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        // The terminal hangs up when the last who writes to it is gone.
        drop((command, pair.slave));
        let mut master = std::fs::File::from(pair.master);
        let output = tokio::task::spawn_blocking(move || {
            let (mut all, mut some) = (Vec::new(), [0; 4096]);
            // An error is the hang-up.
            while let Ok(n @ 1..) = master.read(&mut some) {
                all.extend_from_slice(&some[..n]);
            }
            all
        });
        Terminal { child, output }
    }

    /// All that it printed, and its exit code.
    pub async fn end(mut self) -> (Vec<u8>, i32) {
        let status = self.child.wait().await.unwrap();
        (self.output.await.unwrap(), status.code().unwrap_or(-1))
    }
}

/// What is to be read in the end: what was written over is gone, colours are left out.
pub fn seen(raw: &[u8]) -> String {
    let text = String::from_utf8(raw.to_vec()).unwrap();
    let text = console::strip_ansi_codes(&text).replace("\r\n", "\n");
    let lines = text.split('\n').map(|line| {
        let mut shown: Vec<char> = Vec::new();
        for part in line.split('\r') {
            let part: Vec<char> = part.chars().collect();
            let rest = shown.split_off(part.len().min(shown.len()));
            shown = [part, rest].concat();
        }
        shown.into_iter().collect::<String>().trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

#[test]
fn what_was_written_over_is_gone() {
    assert_eq!(seen(b"Waiting\r       \rDone\r\n\x1b[1mbold\x1b[0m \r\n"), "Done\nbold");
    assert_eq!(seen(b"abc\rx\r\n"), "xbc");
}
