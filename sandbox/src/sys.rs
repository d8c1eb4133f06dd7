//! The kernel's calls that no crate here wraps, each with what it relies on.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::{c_int, c_long};

/// -1 is an error.
pub(crate) fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

/// As `fork`, into new namespaces. `None` in the child.
///
/// The calling process must have one thread: the child's memory is a copy in which only that thread goes on.
pub(crate) fn fork_into(namespaces: c_int) -> io::Result<Option<i32>> {
    let flags = c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: no stack and no CLONE_VM: a fork. The caller promises to be single-threaded, so no lock is held by a
    // thread that the child does not have.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok(if pid == 0 { None } else { Some(pid as i32) })
}

/// How a folder or file is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// No writing, no set-uid, no devices.
    ReadOnly,
    /// No set-uid, no devices.
    Writable,
    /// A device node, or a file system that holds some.
    Device,
}

/// Shows `from` at `to`, with what is mounted below it.
pub(crate) fn bind(from: &Path, to: &Path, show: Show) -> io::Result<()> {
    bind_tree(from, to, show, libc::AT_RECURSIVE)
}

/// Shows `from` at `to` without what is mounted below it.
pub(crate) fn bind_alone(from: &Path, to: &Path, show: Show) -> io::Result<()> {
    bind_tree(from, to, show, 0)
}

fn bind_tree(from: &Path, to: &Path, show: Show, recursive: c_int) -> io::Result<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    let flags = libc::OPEN_TREE_CLONE as c_int | libc::O_CLOEXEC | recursive;
    // SAFETY: a path that lives until the call returns; the result is a descriptor that nobody else owns.
    let tree = unsafe {
        let fd = check(libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, from.as_ptr(), flags))?;
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    let nosuid = libc::MOUNT_ATTR_NOSUID;
    let set = match show {
        Show::ReadOnly => libc::MOUNT_ATTR_RDONLY | nosuid | libc::MOUNT_ATTR_NODEV,
        Show::Writable => nosuid | libc::MOUNT_ATTR_NODEV,
        Show::Device => nosuid,
    };
    // SAFETY: all zero is the structure's "change nothing".
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = set;
    attributes.propagation = libc::MS_PRIVATE;
    // SAFETY: descriptor, empty path and structure live until the call returns; the size is the structure's.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })?;
    // SAFETY: descriptor and paths live until the call returns.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// Sets a process attribute that takes up to two numbers.
pub(crate) fn prctl(option: c_int, a: u64, b: u64) -> io::Result<c_int> {
    // SAFETY: only options whose arguments are numbers are used with this.
    let got = unsafe { libc::prctl(option, a, b, 0u64, 0u64) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got) }
}

/// Gives up a priority above the ordinary that this process was started with; a lower one stays.
pub(crate) fn ordinary_priority() -> io::Result<()> {
    // SAFETY: numbers only. Its answer may be -1 and no error; what cannot be read is then set.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    if nice < 0 {
        // SAFETY: numbers only.
        check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) }.into())?;
    }
    Ok(())
}

/// Gives up every capability, now and for whatever is executed later.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    // Locked for good: uid 0 means nothing, capabilities are not kept over a change of user, none becomes ambient.
    const SECUREBITS: u64 = 0b1110_1111;
    prctl(libc::PR_SET_SECUREBITS, SECUREBITS, 0)?;
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Ok(_) => (),
            // The kernel knows no more of them.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            Err(e) => return Err(e),
        }
    }
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let none = [[0u32; 3]; 2];
    // SAFETY: version 3 of the interface reads one header and two triples.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) })?;
    Ok(())
}

/// Closes every descriptor but those.
pub(crate) fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| *fd as u32).collect();
    kept.sort_unstable();
    kept.dedup();
    let mut from = 0u32;
    for fd in kept.into_iter().map(Some).chain([None]) {
        let last = fd.map_or(u32::MAX, |fd| fd.wrapping_sub(1));
        if fd != Some(0) && from <= last {
            // SAFETY: this runs in a freshly forked child, before anything in it uses a descriptor other than those
            // kept; owners of the others are never dropped, for the child leaves by `_exit`.
            check(unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) })?;
        }
        from = fd.map_or(u32::MAX, |fd| fd + 1);
    }
    Ok(())
}

