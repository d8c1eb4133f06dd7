//! Sockets of the host, and families of sockets that a box has no use for.

super::table::attempts! { "sockets";
    path_socket_of_the_person {
        tries: "talks to the person's SSH agent over its socket", bare: Works,
        stopped_by: "the socket is not in the box", says: "ENOENT|EACCES",
        run: r##"contact(socket.AF_UNIX, F.unix)"##,
    }
    abstract_socket_of_the_host {
        tries: "talks to a service of the host over an abstract socket, which has no file", bare: Works,
        stopped_by: "abstract sockets belong to the network namespace; Landlock scopes them too", says: "ECONNREFUSED|EPERM|EACCES",
        run: r##"contact(socket.AF_UNIX, "\0" + getattr(F, "abstract"))"##,
    }
    container_engine_socket {
        tries: "starts a privileged container over the socket of Docker, Podman, containerd or CRI-O", bare: Either,
        stopped_by: "no engine's socket is in the box, in no tier", says: "ENOENT|EACCES",
        run: r##"
def at(path):
    def attempt():
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return path
    return attempt
any_of("engines", [at(p) for p in ("/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/user/0/podman/podman.sock")])"##,
    }
    system_services {
        tries: "talks to D-Bus, systemd, snapd and the journal", bare: Either,
        stopped_by: "/run of the host is not in the box", says: "ENOENT|EACCES",
        run: r##"
def at(path):
    def attempt():
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return path
    return attempt
any_of("services", [at(p) for p in ("/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/journal/stdout", "/run/snapd.socket", "/run/udev/control", "/run/acpid.socket", "/tmp/.X11-unix/X0")])"##,
    }
    gateway_socket {
        tries: "talks to the gateway's socket itself instead of through the tunnel", bare: Works,
        stopped_by: "the socket's folder is in the worker's layer only", says: "ENOENT|EACCES",
        run: r##"
answer = gateway("GET /box/v1/directives HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
escaped(status(answer))"##,
    }
    line_between_worker_and_tools {
        tries: "connects to the line between the worker and the tools, where it has a file", bare: Either,
        stopped_by: "in a sandbox it is a socket pair without a name; in a container its file is removed after the first connection", says: "ENOENT|EACCES|ECONNREFUSED|NONE",
        run: r##"
def at(path):
    def attempt():
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return path
    return attempt
named = [l.split()[-1] for l in open("/proc/net/unix").readlines()[1:] if len(l.split()) > 7]
any_of("lines", [at(p.replace("@", "\0", 1)) for p in named if "bgagent" in p or "tools" in p] + [at("/run/bgagent/tools.sock")])"##,
    }
    virtual_machine_sockets {
        tries: "talks to the hypervisor over AF_VSOCK", bare: Either,
        stopped_by: "seccomp: sockets are UNIX, IPv4, IPv6 or route netlink", says: "EPERM|EAFNOSUPPORT|EACCES|ENODEV",
        run: r##"
sock = socket.socket(40, socket.SOCK_STREAM)
escaped("a socket")"##,
    }
    packet_sockets {
        tries: "listens to the network's frames with AF_PACKET", bare: WorksAsRoot,
        stopped_by: "seccomp, and no capability", says: "EPERM|EAFNOSUPPORT",
        run: r##"
socket.socket(17, socket.SOCK_RAW, 0x0300)
escaped("a socket")"##,
    }
    raw_sockets {
        tries: "sends packets of its own making with raw IPv4 and IPv6 sockets", bare: WorksAsRoot,
        stopped_by: "no capability", says: "EPERM|EACCES|EPROTONOSUPPORT",
        run: r##"
any_of("raw sockets", [lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) and "ICMP", lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58) and "ICMPv6", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255) and "raw"])"##,
    }
    change_addresses_and_routes {
        tries: "changes addresses and routes over netlink", bare: WorksAsRoot,
        stopped_by: "no capability in the box's network namespace", says: "EPERM|EACCES",
        run: r##"
sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
index = socket.if_nametoindex("lo")
address = socket.inet_aton("127.99.99.99")
def ask_kernel(kind, flags):
    body = struct.pack("<BBBBi", 2, 32, 0, 254, index) + struct.pack("<HH", 8, 2) + address + struct.pack("<HH", 8, 1) + address
    sock.send(struct.pack("<IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    code = struct.unpack("<i", sock.recv(4096)[16:20])[0]
    if code:
        raise OSError(-code, os.strerror(-code))
ask_kernel(20, 0x605)
ask_kernel(21, 5)
escaped("an address was added")"##,
    }
    other_netlink_families {
        tries: "talks to the audit system, netfilter, uevents and crypto over netlink", bare: Works,
        stopped_by: "seccomp: only the route family", says: "EPERM|EPROTONOSUPPORT|EACCES",
        run: r##"
any_of("families", [(lambda n=n: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, n) and f"family {n}") for n in (9, 12, 15, 21, 16)])"##,
    }
    kernel_crypto_sockets {
        tries: "reaches the kernel's crypto code with AF_ALG", bare: Either,
        stopped_by: "seccomp", says: "EPERM|EAFNOSUPPORT|EACCES",
        run: r##"
socket.socket(38, socket.SOCK_SEQPACKET, 0)
escaped("a socket")"##,
    }
    rare_socket_families {
        tries: "opens sockets of rare families (CAN, TIPC, RDS, Bluetooth, XDP, KCM, NFC, SMC, QIPCRTR, X.25, AX.25)", bare: Either,
        stopped_by: "seccomp", says: "EPERM|EAFNOSUPPORT|EACCES",
        run: r##"
families = (3, 4, 5, 6, 9, 21, 29, 30, 31, 35, 37, 39, 41, 42, 43, 44, 45)
any_of("families", [(lambda f=f, t=t: socket.socket(f, t, 0) and f"family {f}") for f in families for t in (1, 2, 3, 5)])"##,
    }
}
