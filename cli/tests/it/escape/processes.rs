//! Other processes: of the host, of the server, of the worker, of another box.

super::table::attempts! { "processes";
    see_host_processes {
        tries: "lists the host's processes", bare: Works,
        stopped_by: "a PID namespace with a /proc of its own", says: "NONE",
        run: r##"
for pid in others():
    try:
        line = read(f"/proc/{pid}/cmdline").replace(b"\0", b" ")
    except OSError:
        continue
    if b"bgagent" in line and b" serve" in line:
        escaped(f"the server is process {pid}")
stopped(f"NONE: {len(others())} processes, none of the host")"##,
    }
    read_server_environment {
        tries: "reads the environment of the server", bare: Works,
        stopped_by: "a PID namespace: the server has no number in it", says: "ENOENT|EMPTY|EACCES",
        run: r##"found(read(f"/proc/{F.server_pid}/environ"))"##,
    }
    read_server_memory {
        tries: "reads the memory of the server through /proc/PID/mem", bare: Works,
        stopped_by: "a PID namespace", says: "ENOENT|EMPTY|EACCES",
        run: r##"
for piece in memory(F.server_pid):
    if CANARY.search(piece):
        found(piece)
stopped("EMPTY: the secret is not in it")"##,
    }
    read_server_root_and_cwd {
        tries: "reads files through /proc/PID/root and /proc/PID/cwd of the server", bare: Works,
        stopped_by: "a PID namespace", says: "ENOENT|EACCES",
        run: r##"
opens([f"/proc/{F.server_pid}/root{F.state}/owner-key", f"/proc/{F.server_pid}/cwd/state/owner-key"], look=lambda f: "read")"##,
    }
    open_server_descriptors {
        tries: "opens the server's files through /proc/PID/fd", bare: Works,
        stopped_by: "a PID namespace", says: "ENOENT|EACCES",
        run: r##"
folder = f"/proc/{F.server_pid}/fd"
opens([f"{folder}/{n}" for n in os.listdir(folder) if "bgagent.db" in os.readlink(f"{folder}/{n}")])"##,
    }
    read_bystander_environment {
        tries: "reads the environment of a process of the host", bare: Works,
        stopped_by: "a PID namespace", says: "ENOENT|EMPTY|EACCES",
        run: r##"found(read(f"/proc/{PID}/environ"))"##,
    }
    read_victims_environment {
        tries: "reads the environment of a tool of another box", bare: Works,
        stopped_by: "each box has a PID namespace of its own", says: "NONE",
        run: r##"
for pid in others():
    try:
        text = read(f"/proc/{pid}/environ")
    except OSError:
        continue
    if b"VICTIMS_SECRET=" in text:
        found(text)
stopped("NONE: no process of another box is seen")"##,
    }
    ptrace_bystander {
        tries: "attaches to a process of the host with ptrace", bare: Works,
        stopped_by: "a PID namespace", says: "ESRCH|EPERM",
        run: r##"
PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17
call("ptrace", PTRACE_SEIZE, PID, 0, 0)
escaped("seized")"##,
    }
    ptrace_process_1 {
        tries: "attaches to the first process of the box, which starts every command", bare: Untried("it would attach to the host's init"),
        stopped_by: "the first process is not dumpable and runs under another Landlock domain", says: "EPERM|ESRCH",
        run: r##"
call("ptrace", 0x4206, 1, 0, 0)
escaped("seized")"##,
    }
    read_memory_of_process_1 {
        tries: "reads and writes the memory of the first process of the box", bare: Untried("it would read the memory of the host's init"),
        stopped_by: "the first process is not dumpable", says: "EACCES|EPERM",
        run: r##"opens(["/proc/1/mem", "/proc/1/environ", "/proc/1/maps"], "rb", look=lambda f: f.read(1) and "read")"##,
    }
    open_descriptors_of_process_1 {
        tries: "opens the first process' descriptors: the line to the worker among them", bare: Untried("it would look at the host's init"),
        stopped_by: "the first process is not dumpable", says: "EACCES|EPERM",
        run: r##"
def steal(fd):
    def attempt():
        pidfd = call("pidfd_open", 1, 0)
        return f"descriptor {fd} is {os.readlink('/proc/self/fd/%d' % call('pidfd_getfd', pidfd, fd, 0))}"
    return attempt
any_of("taking descriptors", [lambda: os.listdir("/proc/1/fd")] + [steal(fd) for fd in range(12)])"##,
    }
    vm_read_bystander {
        tries: "reads the memory of a process of the host with process_vm_readv", bare: Works,
        stopped_by: "a PID namespace", says: "ESRCH|EPERM|ENOENT",
        run: r##"
for line in open(f"/proc/{PID}/maps"):
    if "[stack]" in line:
        start, end = (int(x, 16) for x in line.split()[0].split("-"))
        there = ctypes.create_string_buffer(end - start)
        local = (ctypes.c_ulong * 2)(ctypes.addressof(there), end - start)
        remote = (ctypes.c_ulong * 2)(start, end - start)
        call("process_vm_readv", PID, local, 1, remote, 1, 0)
        found(there.raw)
stopped("ESRCH: it has no memory")"##,
    }
    vm_write_bystander {
        tries: "writes into the memory of a process of the host with process_vm_writev", bare: Works,
        stopped_by: "a PID namespace", says: "ESRCH|EPERM",
        run: r##"
start = 0
try:
    for line in open(f"/proc/{PID}/maps"):
        if "[stack]" in line:
            start = int(line.split("-")[0], 16)
except OSError:
    pass
data = ctypes.create_string_buffer(b"x")
call("process_vm_writev", PID, (ctypes.c_ulong * 2)(ctypes.addressof(data), 1), 1, (ctypes.c_ulong * 2)(start, 1), 1, 0)
escaped("written")"##,
    }
    kill_bystander {
        tries: "kills a process of the host", bare: Works,
        stopped_by: "a PID namespace", says: "ESRCH|EPERM",
        run: r##"
os.kill(PID, signal.SIGKILL)
escaped("killed")"##,
    }
    signal_server_and_worker {
        tries: "may signal the server, or the worker that stands above its commands", bare: Works,
        stopped_by: "a PID namespace; the first process takes no signal from within it", says: "ESRCH|EPERM",
        run: r##"
os.kill(F.server_pid, 0)
escaped("the server can be signalled")"##,
    }
    take_a_bystanders_descriptor {
        tries: "takes an open file of a process of the host with pidfd_getfd", bare: Works,
        stopped_by: "a PID namespace", says: "ESRCH|EPERM|ENOSYS",
        run: r##"
pidfd = call("pidfd_open", PID, 0)
fd = call("pidfd_getfd", pidfd, 0, 0)
found(os.pread(fd, 100, 0))"##,
    }
    signal_every_process {
        tries: "kills everything with kill(-1)", bare: Untried("it would kill the host"),
        stopped_by: "a PID namespace: only commands of its own box are reached, and the box goes on", says: "ALIVE|EPERM",
        run: r##"
def body():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(-1, signal.SIGCONT)
status = in_child(body)
os.kill(1, 0) if os.getppid() else None
stopped(f"ALIVE: only processes of this box heard it ({status})")"##,
    }
    enter_namespaces_of_others {
        tries: "enters the namespaces of the server with setns", bare: WorksAsRoot,
        stopped_by: "seccomp refuses setns, and the server has no number here", says: "EPERM|ENOENT|EACCES",
        run: r##"
def enter(path):
    def attempt():
        fd = os.open(path, os.O_RDONLY)
        call("setns", fd, 0)
        return f"entered {path}"
    return attempt
spaces = ("mnt", "net", "pid", "uts", "ipc", "user")
any_of("entering", [enter(f"/proc/{pid}/ns/{ns}") for pid in (F.server_pid, 1, "self") for ns in spaces])"##,
    }
    enter_a_pidfds_namespaces {
        tries: "enters namespaces through a pidfd", bare: WorksAsRoot,
        stopped_by: "seccomp refuses setns", says: "EPERM|ESRCH",
        run: r##"
def enter(pid):
    def attempt():
        call("setns", call("pidfd_open", pid, 0), 0x40000000)
        return f"entered the network of {pid}"
    return attempt
any_of("entering", [enter(pid) for pid in (F.server_pid, os.getppid())])"##,
    }
}
