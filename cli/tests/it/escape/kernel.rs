//! Privileges, namespaces, mounts, and the parts of the kernel that boxes have no business with.

super::table::attempts! { "kernel";
    hold_capabilities {
        tries: "has any capability, in any set", bare: WorksAsRoot,
        stopped_by: "all capability sets are empty, the bounding set too", says: "EMPTY",
        run: r##"
sets = {l.split(":")[0]: int(l.split()[1], 16) for l in open("/proc/self/status") if l.startswith("Cap")}
escaped(str(sets)) if any(sets.values()) else stopped("EMPTY: no capability in any set")"##,
    }
    run_without_filters {
        tries: "runs without a seccomp filter or with new privileges possible", bare: Works,
        stopped_by: "no_new_privs and a seccomp filter hold for every command", says: "HELD",
        run: r##"
text = dict(l.split(":", 1) for l in open("/proc/self/status"))
held = text["Seccomp"].strip() == "2" and text["NoNewPrivs"].strip() == "1"
stopped("HELD: a filter, and no new privileges") if held else escaped(f"seccomp {text['Seccomp'].strip()}")"##,
    }
    be_root_of_the_host {
        tries: "runs as a user that the host knows as root", bare: WorksAsRoot,
        stopped_by: "a user namespace: the box's user is one that owns nothing on the host", says: "MAPPED",
        run: r##"
outer = [int(l.split()[1]) for l in open("/proc/self/uid_map")]
escaped(f"uid {os.getuid()} is {outer} outside") if os.getuid() == 0 else stopped(f"MAPPED: uid {os.getuid()} is {outer} outside")"##,
    }
    run_a_setuid_program {
        tries: "gains root by a setuid program (su, mount, passwd, sudo)", bare: Either,
        stopped_by: "no_new_privs, and every mount is nosuid", says: "KEPT|NONE",
        run: r##"
import shutil
for name in ("su", "mount", "passwd", "sudo", "chsh", "newgrp", "umount"):
    path = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if not path or not os.stat(path).st_mode & stat.S_ISUID:
        continue
    child = subprocess.Popen([path] if name != "su" else [path, "nobody"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(50):
        try:
            ids = [l for l in open(f"/proc/{child.pid}/status") if l.startswith("Uid")][0].split()[1:]
        except (OSError, IndexError):
            break
        if ids[1] == "0":
            child.kill()
            escaped(f"{path} runs as root")
        time.sleep(0.002)
    child.kill()
    child.wait()
stopped("KEPT: setuid programs run as the same user")"##,
    }
    give_itself_file_capabilities {
        tries: "gives a program capabilities with the security.capability attribute", bare: WorksAsRoot,
        stopped_by: "no capability to set them", says: "EPERM|EOPNOTSUPP|ENOTSUP",
        run: r##"
path = f"/tmp/cap-{os.getpid()}"
open(path, "w").close()
os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 0xffffffff, 0, 0xffffffff, 0))
os.unlink(path)
escaped("set")"##,
    }
    make_a_setuid_file_for_the_host {
        tries: "leaves a setuid-root program where the host could run it", bare: WorksAsRoot,
        stopped_by: "files of the box belong to a user who is not root", says: "KEPT",
        run: r##"
path = f"/tmp/suid-{os.getpid()}"
open(path, "w").close()
os.chmod(path, 0o4755)
try:
    os.chown(path, 0, 0)
    outer = [l.split() for l in open("/proc/self/uid_map")]
    owner = os.stat(path).st_uid
    real = [int(o) + owner - int(i) for i, o, n in outer if int(i) <= owner < int(i) + int(n)]
    os.unlink(path)
    escaped("a setuid file of root") if real == [0] else stopped(f"KEPT: it belongs to {real} outside")
except OSError as error:
    stopped(f"KEPT: {reason(error)}")"##,
    }
    mount_a_tmpfs {
        tries: "mounts a file system with mount(2)", bare: WorksAsRoot,
        stopped_by: "seccomp, and no capability", says: "EPERM",
        run: r##"
path = f"/tmp/mount-{os.getpid()}"
os.mkdir(path)
try:
    call("mount", b"none", path.encode(), b"tmpfs", 0, 0)
    call("umount2", path.encode(), 0)
finally:
    os.rmdir(path)
escaped("mounted")"##,
    }
    bind_mount_the_root {
        tries: "bind-mounts a folder over another", bare: WorksAsRoot,
        stopped_by: "seccomp, and no capability", says: "EPERM",
        run: r##"
path = f"/tmp/bind-{os.getpid()}"
os.mkdir(path)
try:
    call("mount", b"/usr", path.encode(), 0, 4096, 0)
    call("umount2", path.encode(), 0)
finally:
    os.rmdir(path)
escaped("mounted")"##,
    }
    remount_writable {
        tries: "remounts the root, /usr and the lent objects writable", bare: Untried("it would change the host's mounts"),
        stopped_by: "seccomp; the mounts are locked by the outer user namespace", says: "EPERM",
        run: r##"
def again(path):
    return lambda: call("mount", 0, path, 0, 0x20 | 0x1000, 0) == 0 and f"{path} is writable"
any_of("remounting", [again(p) for p in (b"/", b"/usr", b"/box/objects", b"/proc/sys")])"##,
    }
    new_mount_api {
        tries: "mounts with fsopen, fsconfig and fsmount", bare: WorksAsRoot,
        stopped_by: "seccomp", says: "EPERM|ENOSYS",
        run: r##"
call("fsopen", b"tmpfs", 0)
escaped("opened")"##,
    }
    clone_a_mount_tree {
        tries: "copies the mount tree with open_tree and moves it with move_mount", bare: WorksAsRoot,
        stopped_by: "seccomp", says: "EPERM|ENOSYS",
        run: r##"
call("open_tree", -100, b"/", 1)
escaped("cloned")"##,
    }
    change_mount_attributes {
        tries: "clears the read-only attribute of mounts with mount_setattr", bare: WorksAsRoot,
        stopped_by: "seccomp", says: "EPERM|ENOSYS",
        run: r##"
def clear(path):
    return lambda: call("mount_setattr", -100, path, 0, (ctypes.c_ulong * 4)(0, 1, 0, 0), 32) == 0 and f"{path} changed"
any_of("clearing", [clear(p) for p in (b"/tmp", b"/", b"/usr")])"##,
    }
    unmount_what_hides {
        tries: "unmounts what covers /proc and /etc, to see what is beneath", bare: Untried("it would take the host's mounts away"),
        stopped_by: "seccomp; the mounts are locked", says: "EPERM",
        run: r##"
def off(path, flags):
    return lambda: call("umount2", path, flags) == 0 and f"{path} is unmounted"
any_of("unmounting", [off(p, f) for p in (b"/proc", b"/etc", b"/tmp", b"/box/repo", b"/proc/kcore", b"/") for f in (0, 2)])"##,
    }
    pivot_the_root {
        tries: "changes the root with pivot_root", bare: Untried("it would change the host's root"),
        stopped_by: "seccomp", says: "EPERM",
        run: r##"
call("pivot_root", b".", b".")
escaped("pivoted")"##,
    }
    change_root {
        tries: "breaks out with chroot and a folder that stays open", bare: WorksAsRoot,
        stopped_by: "seccomp, and no capability", says: "EPERM",
        run: r##"
def body():
    os.chroot("/tmp")
status = in_child(body)
escaped("chrooted") if status == 0 else stopped(errno.errorcode.get(status, str(status)))"##,
    }
    new_user_namespace {
        tries: "makes a user namespace with unshare, to be root in it", bare: Works,
        stopped_by: "seccomp; the box may have no further user namespaces", says: "EPERM|ENOSPC|EINVAL",
        run: r##"
status = in_child(lambda: call("unshare", 0x10000000))
escaped("root in a namespace") if status == 0 else stopped(errno.errorcode.get(status, str(status)))"##,
    }
    new_user_namespace_by_clone {
        tries: "makes a user namespace with clone", bare: Works,
        stopped_by: "seccomp looks at the flags of clone", says: "EPERM|ENOSPC",
        run: r##"
pid = call("clone", 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
escaped("cloned")"##,
    }
    new_user_namespace_by_clone3 {
        tries: "makes a user namespace with clone3, whose flags no filter can see", bare: Works,
        stopped_by: "clone3 does not exist in the box (ENOSYS): libc falls back to clone", says: "ENOSYS|EPERM",
        run: r##"
args = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, signal.SIGCHLD)
pid = call("clone3", args, 88)
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
escaped("cloned")"##,
    }
    new_namespaces {
        tries: "makes mount, network, PID, IPC, UTS, cgroup and time namespaces", bare: WorksAsRoot,
        stopped_by: "seccomp, and no capability", says: "EPERM",
        run: r##"
flags = {"mount": 0x20000, "network": 0x40000000, "pid": 0x20000000, "ipc": 0x8000000, "uts": 0x4000000, "cgroup": 0x2000000, "time": 0x80}
got = [n for n, f in flags.items() if in_child(lambda: call("unshare", f)) == 0]
escaped(" ".join(got)) if got else stopped("EPERM: none")"##,
    }
    keep_a_key_in_the_keyring {
        tries: "uses the kernel's keyrings, which outlive processes and cross boxes", bare: Works,
        stopped_by: "seccomp", says: "EPERM|ENOSYS",
        run: r##"
def ring():
    return f"keyring {call('keyctl', 0, -4, 1)}"
def add():
    return f"key {call('add_key', b'user', b'bgagent-escape', b'x', 1, -2)}"
def request():
    return f"key {call('request_key', b'user', b'bgagent-none', 0, -4)}"
any_of("keys", [ring, add, request])"##,
    }
    list_keys {
        tries: "lists the keys of its user in /proc/keys", bare: Either,
        stopped_by: "/proc/keys is masked", says: "EACCES|ENOENT|EMPTY|EPERM",
        run: r##"
text = read("/proc/keys")
escaped(f"{len(text.splitlines())} keys") if text.strip() else stopped("EMPTY: masked")"##,
    }
    use_io_uring {
        tries: "makes system calls past the filter with io_uring", bare: Either,
        stopped_by: "seccomp", says: "EPERM|ENOSYS",
        run: r##"
call("io_uring_setup", 4, ctypes.create_string_buffer(120))
escaped("a ring")"##,
    }
    load_bpf {
        tries: "makes BPF maps and programs", bare: WorksAsRoot,
        stopped_by: "seccomp", says: "EPERM|ENOSYS",
        run: r##"
call("bpf", 0, struct.pack("<IIIII", 2, 4, 4, 1, 0) + bytes(100), 120)
escaped("a map")"##,
    }
    use_userfaultfd {
        tries: "stops the kernel in the middle of a copy with userfaultfd", bare: Works,
        stopped_by: "seccomp", says: "EPERM|ENOSYS",
        run: r##"any_of("userfaultfd", [lambda: f"fd {call('userfaultfd', 0)}", lambda: f"fd {call('userfaultfd', 1)}"])"##,
    }
    open_perf_events {
        tries: "measures other processes and the kernel with perf_event_open", bare: Either,
        stopped_by: "seccomp", says: "EPERM|ENOSYS|EACCES",
        run: r##"
attr = struct.pack("<IIQQQQ", 1, 128, 0, 0, 0, 0) + bytes(88)
call("perf_event_open", attr, 0, -1, -1, 0)
escaped("an event")"##,
    }
    load_a_module {
        tries: "loads and removes kernel modules", bare: Either,
        stopped_by: "seccomp, and no capability", says: "EPERM|ENOSYS",
        run: r##"passes(("init_module", 0, 0, b""), ("finit_module", -1, b"", 0), ("delete_module", b"bgagent_none", 0x800))"##,
    }
    load_another_kernel {
        tries: "loads another kernel with kexec", bare: Either,
        stopped_by: "seccomp, and no capability", says: "EPERM|ENOSYS",
        run: r##"passes(("kexec_load", 0, 99, 0, 0))"##,
    }
    reboot_the_machine {
        tries: "reboots the machine", bare: Untried("it would be the host that reboots"),
        stopped_by: "seccomp, and no capability", says: "EPERM",
        run: r##"
libc.reboot.argtypes = [ctypes.c_int]
call("reboot", 0xfee1dead - (1 << 32), 672274793, 0x89abcdef - (1 << 32), 0)
escaped("reboot went through")"##,
    }
    read_kernel_messages {
        tries: "reads the kernel's messages with syslog", bare: WorksAsRoot,
        stopped_by: "seccomp", says: "EPERM|ENOSYS",
        run: r##"
size = call("syslog", 3, ctypes.create_string_buffer(4096), 4096)
escaped(f"{size} bytes")"##,
    }
    open_by_handle {
        tries: "opens files of the host by handle, past every path (as Shocker did)", bare: WorksAsRoot,
        stopped_by: "seccomp, and no capability", says: "EPERM|ENOSYS",
        run: r##"
handle = ctypes.create_string_buffer(struct.pack("<Ii", 128, 0), 136)
mount = ctypes.c_int()
folder = os.open(".", os.O_RDONLY)
try:
    call("name_to_handle_at", -100, b".", handle, ctypes.byref(mount), 0)
except OSError as error:
    handle = ctypes.create_string_buffer(struct.pack("<Ii", 8, 1) + struct.pack("<II", 2, 0), 136)
call("open_by_handle_at", folder, handle, os.O_RDONLY)
escaped("opened")"##,
    }
    set_the_clock {
        tries: "sets the clock", bare: Untried("it would set the host's clock"),
        stopped_by: "seccomp, and no capability", says: "EPERM",
        run: r##"
now = time.time()
call("clock_settime", 0, struct.pack("<qq", int(now), int(now % 1 * 1e9)))
escaped("set")"##,
    }
    reach_io_ports {
        tries: "gets at I/O ports with iopl and ioperm", bare: Either,
        stopped_by: "seccomp, and no capability", says: "EPERM|ENOSYS|NONE",
        run: r##"
if "iopl" not in NUMBERS:
    stopped("NONE: not on this processor")
passes(("ioperm", 0x80, 1, 1), ("iopl", 3))"##,
    }
    switch_swap_accounting_quota {
        tries: "switches swap, process accounting and quotas", bare: Either,
        stopped_by: "seccomp, and no capability", says: "EPERM|ENOSYS",
        run: r##"passes(("swapon", b"/bgagent-none", 0), ("acct", b"/bgagent-none"), ("quotactl", 0x800002 << 8, b"/bgagent-none", 0, 0))"##,
    }
    watch_the_file_system {
        tries: "watches all of a file system with fanotify", bare: WorksAsRoot,
        stopped_by: "no capability", says: "EPERM|ENOSYS",
        run: r##"
call("fanotify_init", 0, 0)
escaped("watching")"##,
    }
    foreign_system_calls {
        tries: "makes 32-bit and x32 system calls, which a filter for 64 bits may not see", bare: Either,
        stopped_by: "the filter refuses every other architecture, and x32's numbers", says: "REFUSED|NONE",
        run: r##"
if platform.machine() != "x86_64":
    stopped("NONE: no such calls on this processor")
source = r'''
#include <sys/syscall.h>
#include <unistd.h>
int main(int n, char **v) {
  long r;
  if (n > 1) { r = syscall(0x40000000 | 272, 0x10000000); return r == 0 ? 42 : 1; }
  __asm__ volatile("int $0x80" : "=a"(r) : "a"(310), "b"(0x10000000));  /* unshare(CLONE_NEWUSER) */
  return r == 0 ? 42 : 1;
}'''
with open("/tmp/foreign.c", "w") as file:
    file.write(source)
built = sh("cc -o /tmp/foreign /tmp/foreign.c")
assert built.returncode == 0, built
done = [subprocess.run(["/tmp/foreign", *a]).returncode for a in ([], ["x32"])]
escaped(f"a namespace by a foreign call {done}") if 42 in done else stopped(f"REFUSED: {done}")"##,
    }
    change_kernel_settings {
        tries: "writes kernel settings: core_pattern, modprobe, panic, net", bare: Either,
        stopped_by: "/proc/sys is read-only", says: "EROFS|EACCES|EPERM|ENOENT",
        run: r##"opens([f"/proc/sys/{n}" for n in ("kernel/core_pattern", "kernel/modprobe", "kernel/panic", "vm/overcommit_memory", "fs/file-max", "kernel/hostname", "net/ipv4/ip_forward", "user/max_user_namespaces")], "r+b")"##,
    }
    press_sysrq {
        tries: "opens /proc/sysrq-trigger for writing", bare: Either,
        stopped_by: "it is masked and belongs to the host's root", says: "EROFS|EACCES|EPERM|ENOENT",
        run: r##"opens(["/proc/sysrq-trigger"], "wb")"##,
    }
    write_sysfs_and_cgroups {
        tries: "writes to /sys: release_agent of cgroups, uevent_helper, debugfs, tracefs", bare: Either,
        stopped_by: "the box has no /sys; a container's is read-only", says: "NONE|EROFS|EACCES|EPERM|ENOENT",
        run: r##"
paths = glob.glob("/sys/fs/cgroup/*/release_agent") + glob.glob("/sys/fs/cgroup/*/cgroup.procs") + glob.glob("/sys/fs/cgroup/cgroup.procs")
paths += ["/sys/kernel/uevent_helper", "/sys/kernel/debug", "/sys/kernel/tracing/trace", "/sys/power/state", "/sys/kernel/mm/ksm/run"]
opens([p for p in paths if os.path.exists(p)], "r+b") if os.path.isdir("/sys/kernel") or os.path.isdir("/sys/fs") else stopped("NONE: there is no /sys")"##,
    }
    run_in_real_time {
        tries: "takes the processor for itself with a real-time scheduling class", bare: Either,
        stopped_by: "seccomp, and no capability", says: "EPERM|ENOSYS|EINVAL",
        run: r##"
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
escaped("real time")"##,
    }
    raise_its_priority {
        tries: "raises its own priority above the host's processes", bare: WorksAsRoot,
        stopped_by: "no capability", says: "EACCES|EPERM",
        run: r##"
os.setpriority(os.PRIO_PROCESS, 0, -5)
escaped("nice -5")"##,
    }
    lower_its_oom_score {
        tries: "makes the kernel kill others before itself when memory is short", bare: Either,
        stopped_by: "no capability: the score of a tool can only rise", says: "EACCES|EPERM|EROFS",
        run: r##"
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("-500")
escaped("-500")"##,
    }
    become_another_user {
        tries: "becomes root, or another user, with setuid and setgroups", bare: WorksAsRoot,
        stopped_by: "the user namespace has one user, and there is no capability to be another", says: "EPERM|EINVAL",
        run: r##"
def as_user(f, *a):
    def body():
        f(*a)
    return in_child(body)
tried = [as_user(os.setuid, 0), as_user(os.setuid, 65534), as_user(os.setgroups, [0]), as_user(os.setresgid, 0, 0, 0)]
escaped(f"{tried}") if 0 in tried else stopped(f"{errno.errorcode.get(tried[0], '?')}: {tried}")"##,
    }
    rename_the_host {
        tries: "sets the host's name", bare: Untried("it would rename the host"),
        stopped_by: "no capability; and a UTS namespace", says: "EPERM",
        run: r##"
socket.sethostname("escaped")
escaped("renamed")"##,
    }
    read_kernel_addresses {
        tries: "reads the kernel's addresses from /proc/kallsyms and /proc/modules, to aim an exploit", bare: Either,
        stopped_by: "without a capability the kernel shows zeros", says: "ZEROS|EACCES|EPERM|ENOENT|EMPTY",
        run: r##"
lines = [l.split()[0] for l in open("/proc/kallsyms").readlines()[:200]]
escaped(lines[0]) if any(int(l, 16) for l in lines) else stopped(f"ZEROS: {len(lines)} addresses")"##,
    }
}
