//! What the kernel refuses in the box.

use crate::fixture::{Try, everybody};

/// Calls by number where the architecture's table is known here.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_that_are_refused() {
    const SCRIPT: &str = r#"
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *args):
    ctypes.set_errno(0)
    r = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    print(name, 'done' if r >= 0 else errno.errorcode[ctypes.get_errno()])
call('mount', 165, b'x', b'/tmp', b'tmpfs', 0, 0)
call('umount2', 166, b'/proc', 2)
call('pivot_root', 155, b'/tmp', b'/tmp')
call('chroot', 161, b'/tmp')
call('setns', 308, 0, 0)
call('open_tree', 428, -100, b'/', 1)
call('fsopen', 430, b'tmpfs', 0)
call('mount_setattr', 442, -100, b'/', 0, 0, 0)
call('move_mount', 429, 0, b'', 0, b'', 0)
for flag, name in [(0x10000000, 'user'), (0x20000, 'mount'), (0x20000000, 'pid'), (0x40000000, 'net'), (0x80, 'time')]:
    call('unshare ' + name, 272, flag)
call('clone user', 56, 0x10000000 | 17, 0, 0, 0, 0)
call('clone3', 435, 0, 0)
call('keyctl', 250, 0, -3, 0)
call('add_key', 248, b'user', b'x', b'y', 1, -3)
call('bpf', 321, 0, 0, 0)
call('userfaultfd', 323, 1)
call('perf_event_open', 298, 0, 0, -1, -1, 0)
call('io_uring_setup', 425, 1, 0)
call('open_by_handle_at', 304, 0, 0, 0)
call('fanotify_init', 300, 0, 0)
call('init_module', 175, 0, 0, b'')
call('kexec_load', 246, 0, 0, 0, 0)
call('reboot', 169, 0xfee1dead, 672274793, 0, 0)
call('syslog', 103, 3, 0, 0)
call('settimeofday', 164, 0, 0)
call('iopl', 172, 3)
call('quotactl', 179, 0, 0, 0, 0)
call('swapon', 167, b'/x', 0)
call('x32 getpid', 0x40000000 | 39)
call('unknown', 1000)
for family, name in [(17, 'packet'), (40, 'vsock'), (38, 'alg'), (31, 'bluetooth')]:
    call('socket ' + name, 41, family, 3, 0)
call('socket raw', 41, 2, 3, 1)
call('netlink audit', 41, 16, 3, 9)
call('netlink route', 41, 16, 3, 0)
call('TIOCSTI', 16, 0, 0x5412, b'x')
call('personality', 135, 0x0400000)
call('setuid', 105, 0)
call('ptrace init', 101, 16, 1, 0, 0)
call('prlimit init', 302, 1, 0, 0, 0)
call('own prlimit', 302, 0, 0, 0, 0)
call('affinity init', 203, 1, 8, b'\x01\0\0\0\0\0\0\0')
"#;
    let eperm = "mount umount2 pivot_root chroot setns open_tree fsopen mount_setattr move_mount unshare_user \
                 unshare_mount unshare_pid unshare_net unshare_time clone_user keyctl add_key bpf userfaultfd \
                 perf_event_open io_uring_setup open_by_handle_at fanotify_init init_module kexec_load reboot syslog \
                 settimeofday iopl quotactl swapon socket_packet socket_vsock socket_alg socket_bluetooth socket_raw \
                 netlink_audit TIOCSTI personality ptrace_init prlimit_init affinity_init";
    for who in everybody() {
        let this = Try::new(who);
        let seen = this.run(&["command", "python3", "-c", SCRIPT]);
        assert_eq!(seen.code, Some(0), "{}{}", seen.out, seen.err);
        for line in seen.out.lines() {
            let (name, answer) = line.rsplit_once(' ').unwrap();
            let want = match name {
                "clone3" | "x32 getpid" | "unknown" => "ENOSYS",
                "netlink route" | "own prlimit" => "done",
                "setuid" => "EINVAL",
                name if eperm.split_whitespace().any(|n| n == name.replace(' ', "_")) => "EPERM",
                name => panic!("not expected at all: {name}"),
            };
            assert_eq!(answer, want, "{name} as {who:?}");
        }
        assert_eq!(seen.out.lines().count(), eperm.split_whitespace().count() + 6);
    }
}

/// Without the filter of calls, the namespace itself has none to give.
#[test]
fn no_user_namespace_below() {
    for who in everybody() {
        let seen =
            Try::new(who).sh("cat /proc/sys/user/max_user_namespaces; unshare -U true 2>&1 || echo refused");
        assert!(seen.starts_with("0\n") && seen.ends_with("refused\n"), "{seen}");
    }
}

#[test]
fn debuggers_work_among_the_tools() {
    let seen = Try::new(everybody()[0])
        .sh("sleep 1000 & python3 -c 'import ctypes,os,sys; c=ctypes.CDLL(None); p=int(sys.argv[1]); \
         print(c.ptrace(16,p,0,0)); os.waitpid(p,0x40000000); print(c.ptrace(17,p,0,0))' $!; kill $!");
    assert_eq!(seen, "0\n0\n");
}

#[test]
fn there_is_no_network_but_loopback() {
    for who in everybody() {
        let seen = Try::new(who).sh("ls /sys 2>/dev/null; grep -c : /proc/net/dev; python3 -c '
import socket
for where in [(\"1.1.1.1\", 53), (\"169.254.169.254\", 80), (\"10.0.0.1\", 80)]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(socket.AF_INET, kind)
        s.settimeout(2)
        try: s.connect(where); print(\"connected\")
        except OSError as e: print(e.errno)
try: socket.getaddrinfo(\"example.com\", 80); print(\"resolved\")
except socket.gaierror: print(\"no name\")
'");
        assert_eq!(seen, "1\n101\n101\n101\n101\n101\n101\nno name\n", "{who:?}");
    }
}
