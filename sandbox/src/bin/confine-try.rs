//! Confines itself, then tries what it should not be able to do, and says how each went: what tests start.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::sys::signal::kill;
use nix::unistd::getppid;
use sandbox::confine::{Bounds, confine};

/// The other call that signals a process.
fn signal_thread(pid: i32) -> bool {
    // SAFETY: numbers only; signal 0 asks whether one could be sent.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, 0) == 0 }
}

/// Memory that can be executed.
fn executable() -> bool {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping, which nobody uses.
    unsafe { libc::mmap(std::ptr::null_mut(), 4_096, prot, flags, -1, 0) != libc::MAP_FAILED }
}

const MIB: usize = 1024 * 1024;

fn main() -> ExitCode {
    // Found before: a confined process may not ask for it.
    let parent = getppid();
    let bounds = Bounds { memory_bytes: 256 * MIB as u64, cpu_seconds: 5 };
    if let Err(error) = confine(&bounds) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let mut big: Vec<u8> = Vec::new();
    let mut small: Vec<u8> = Vec::new();
    let tried = [
        ("read a file", File::open("/etc/passwd").is_ok()),
        ("list a folder", std::fs::read_dir("/").is_ok()),
        ("write a file", File::create("/tmp/confine-try").is_ok()),
        ("remove a file", std::fs::remove_file("/tmp/confine-try").is_ok()),
        ("listen", TcpListener::bind("127.0.0.1:0").is_ok()),
        ("send", UdpSocket::bind("127.0.0.1:0").is_ok()),
        ("talk to a neighbour", UnixStream::pair().is_ok()),
        ("start a program", std::process::Command::new("/bin/true").status().is_ok()),
        ("start a thread", std::thread::Builder::new().spawn(|| ()).is_ok()),
        ("signal its parent", kill(parent, None).is_ok() || signal_thread(parent.as_raw())),
        ("make code", executable()),
        ("take more memory", big.try_reserve_exact(300 * MIB).is_ok()),
        ("take some memory", small.try_reserve_exact(64 * MIB).is_ok()),
    ];
    let mut out = std::io::stdout().lock();
    for (what, done) in tried {
        let _ = writeln!(out, "{what}: {}", if done { "done" } else { "refused" });
    }
    ExitCode::SUCCESS
}
