//! The one way out, and what can be tried with it. In tier `process` there is no proxy: the same addresses are then
//! reached straight.

super::table::attempts! { "proxy";
    connect_to_loopback {
        tries: "asks the proxy for a service on the gateway's own loopback", bare: Works,
        stopped_by: "the proxy refuses loopback addresses", says: "403",
        run: r##"reach([("127.0.0.1", F.tcp), ("127.0.0.2", F.tcp)])"##,
    }
    connect_to_ipv6_loopback {
        tries: "asks the proxy for ::1 and for IPv4 addresses in IPv6 clothes", bare: Either,
        stopped_by: "the proxy refuses loopback addresses in every form", says: "403|400",
        run: r##"
port = F.tcp6 or F.tcp
reach([("[::1]", port), ("[::ffff:127.0.0.1]", F.tcp), ("[::ffff:7f00:1]", F.tcp), ("[::127.0.0.1]", F.tcp), ("[64:ff9b::7f00:1]", F.tcp), ("[2002:7f00:1::]", F.tcp), ("[::]", port)])"##,
    }
    connect_to_odd_notations {
        tries: "writes 127.0.0.1 in other notations: hexadecimal, octal, decimal, short", bare: Works,
        stopped_by: "the proxy reads notations as resolvers do, and refuses what they mean", says: "403|400",
        run: r##"reach([(h, F.tcp) for h in ("0x7f000001", "2130706433", "0177.0.0.1", "127.1", "0x7f.1", "127.0.0.1.", "0", "0.0.0.0", "017700000001", "127.0.0.01", "%31%32%37.0.0.1", "①②⑦.0.0.1")])"##,
    }
    connect_to_private_networks {
        tries: "asks the proxy for the host's address in its network, and for private networks", bare: Either,
        stopped_by: "the proxy refuses private, link-local and shared addresses", says: "403",
        run: r##"
lan = [tuple(F.lan)] if F.lan else []
targets = [(h if ":" not in h else f"[{h}]", p) for h, p in lan]
reach(targets + ([(h, 80) for h in ("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.1.1", "[fd00::1]", "[fe80::1]", "198.18.0.1", "224.0.0.1", "255.255.255.255")] if PROXY else []))"##,
    }
    connect_to_metadata {
        tries: "asks the proxy for the cloud's metadata service, by address and by name", bare: Either,
        stopped_by: "the proxy refuses link-local addresses and names that are not allowed", says: "403|NONE",
        run: r##"
if not PROXY:
    stopped("NONE: no proxy")
def at(host):
    def attempt():
        answer = ask(f"GET http://{host}/latest/meta-data/ HTTP/1.1\r\nHost: {host}\r\nMetadata-Flavor: Google\r\nConnection: close\r\n\r\n")
        if re.match(rb"HTTP/1\.[01] 403", answer) or re.match(rb"HTTP/1\.[01] 400", answer) and b"bad_target" in answer:
            raise OSError(errno.EACCES, status(answer))
        return status(answer)
    return attempt
any_of("metadata", [at(h) for h in ("169.254.169.254", "[fd00:ec2::254]", "metadata.google.internal", "100.100.100.200", "2852039166", "0xa9fea9fe", "169.254.169.254.")])"##,
    }
    name_that_leads_inside {
        tries: "asks for a name that is allowed and resolves to a private address (DNS rebinding)", bare: Works,
        stopped_by: "the proxy checks the address after it resolved the name, and connects to the one it checked", says: "403",
        run: r##"reach([("localhost", F.tcp), ("LOCALHOST", F.tcp), ("localhost.", F.tcp)])"##,
    }
    host_that_is_not_on_the_list {
        tries: "asks for a host that is not on the list, with CONNECT and with GET", bare: Either,
        stopped_by: "deny by default: the answer names the rule that would allow it", says: "403|NONAME",
        run: r##"
if not PROXY:
    stopped(reason(OSError(errno.EACCES, "403: not asked: there is no proxy")))
got = connect_through("not-on-the-list.example", 443)
if not isinstance(got, str) or " 403" not in got:
    escaped(got)
answer = ask("GET http://not-on-the-list.example/ HTTP/1.1\r\nHost: not-on-the-list.example\r\nConnection: close\r\n\r\n")
stopped(status(answer)) if b" 403" in answer[:16] else escaped(status(answer))"##,
    }
    host_that_looks_allowed {
        tries: "asks for hosts whose names only look like one on the list (*.example.com)", bare: Either,
        stopped_by: "rules are matched by labels, after the name was brought to one form", says: "403|NONE",
        run: r##"
if not PROXY:
    stopped("NONE: no proxy")
hosts = ("evilexample.com", "example.com", "example.com.evil.example", "a.example.com.evil.example", "a.example.com@evil.example", "evil.example#a.example.com", "evil.example?a.example.com", "a.example.com\\.evil.example", "a.example.com%2eevil.example", "a.example.com%00.evil.example", "a.example.co", "*.example.com.evil.example", ".example.com", "a..example.com")
def at(host):
    def attempt():
        got = connect_through(host, 443)
        if isinstance(got, str) and re.match(r"HTTP/1\.[01] (400|403)", got):
            raise OSError(errno.EACCES, got)
        if isinstance(got, str) and got.startswith("CLOSED"):
            raise OSError(errno.EACCES, "403 closed")
        return f"{host}: {got}"
    return attempt
any_of("names", [at(h) for h in hosts])"##,
    }
    connect_to_ssh_and_mail {
        tries: "uses CONNECT to a host that is allowed for ports 22, 25, 6379 and others", bare: Either,
        stopped_by: "a rule without a port means 80 and 443", says: "403|NONE",
        run: r##"
if not PROXY:
    stopped("NONE: no proxy")
def at(port):
    def attempt():
        got = connect_through("a.example.com", port)
        if isinstance(got, str) and re.match(r"HTTP/1\.[01] (400|403)", got):
            raise OSError(errno.EACCES, got)
        return f"{port}: {got}"
    return attempt
any_of("ports", [at(p) for p in (22, 25, 53, 465, 587, 3306, 5432, 6379, 8080, 11211, 0, 65536)])"##,
    }
    other_port_of_an_allowed_address {
        tries: "uses the permission for one port of an address to reach another port of it", bare: Works,
        stopped_by: "what was allowed is a host with a port", says: "403",
        run: r##"reach([("127.0.0.1", F.tcp)])"##,
    }
    another_host_in_the_header {
        tries: "asks for an allowed site and names another in the Host header (domain fronting)", bare: Works,
        stopped_by: "the proxy writes the header itself, from the target", says: "planted|400|403",
        run: r##"
site = f"127.0.0.1:{F.site}"
target = f"http://{site}/" if PROXY else "/"
ask(f"GET {target} HTTP/1.1\r\nHost: {MARK}.internal.example\r\nConnection: close\r\n\r\n", ("127.0.0.1", F.site))
planted("the site tells which host it was asked for")"##,
    }
    another_host_in_the_handshake {
        tries: "connects to an allowed site and names another in the TLS handshake (domain fronting)", bare: Works,
        stopped_by: "the proxy reads the name in the handshake and compares it with the one asked for", says: "planted|403",
        run: r##"
import ssl
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
got = connect_through("127.0.0.1", F.site)
if isinstance(got, str):
    stopped(got)
try:
    context.wrap_socket(got, server_hostname=f"{MARK}.internal.example".replace("~", "x").replace("_", "-"))
except OSError:
    pass
planted("the site tells what it heard")"##,
    }
    smuggle_a_second_request {
        tries: "hides a second request in the body of the first (request smuggling)", bare: Works,
        stopped_by: "the proxy parses and writes requests anew; ambiguous lengths are refused", says: "planted|400|403",
        run: r##"
site = f"127.0.0.1:{F.site}"
prefix = f"http://{site}" if PROXY else ""
inner = f"GET /{MARK} HTTP/1.1\r\nHost: internal.example\r\n\r\n"
answers = ask(f"POST {prefix}/ HTTP/1.1\r\nHost: {site}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}", ("127.0.0.1", F.site))
answers += ask(f"GET {prefix}/ HTTP/1.1\r\nHost: {site}\r\nX: y\r\n\r\n{inner}", ("127.0.0.1", F.site)) if PROXY else b""
planted("the site tells which requests it saw")"##,
    }
    split_a_header {
        tries: "breaks lines in the request's target to add headers of its own", bare: Either,
        stopped_by: "the proxy's parser refuses such requests", says: "400|403|CLOSED|planted|NONE",
        run: r##"
if not PROXY:
    stopped("NONE: no proxy")
site = f"127.0.0.1:{F.site}"
for text in (f"GET http://{site}/\r\nX-{MARK}: 1 HTTP/1.1\r\nHost: {site}\r\n\r\n", f"GET http://{site}/%0d%0aX:%20{MARK} HTTP/1.1\r\nHost: {site}\r\nConnection: close\r\n\r\n".replace(MARK, "m"), f"GET http://{site}/\0{MARK} HTTP/1.1\r\nHost: {site}\r\n\r\n"):
    ask(text)
planted("the site tells which headers it saw")"##,
    }
    local_names {
        tries: "asks the proxy for local names: the machine's own name, *.local, *.internal, localhost.localdomain", bare: Either,
        stopped_by: "they are not on the list, and their addresses are refused besides", says: "403|NONE",
        run: r##"
if not PROXY:
    stopped("NONE: no proxy")
reach([(h, F.tcp) for h in (socket.gethostname(), "localhost.localdomain", "ip6-localhost", "host.docker.internal", "host.containers.internal", "gateway.local", "a.example.com.localhost")])"##,
    }
    send_a_flood_of_headers {
        tries: "sends endless headers, and many connections that say nothing", bare: Either,
        stopped_by: "the proxy bounds headers, connections and the time for a request", says: "431|400|CLOSED|ECONNRESET|EPIPE|NONE|HTTP/1",
        run: r##"
if not PROXY:
    stopped("NONE: no proxy")
sock = socket.create_connection(PROXY, 5)
sock.settimeout(5)
sock.sendall(b"GET http://a.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n")
sent = 0
try:
    while sent < 16 << 20:
        sock.sendall(b"X-Flood: " + b"y" * 4000 + b"\r\n")
        sent += 4000
except OSError as error:
    stopped(reason(error))
escaped("16 MiB of headers were taken")"##,
    }
}