/// Makes `fd` be number `at`.
pub(crate) fn duplicate_onto(fd: BorrowedFd<'_>, at: RawFd) -> io::Result<()> {
    // SAFETY: used for 0, 1 and 2 only, which no owner closes.
    check(unsafe { libc::dup2(fd.as_raw_fd(), at) }.into())?;
    Ok(())
}

/// Switches the loopback interface of this network namespace on.
pub(crate) fn loopback_up() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all zero is a valid value of the structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the request reads one `ifreq`, which lives until it returns.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into())?;
    Ok(())
}

/// Overwrites this process's arguments and environment, as `/proc/1` and its memory show them, and names it.
///
/// Only for a single-threaded child that never reads either again.
pub(crate) fn wipe_start(name: &std::ffi::CStr) -> io::Result<()> {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    // Counted from the third field on: where arguments begin and the environment ends.
    let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<usize>().ok());
    let (Some(from), Some(to)) = (field(48), field(51)) else {
        return Err(io::Error::other("/proc/self/stat tells no addresses"));
    };
    // SAFETY: the kernel names the stretch of this process's stack where it put both; one thread, which never reads
    // them again: the list that leads there is emptied first.
    unsafe {
        environ = std::ptr::null_mut();
        if from != 0 && from < to {
            std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(from), 0, to - from);
        }
        check(libc::prctl(libc::PR_SET_NAME, name.as_ptr()).into())?;
    }
    Ok(())
}

/// A descriptor that becomes readable when the process ends.
pub(crate) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: numbers only; the result is a descriptor that nobody else owns.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Ends this process at once: no destructor of the parent's copy runs.
pub(crate) fn exit(code: i32) -> ! {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    // SAFETY: never returns, touches no memory.
    unsafe { libc::_exit(code) }
}

/// The Landlock version that the kernel offers; 0 when none.
pub(crate) fn landlock_version() -> i32 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag no memory is read.
    let got = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, VERSION) };
    got.max(0) as i32
}

/// Whether the kernel offers seccomp filters.
pub(crate) fn seccomp_offered() -> bool {
    // SAFETY: asks for a filter at address 0: EFAULT where filters exist, EINVAL where they do not; sets nothing.
    let got = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, 0, 0, 0) };
    got < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Mounts a copy of the working directory's mount, with all below it, over it; returns the copy's root.
pub(crate) fn copy_here() -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE as c_int | libc::O_CLOEXEC | libc::AT_RECURSIVE;
    // SAFETY: a constant path; the result is a descriptor that nobody else owns.
    let tree = unsafe {
        let fd = check(libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c".".as_ptr(), flags))?;
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    // SAFETY: descriptor and constant paths live until the call returns.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            c".".as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(tree)
}

/// A child that ended: its number, how, and the processor time of it and of what it waited for.
pub(crate) struct Ended {
    pub(crate) pid: i32,
    /// As shells count: 128 + n for signal n.
    pub(crate) code: i32,
    pub(crate) processor: std::time::Duration,
}

/// Takes the next child that has ended, whoever's it was; `None` while there is none.
pub(crate) fn reap_any() -> Option<Ended> {
    let mut status = 0;
    // SAFETY: all of it is plain numbers, for which zeros are values.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both places live until the call is over, which fills them.
        let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
        match pid {
            0 => return None,
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => (),
            -1 => return None,
            pid if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) => {
                let code = match libc::WIFEXITED(status) {
                    true => libc::WEXITSTATUS(status),
                    false => 128 + libc::WTERMSIG(status),
                };
                let of = |time: libc::timeval| {
                    std::time::Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default())
                        + std::time::Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or_default())
                };
                return Some(Ended { pid, code, processor: of(usage.ru_utime) + of(usage.ru_stime) });
            }
            _stopped => (),
        }
    }
}
