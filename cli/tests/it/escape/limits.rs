//! Exhaustion: of what one box may use, each bound small enough to be reached quickly.

/// The bounds of these boxes.
pub const LIMITS: &[(&str, u64)] = &[
    ("MEMORY_MIB", 400),
    ("PROCESSES", 120),
    ("CPU_SECONDS", 3),
    ("OPEN_FILES", 300),
    ("FILE_MIB", 32),
    ("DISK_MIB", 200),
    ("CACHE_MIB", 64),
];

super::table::attempts! { "limits";
    fork_bomb {
        tries: "starts processes without end", bare: Untried("it would take the host down"),
        stopped_by: "a bound on the box's processes, counted by the kernel", says: "EAGAIN|process limit",
        run: r##"
pids = []
try:
    for _ in range(2000):
        pid = os.fork()
        if pid == 0:
            time.sleep(20)
            os._exit(0)
        pids.append(pid)
    escaped(f"{len(pids)} processes")
except OSError as error:
    why = reason(error)
finally:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
stopped(f"{why} after {len(pids)} processes")"##,
    }
    fork_bomb_of_the_shell {
        tries: "runs the classic fork bomb in the background and goes on", bare: Untried("it would take the host down"),
        stopped_by: "a bound on the box's processes; the watchdog ends what stands at it", says: "EAGAIN|process limit|BOUNDED",
        run: r##"
child = subprocess.Popen(["/bin/bash", "-c", "b(){ b|b& };b"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
most = 0
for _ in range(60):
    try:
        most = max(most, len(others()))
    except OSError:
        pass
    time.sleep(0.05)
escaped(f"{most} processes") if most > 400 else stopped(f"BOUNDED: {most} processes at most")"##,
    }
    thread_bomb {
        tries: "starts threads without end", bare: Untried("it would take the host down"),
        stopped_by: "threads count as processes", says: "EAGAIN|process limit",
        run: r##"
import threading
hold = threading.Event()
threading.stack_size(65536)
started = 0
try:
    for _ in range(2000):
        threading.Thread(target=hold.wait, args=(20,), daemon=True).start()
        started += 1
except RuntimeError:
    stopped(f"EAGAIN: after {started} threads")
escaped(f"{started} threads")"##,
    }
    memory_hog {
        tries: "takes memory without end", bare: Untried("it would take the host down"),
        stopped_by: "a bound on the box's memory: its commands are ended, the host is not asked to give", says: "memory limit|ENOMEM",
        run: r##"
held = []
try:
    for n in range(60):
        held.append(bytearray(os.urandom(1 << 20) * 32))
        time.sleep(0.05)
except MemoryError:
    stopped("ENOMEM: MemoryError")
escaped(f"{len(held) * 32} MiB")"##,
    }
    memory_hog_of_many {
        tries: "takes memory in many processes, each of them small", bare: Untried("it would take the host down"),
        stopped_by: "the bound counts all processes of the box together", says: "memory limit",
        run: r##"
pids = []
for _ in range(40):
    pid = os.fork()
    if pid == 0:
        held = bytearray(os.urandom(1 << 20) * 40)
        time.sleep(8)
        os._exit(0)
    pids.append(pid)
    time.sleep(0.05)
codes = [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids]
escaped("1600 MiB in 40 processes") if codes.count(0) == len(codes) else stopped(f"ENDED: {sorted(set(codes))}")"##,
    }
    hidden_memory {
        tries: "takes memory that no process has mapped: memfd and /dev/shm", bare: Untried("it would take the host down"),
        stopped_by: "/dev/shm has a size; files of memory are bounded as files are, and count", says: "memory limit|EFBIG|ENOSPC",
        run: r##"
fds = []
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
total = 0
why = ""
for n in range(64):
    fd = os.memfd_create(f"m{n}")
    fds.append(fd)
    try:
        for _ in range(31):
            total += os.write(fd, bytes(1 << 20))
    except OSError as error:
        why = reason(error)
        break
    time.sleep(0.05)
escaped(f"{total >> 20} MiB in memfd") if total > 1500 << 20 else stopped(f"{why}: after {total >> 20} MiB")"##,
    }
    fill_dev_shm {
        tries: "fills /dev/shm", bare: Untried("it would fill the host's memory"),
        stopped_by: "/dev/shm has a size", says: "ENOSPC|memory limit",
        run: r##"
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
total = 0
try:
    for n in range(200):
        with open(f"/dev/shm/f{n}", "wb") as file:
            for _ in range(16):
                total += file.write(bytes(1 << 20))
except OSError as error:
    sh("rm -f /dev/shm/f*")
    stopped(f"{reason(error)} after {total >> 20} MiB")
escaped(f"{total >> 20} MiB")"##,
    }
    one_large_file {
        tries: "writes one file without end", bare: Untried("it would fill the host's disk"),
        stopped_by: "a bound on the size of a file", says: "EFBIG",
        run: r##"
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
total = 0
try:
    with open("/tmp/large", "wb", buffering=0) as file:
        for _ in range(1000):
            total += file.write(bytes(1 << 20))
except OSError as error:
    os.unlink("/tmp/large")
    stopped(f"{reason(error)} after {total >> 20} MiB")
escaped(f"{total >> 20} MiB")"##,
    }
    open_files_without_end {
        tries: "opens files without end", bare: Untried("the host's bound is its own"),
        stopped_by: "a bound on open files of a process", says: "EMFILE",
        run: r##"
held = []
try:
    for _ in range(100000):
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    for fd in held[:10]:
        os.close(fd)
    stopped(f"{reason(error)} after {len(held)}")
escaped(f"{len(held)} files")"##,
    }
    raise_the_limits {
        tries: "raises its own resource limits", bare: Either,
        stopped_by: "hard limits cannot be raised without a capability", says: "EPERM|not allowed|HELD",
        run: r##"
import resource
got = []
for name in ("NOFILE", "NPROC", "FSIZE", "CPU", "CORE", "MEMLOCK"):
    kind = getattr(resource, f"RLIMIT_{name}")
    soft, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY:
        if name in ("NOFILE", "FSIZE", "CPU", "CORE"):
            got.append(f"{name} has no bound")
        continue
    try:
        resource.setrlimit(kind, (hard + 1, hard + 1))
        got.append(name)
    except (OSError, ValueError):
        pass
escaped(" ".join(got)) if got else stopped("HELD: EPERM for each")"##,
    }
    lock_memory {
        tries: "locks memory so that it cannot be swapped", bare: Either,
        stopped_by: "a bound on locked memory", says: "ENOMEM|EPERM|EAGAIN",
        run: r##"
size = 128 << 20
held = ctypes.create_string_buffer(size)
if libc.mlock(held, ctypes.c_size_t(size)) == 0:
    escaped("128 MiB locked")
raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))"##,
    }
    dump_core {
        tries: "fills the disk with core dumps, or has the host's handler run", bare: Either,
        stopped_by: "core dumps are off", says: "NONE",
        run: r##"
import resource
os.chdir("/tmp")
bound = resource.getrlimit(resource.RLIMIT_CORE)
if bound != (1, 1):
    # 0 too: a program that the kernel pipes core dumps to would run.
    escaped(f"the bound of core dumps is {bound}")
pid = os.fork()
if pid == 0:
    os.abort()
_, code = os.waitpid(pid, 0)
escaped("dumped") if os.WCOREDUMP(code) else stopped("NONE: no core was dumped")"##,
    }
    processor_time {
        tries: "computes without end", bare: Untried("the host's bound is its own"),
        stopped_by: "a bound on processor time of a process", says: "processor time limit of 3 s",
        run: r##"planted("nothing: the command that computes comes next")"##,
        then: &[("Bash", r#"{"command":"while :; do :; done","timeout_ms":120000}"#)],
    }
    processor_time_unheard {
        tries: "computes without end, and ignores the signal that says so", bare: Untried("the host's bound is its own"),
        stopped_by: "a process that ignores the bound on processor time is killed a second later", says: "processor time limit of 3 s",
        run: r##"planted("nothing: the command that computes comes next")"##,
        then: &[("Bash", r#"{"command":"trap '' XCPU; while :; do :; done","timeout_ms":120000}"#)],
    }
    wait_without_end {
        tries: "waits without end", bare: Stopped,
        stopped_by: "a time limit for every command, and for the task", says: "[killed after",
        run: r##"planted("nothing: the command that waits comes next")"##,
        then: &[("Bash", r#"{"command":"trap '' TERM HUP INT; sleep 600","timeout_ms":700}"#)],
    }
    flood_of_output {
        tries: "prints without end, to fill the worker's memory and the record", bare: Stopped,
        stopped_by: "a bound on a tool's output: the rest is read and thrown away", says: "...|omitted|cut|truncated|planted",
        run: r##"planted("nothing: the command that prints comes next")"##,
        then: &[("Bash", r#"{"command":"head -c 60000000 /dev/zero | tr '\\0' 'x'; echo","timeout_ms":50000}"#)],
    }
    fill_the_disk_unseen {
        tries: "fills the disk with files that have no name any more, and holds them open", bare: Untried("it would fill the host's disk"),
        stopped_by: "a file without a name counts while a process holds it", says: "disk limit",
        run: r##"
held = []
end = time.time() + 40
while time.time() < end and len(held) < 250:
    held.append(os.open("/tmp/unseen", os.O_CREAT | os.O_RDWR))
    os.unlink("/tmp/unseen")
    for _ in range(2):
        os.write(held[-1], os.urandom(1 << 20) * 8)
    time.sleep(0.05)
time.sleep(max(0, end - time.time()))
escaped(f"{len(held) * 16} MiB in {len(held)} files")"##,
    }
    flood_of_files {
        tries: "makes empty files without end, to use up the file system's inodes", bare: Untried("it would fill the host's disk"),
        stopped_by: "a file counts as 4 KiB of disk at least", says: "disk limit",
        run: r##"
os.makedirs("/tmp/many", exist_ok=True)
# In many processes, each below the bound of processor time.
for part in range(40):
    def body():
        for n in range(10_000):
            os.close(os.open(f"/tmp/many/{part}-{n}", os.O_CREAT | os.O_WRONLY))
    code = in_child(body)
    if code > 0:
        stopped(f"{errno.errorcode.get(code, code)}: in round {part}")
    time.sleep(0.2)
made = len(os.listdir("/tmp/many"))
sh("rm -rf /tmp/many")
escaped(f"{made} files")"##,
    }
    fill_the_cache {
        tries: "fills the dependency cache, which is no part of the work tree's bound", bare: Untried("it would fill the host's disk"),
        stopped_by: "what a box adds to its cache has a bound of its own, kept by the watchdog", says: "cache limit",
        run: r##"
total = 0
end = time.time() + 40
while time.time() < end:
    with open(f"/box/cache/fill-{total}", "wb") as file:
        total += file.write(os.urandom(1 << 20) * 8)
    if total > 1000 << 20:
        escaped(f"{total >> 20} MiB")
    time.sleep(0.1)
escaped(f"{total >> 20} MiB for 40 seconds")"##,
    }
    fill_the_disk {
        tries: "fills the disk with files, in the work tree, the home and /tmp", bare: Untried("it would fill the host's disk"),
        stopped_by: "the watchdog measures what the box wrote and ends its commands; still over, and the task ends", says: "disk limit",
        run: r##"
# The work is saved all the same: this is none.
os.makedirs(".git/info", exist_ok=True)
with open(".git/info/exclude", "a") as file:
    file.write("fill-*\n")
total = 0
end = time.time() + 40
where = ["/tmp", os.path.expanduser("~"), "."]
while time.time() < end:
    folder = where[(total >> 20) % 3]
    with open(f"{folder}/fill-{total}", "wb") as file:
        total += file.write(os.urandom(1 << 20) * 8)
    if total > 4000 << 20:
        escaped(f"{total >> 20} MiB")
    time.sleep(0.02)
escaped(f"{total >> 20} MiB for 40 seconds")"##,
    }
}
