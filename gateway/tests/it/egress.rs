//! The way to the network, with real clients and real hosts on loopback.

use std::sync::Arc;

use domain::event::EventKind;
use gateway::egress::resolve::Reach;
use orchestrator::Clock;
use serde_json::{Value, json};
use store::{EventCursor, EventQuery};

use crate::network::*;
use crate::world::*;

/// D-076: an address was not bound to its name.
#[tokio::test]
async fn a_connection_goes_to_the_address_that_was_checked() {
    let (names, host) = (Names::default(), Host::http().await);
    let port = host.port;
    let policy = format!("allow = ['a.example:{port}']\nprivate = ['a.example:{port}']");
    let world = World::with_egress(parts(&names, &policy)).await;
    let tunnel = Tunnel::new(&world).await;
    let url = format!("http://a.example:{port}/");
    // The host listens at the first only: whoever asks a second time finds nobody.
    names.set("a.example", &["127.0.0.1", "127.0.0.2"]);
    assert!(tunnel.curl(&[&url]).await.starts_with("HTTP/1.1 200"));
    assert_eq!(names.asked().len(), 1);
    let said = tunnel.curl(&[&url]).await;
    assert!(said.starts_with("HTTP/1.1 502") && said.contains("does not answer"), "{said}");
    // Also what the operator names never leads to a metadata service.
    names.set("a.example", &["169.254.169.254"]);
    assert!(tunnel.curl(&[&url]).await.contains("metadata address"));
}

/// The metadata of a task's events of one kind.
async fn events(world: &World, task: domain::TaskId, kind: EventKind) -> Vec<Value> {
    let query = EventQuery { task, from: EventCursor::Start, limit: 1_000 };
    let events = world.orchestrator.store().events_read(query).await.unwrap();
    events.into_iter().filter(|e| e.kind == kind).map(|e| e.metadata).collect()
}

#[tokio::test]
async fn a_plain_request_goes_to_an_allowed_host_and_to_no_other() {
    let (names, host) = (Names::default(), Host::http().await);
    let port = host.port;
    names.set("a.example", &["127.0.0.1"]);
    let policy = format!("allow = ['a.example:{port}']\nprivate = ['a.example:{port}']");
    let world = World::with_egress(parts(&names, &policy)).await;
    let tunnel = Tunnel::new(&world).await;
    let said = tunnel.curl(&[&format!("http://A.example.:{port}/p?q=1")]).await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert!(said.contains("GET /p?q=1\n") && said.contains(&format!("host: a.example:{port}\n")), "{said}");
    for (url, reason) in [
        (format!("http://b.example:{port}/"), "b.example"),
        ("http://a.example/".into(), "a.example"),
        (format!("http://x.a.example:{port}/"), "x.a.example"),
        (format!("http://a.example.evil:{port}/"), "a.example.evil"),
        (format!("http://127.0.0.1:{port}/"), "127.0.0.1"),
        (format!("http://[::1]:{port}/"), "[::1]"),
    ] {
        let said = tunnel.curl(&[&url]).await;
        assert!(said.starts_with("HTTP/1.1 403 Refused by bgagent egress"), "{url}: {said}");
        assert!(
            said.contains(reason) && said.contains("`allow`") && said.contains("octo/cat"),
            "{url}: {said}"
        );
    }
    assert_eq!(names.asked(), ["a.example"], "what is refused is not looked up");
    let allowed = events(&world, tunnel.me.task, EventKind::EgressAllowed).await;
    assert_eq!(allowed, [json!({ "host": "a.example", "port": port, "rule": format!("a.example:{port}") })]);
    let denied = events(&world, tunnel.me.task, EventKind::EgressDenied).await;
    assert_eq!(
        denied[0],
        json!({ "host": "b.example", "port": port, "reason": "not_allowed", "rule": format!("b.example:{port}") })
    );
    assert_eq!(denied.len(), 6, "{denied:?}");
    tunnel.curl(&[&format!("http://b.example:{port}/again")]).await;
    assert_eq!(events(&world, tunnel.me.task, EventKind::EgressDenied).await.len(), 6, "each is told once");
}

#[tokio::test]
async fn tls_goes_through_connect_and_the_proxy_sees_only_its_name() {
    let names = Names::default();
    let (host, ca) = Host::https("a.example").await;
    let port = host.port;
    names.set("a.example", &["127.0.0.1"]);
    let policy = "allow = ['cargo']";
    let mut parts = parts(&names, policy);
    parts.groups = Arc::new(group(&format!("a.example:{port}"), Reach::Named));
    let world = World::with_egress(parts).await;
    let tunnel = Tunnel::new(&world).await;
    let ca_file = world.folder.path().join("ca.pem");
    std::fs::write(&ca_file, ca).unwrap();
    let ca_file = ca_file.to_str().unwrap();
    let said = tunnel.curl(&["--cacert", ca_file, &format!("https://a.example:{port}/x")]).await;
    assert!(said.contains("GET /x\n"), "{said}");
    let allowed = events(&world, tunnel.me.task, EventKind::EgressAllowed).await;
    assert_eq!(allowed, [json!({ "host": "a.example", "port": port, "rule": "cargo" })]);
    // Another name within: refused before the host hears of it.
    let to = format!("b.example:{port}:a.example:{port}");
    let said = tunnel.curl(&["-k", "--connect-to", &to, &format!("https://b.example:{port}/x")]).await;
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("curl: (35)"), "{said}");
    assert!(!said.contains("GET /x"), "{said}");
    let denied = events(&world, tunnel.me.task, EventKind::EgressDenied).await;
    assert_eq!(denied, [json!({ "host": "a.example", "port": port, "reason": "other_host" })]);
    let said = tunnel.curl(&["-k", "https://b.example/x"]).await;
    assert!(
        said.starts_with("HTTP/1.1 403 Refused by bgagent egress: b.example is not in egress.allow"),
        "{said}"
    );
}

#[tokio::test]
async fn python_finds_its_way_too() {
    let (names, host) = (Names::default(), Host::http().await);
    let port = host.port;
    names.set("a.example", &["127.0.0.1"]);
    let policy = format!("allow = ['a.example:{port}']\nprivate = ['a.example:{port}']");
    let world = World::with_egress(parts(&names, &policy)).await;
    let tunnel = Tunnel::new(&world).await;
    let script = format!(
        "import urllib.request as u, urllib.error\n\
         print(u.urlopen('http://a.example:{port}/', data=b'hello').read().decode())\n\
         for url in ['http://b.example/', 'https://b.example/']:\n\
         \ttry: u.urlopen(url)\n\
         \texcept OSError as e: print(e)\n"
    );
    let mut python = command("python3");
    python.args(["-c", &script]).env("http_proxy", tunnel.proxy()).env("https_proxy", tunnel.proxy());
    let said = said(python).await;
    assert!(said.contains("POST /\n") && said.contains("body: hello"), "{said}");
    assert_eq!(
        said.matches("Refused by bgagent egress: b.example is not in egress.allow").count(),
        2,
        "{said}"
    );
}

#[tokio::test]
async fn a_name_of_a_private_address_is_refused_whenever_it_becomes_one() {
    let (names, host) = (Names::default(), Host::http().await);
    let port = host.port;
    let policy = format!("allow = ['a.example:{port}', 'meta.example', '*.v6.example', '10.0.0.1']");
    let world = World::with_egress(parts(&names, &policy)).await;
    let tunnel = Tunnel::new(&world).await;
    names.set("a.example", &["192.0.2.1", "127.0.0.1"]);
    names.set("meta.example", &["169.254.169.254"]);
    for (n, ip) in
        ["::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "fd00:ec2::254", "8.8.8.8 127.0.0.1"].iter().enumerate()
    {
        names.set(&format!("h{n}.v6.example"), &[ip]);
        let said = tunnel.curl(&[&format!("http://h{n}.v6.example/")]).await;
        assert!(said.starts_with("HTTP/1.1 403"), "{ip}: {said}");
        assert!(said.contains("which boxes may not reach"), "{ip}: {said}");
    }
    for _ in 0..3 {
        for args in [&[][..], &["-p"]] {
            let url = format!("http://a.example:{port}/");
            let said = tunnel.curl(&[args, &[url.as_str()]].concat()).await;
            assert!(said.contains("HTTP/1.1 403"), "{said}");
        }
    }
    assert_eq!(
        names.asked().iter().filter(|name| *name == "a.example").count(),
        6,
        "each connection asks anew"
    );
    let said = tunnel.curl(&["http://meta.example/latest/meta-data"]).await;
    assert!(said.contains("metadata address") && !said.contains("To allow"), "{said}");
    let said = tunnel.curl(&["http://10.0.0.1/"]).await;
    assert!(said.contains("private address") && said.contains("\"10.0.0.1:80\" to `private`"), "{said}");
    assert_eq!(host.taken(), 0);
    let denied = events(&world, tunnel.me.task, EventKind::EgressDenied).await;
    assert!(
        denied.contains(&json!({
            "host": "a.example", "port": port, "reason": "private_address", "address": "reserved",
            "rule": format!("a.example:{port}"),
        })),
        "{denied:?}"
    );
}

#[tokio::test]
async fn what_is_no_request_to_a_host_is_refused() {
    let (names, host) = (Names::default(), Host::http().await);
    let port = host.port;
    names.set("a.example", &["127.0.0.1"]);
    let policy = format!("allow = ['a.example:{port}', '127.0.0.1:{port}']\nprivate = ['a.example:{port}']");
    let world = World::with_egress(parts(&names, &policy)).await;
    let tunnel = Tunnel::new(&world).await;
    let a = format!("a.example:{port}");
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: a.example".to_owned(), "404"),
        ("GET /box/v1/directives HTTP/1.1\r\nHost: x".into(), "404"),
        ("POST /model/v1/messages HTTP/1.1\r\nHost: x".into(), "404"),
        (format!("GET https://{a}/ HTTP/1.1\r\nHost: {a}"), "400"),
        (format!("GET ftp://{a}/ HTTP/1.1\r\nHost: {a}"), "400"),
        (format!("GET http://u:p@{a}/ HTTP/1.1\r\nHost: {a}"), "400"),
        (format!("TRACE http://{a}/ HTTP/1.1\r\nHost: {a}"), "405"),
        (format!("CONNECT a.example HTTP/1.1\r\nHost: {a}"), "400"),
        (format!("CONNECT u@{a} HTTP/1.1\r\nHost: {a}"), "400"),
        (format!("GET http://127.1:{port}/ HTTP/1.1\r\nHost: {a}"), "400"),
        (format!("GET http://0x7f000001:{port}/ HTTP/1.1\r\nHost: {a}"), "400"),
        (format!("GET http://2130706433:{port}/ HTTP/1.1\r\nHost: {a}"), "400"),
        (format!("GET http://[::ffff:127.0.0.1]:{port}/ HTTP/1.1\r\nHost: {a}"), "403"),
        (format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: {a}"), "403"),
        (format!("GET http://b.example/ HTTP/1.1\r\nHost: {a}"), "403"),
        (format!("GET http://{a}/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2"), "400"),
        (format!("GET http://{a}/ HTTP/1.1\r\nTransfer-Encoding: xchunked"), "400"),
        (format!("GET http://{a}/ HTTP/1.1\r\nX: {}", "y".repeat(70_000)), "431"),
        (format!("GET http://{a}/ HTTP/1.1{}", "\r\nX: y".repeat(101)), "431"),
        ("nonsense".into(), "400"),
    ] {
        let said = tunnel.raw(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await;
        let shown = &head[..head.len().min(100)];
        let said = &said[..said.len().min(500)];
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {said}");
    }
    assert_eq!(host.taken(), 0);
    // A host in `Host` that is not the one asked for counts for nothing, and no header of the connection gets through.
    let said = tunnel
        .raw(
            format!(
                "POST http://{a}/x HTTP/1.1\r\nHost: b.example\r\nHost: c.example\r\nConnection: close, x-hop, host\r\n\
                 X-Hop: 1\r\nX-Kept: 1\r\nUpgrade: websocket\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\n\
                 Keep-Alive: 5\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
                 GET http://b.example/smuggled HTTP/1.1\r\n\r\n"
            )
            .as_bytes(),
        )
        .await;
    assert!(said.contains(&format!("POST /x\nx-kept: 1\nhost: {a}\n")), "{said}");
    assert!(said.contains("body: hello") && !said.contains("smuggled"), "{said}");
    assert!(!said.contains("hop: ") && !said.contains("proxy") && !said.contains("websocket"), "{said}");
    assert_eq!(host.taken(), 1);
}

#[tokio::test]
async fn in_observe_mode_public_hosts_are_let_through_and_told() {
    let (names, host) = (Names::default(), Host::http().await);
    let port = host.port;
    names.set("a.example", &["127.0.0.1"]);
    names.set("b.example", &["127.0.0.1"]);
    let policy = format!("mode = 'observe'\nallow = []\nprivate = ['a.example:{port}']");
    let world = World::with_egress(parts(&names, &policy)).await;
    let tunnel = Tunnel::new(&world).await;
    let said = tunnel.curl(&[&format!("http://a.example:{port}/x")]).await;
    assert!(said.contains("GET /x\n"), "{said}");
    let said = tunnel.curl(&[&format!("http://b.example:{port}/x")]).await;
    assert!(said.starts_with("HTTP/1.1 403") && said.contains("loopback address"), "{said}");
    let rule = format!("a.example:{port}");
    assert_eq!(
        events(&world, tunnel.me.task, EventKind::EgressObserved).await,
        [json!({ "host": "a.example", "port": port, "reason": "not_allowed", "rule": rule })]
    );
}

#[tokio::test]
async fn any_protocol_passes_where_a_rule_names_the_port_and_http_is_read_where_none_does() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let names = Names::default();
    names.set("mail.example", &["127.0.0.1"]);
    names.set("web.example", &["127.0.0.1"]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mail = listener.local_addr().unwrap().port();
    // A host that speaks first.
    let _greeter = background(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 ready\r\n").await.unwrap();
        let mut line = [0; 6];
        stream.read_exact(&mut line).await.unwrap();
        stream.write_all(&[b"you said ", &line[..]].concat()).await.unwrap();
    });
    let web = Host::http().await;
    let policy = format!("allow = ['cargo', 'mail.example:{mail}']\nprivate = ['mail.example:{mail}']");
    let mut parts = parts(&names, &policy);
    parts.groups = Arc::new(group(&format!("web.example:{}", web.port), Reach::Named));
    let world = World::with_egress(parts).await;
    let tunnel = Tunnel::new(&world).await;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", tunnel.port)).await.unwrap();
    stream
        .write_all(format!("CONNECT mail.example:{mail} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut said = String::new();
    let mut part = [0; 1024];
    while !said.contains("220 ready") {
        let n = stream.read(&mut part).await.unwrap();
        assert!(n > 0, "{said}");
        said += &String::from_utf8_lossy(&part[..n]);
    }
    stream.write_all(b"hello\n").await.unwrap();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.ends_with("you said hello\n"), "{said}");
    // HTTP within a CONNECT: for that host, whatever `Host` says.
    let url = format!("http://web.example:{}/x", web.port);
    let said = tunnel.curl(&["-p", "-H", "Host: other.example", &url, &url]).await;
    assert_eq!(said.matches(&format!("host: web.example:{}\n", web.port)).count(), 2, "{said}");
    assert!(!said.contains("other.example"), "{said}");
    // What is neither TLS nor HTTP gets no further.
    let said = tunnel
        .raw(
            format!("CONNECT web.example:{} HTTP/1.1\r\nHost: x\r\n\r\nSSH-2.0-x\r\n\r\n", web.port)
                .as_bytes(),
        )
        .await;
    assert!(said.contains("HTTP/1.1 400"), "{said}");
}

#[tokio::test]
async fn credentials_are_added_on_the_way_out_and_nowhere_else() {
    let names = Names::default();
    let plain = Host::http().await;
    let (host, ca) = Host::https("reg.example").await;
    for name in ["reg.example", "plain.example", "free.example"] {
        names.set(name, &["127.0.0.1"]);
    }
    let folder = tempfile::tempdir().unwrap();
    let host_ca = folder.path().join("host-ca.pem");
    std::fs::write(&host_ca, ca).unwrap();
    let (port, plain_port) = (host.port, plain.port);
    let policy = format!(
        "allow = ['reg.example:{port}', 'plain.example:{plain_port}', 'free.example:{plain_port}']\n\
         private = ['reg.example:{port}', 'plain.example:{plain_port}', 'free.example:{plain_port}']\n\
         [[credentials]]\nhost = 'reg.example:{port}'\nheader = 'Authorization'\nvalue = 'Bearer hush-hush'\n\
         ca_file = '{}'\n\
         [[credentials]]\nhost = 'plain.example:{plain_port}'\nheader = 'X-Key'\nvalue = 'hush-hush'\ntls = false\n",
        host_ca.display(),
    );
    let parts = parts(&names, &policy);
    let box_ca = folder.path().join("box-ca.pem");
    std::fs::write(&box_ca, parts.authority.as_ref().unwrap().certificate_pem()).unwrap();
    let (box_ca, host_ca) = (box_ca.to_str().unwrap(), host_ca.to_str().unwrap());
    let world = World::with_egress(parts).await;
    // Clients look at the dates of certificates by the machine's clock.
    world.clock.advance(Clock::System.now().duration_since(world.clock.now()).unsigned_abs());
    let tunnel = Tunnel::new(&world).await;
    let url = format!("https://reg.example:{port}/x");
    let said = tunnel.curl(&["--cacert", box_ca, "-H", "Authorization: own", &url]).await;
    assert!(said.contains("authorization: Bearer hush-hush\n") && !said.contains(": own"), "{said}");
    assert!(said.contains(&format!("host: reg.example:{port}\n")), "{said}");
    let said = tunnel.curl(&["--cacert", host_ca, &url]).await;
    assert!(said.contains("curl: (60)"), "the box sees the proxy's certificate: {said}");
    // The proxy does not follow, and a box that does goes without.
    let redirect = format!("https://reg.example:{port}/redirect");
    let said = tunnel.curl(&["--cacert", box_ca, "-L", &redirect]).await;
    assert!(said.contains("302 Found") && said.contains("403 Refused"), "{said}");
    assert!(!said.contains("hush"), "{said}");
    let said = tunnel.curl(&["--cacert", box_ca, "-X", "TRACE", &url]).await;
    assert!(said.contains("HTTP/1.1 405") && !said.contains("hush"), "{said}");
    // Without TLS to a host that has it, the credential would go in the open: it does not.
    let said = tunnel.curl(&[&format!("http://reg.example:{port}/x")]).await;
    assert!(!said.contains("hush"), "{said}");
    let said = tunnel.curl(&[&format!("http://plain.example:{plain_port}/x")]).await;
    assert!(said.contains("x-key: hush-hush\n"), "{said}");
    let said = tunnel.curl(&["-p", &format!("http://free.example:{plain_port}/x")]).await;
    assert!(said.contains("GET /x\n") && !said.contains("hush"), "{said}");
    let said =
        tunnel.curl(&["-H", "Host: plain.example", &format!("http://free.example:{plain_port}/x")]).await;
    assert!(said.contains("GET /x\n") && !said.contains("hush"), "{said}");
    // Another name within the connection to a host that has one.
    let to = format!("free.example:{port}:reg.example:{port}");
    let said = tunnel.curl(&["-k", "--connect-to", &to, &format!("https://free.example:{port}/x")]).await;
    assert!(!said.contains("GET /x"), "{said}");
    let query = EventQuery { task: tunnel.me.task, from: EventCursor::Start, limit: 1_000 };
    let record = format!("{:?}", world.orchestrator.store().events_read(query).await.unwrap());
    assert!(record.contains("reg.example") && !record.contains("hush"), "{record}");
}

#[tokio::test]
async fn a_credential_does_not_go_to_a_host_whose_certificate_is_not_good() {
    let names = Names::default();
    // The certificate is for another name, and from nobody this machine knows.
    let (host, _) = Host::https("other.example").await;
    let port = host.port;
    names.set("reg.example", &["127.0.0.1"]);
    let policy = format!(
        "allow = ['reg.example:{port}']\nprivate = ['reg.example:{port}']\n\
         [[credentials]]\nhost = 'reg.example:{port}'\nheader = 'Authorization'\nvalue = 'hush'\n",
    );
    let world = World::with_egress(parts(&names, &policy)).await;
    let tunnel = Tunnel::new(&world).await;
    let said = tunnel.curl(&["-k", &format!("https://reg.example:{port}/x")]).await;
    assert!(said.contains("HTTP/1.1 502") && said.contains("certificate of reg.example"), "{said}");
    assert!(!said.contains("hush") && !said.contains("GET /x"), "{said}");
}

#[tokio::test]
async fn git_needs_no_token_within_the_tunnel() {
    let world = World::new().await;
    let tunnel = Tunnel::new(&world).await;
    let other = world.boxed().await;
    let clone = |task: domain::TaskId, name: &str| {
        let mut git = command("git");
        git.args(["clone", "-q", "-b", "main", &format!("http://127.0.0.1:{}/git/{task}.git", tunnel.port)])
            .arg(world.folder.path().join(name));
        said(git)
    };
    assert_eq!(clone(tunnel.me.task, "own").await, "");
    assert!(world.folder.path().join("own/README.md").exists());
    let said = clone(other.task, "other").await;
    assert!(said.contains("own task only"), "{said}");
}

/// D-076: an address was not bound to its name.
#[tokio::test]
async fn the_end_of_an_attempt_is_the_end_of_its_network() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let names = Names::default();
    let host = Host::http().await;
    let port = host.port;
    names.set("a.example", &["127.0.0.1"]);
    let policy = format!("allow = ['a.example:{port}']\nprivate = ['a.example:{port}']");
    let world = World::with_egress(parts(&names, &policy)).await;
    let tunnel = Tunnel::new(&world).await;
    let open = async |head: String| {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", tunnel.port)).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        stream
    };
    let mut streams = [
        open(format!("CONNECT a.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n")).await,
        open(format!("GET http://a.example:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n")).await,
    ];
    world.cancel(tunnel.me.task).await;
    for stream in &mut streams {
        let mut rest = vec![];
        let ended =
            tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it is still open");
    }
    // The token opens no tunnel any more.
    assert_eq!(tunnel.open().await.err().as_deref(), Some("status 409"));
    assert_eq!(host.taken(), 2);
}

#[tokio::test]
async fn connections_of_one_attempt_are_bounded() {
    let names = Names::default();
    let world = World::with_egress(parts(&names, "allow = []")).await;
    let me = world.boxed().await;
    let tunnel = Tunnel::of(&world, me).await;
    let mut open = vec![];
    for _ in 0..domain::limit::EGRESS_CONNECTIONS_PER_ATTEMPT {
        open.push(tunnel.open().await.unwrap());
    }
    assert_eq!(tunnel.open().await.err().as_deref(), Some("status 429"));
    open.pop();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while tunnel.open().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "no room was made");
    }
}

#[tokio::test]
async fn large_answers_and_bodies_pass_whole() {
    let (names, host) = (Names::default(), Host::http().await);
    let port = host.port;
    names.set("a.example", &["127.0.0.1"]);
    let policy = format!("allow = ['a.example:{port}']\nprivate = ['a.example:{port}']");
    let world = World::with_egress(parts(&names, &policy)).await;
    let tunnel = Tunnel::new(&world).await;
    let file = world.folder.path().join("body");
    std::fs::write(&file, vec![b'y'; 1_900_000]).unwrap();
    let body = format!("@{}", file.display());
    for tunnelled in [&[][..], &["-p"]] {
        let url = format!("http://a.example:{port}/large");
        let size = ["-o", "/dev/null", "-w", "%{size_download}", &url];
        assert!(tunnel.curl(&[tunnelled, &size[..]].concat()).await.ends_with("5000000"));
        let url = format!("http://a.example:{port}/");
        for how in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["-H", "Expect: 100-continue"]] {
            let said = tunnel.curl(&[tunnelled, how, &["--data-binary", &body, &url]].concat()).await;
            let whole = format!("\nbody: {}\n", "y".repeat(1_900_000));
            assert!(said.ends_with(&whole), "{how:?}: {}", &said[..said.len().min(500)]);
        }
    }
}

#[tokio::test]
async fn a_machine_that_must_leave_through_a_proxy_does() {
    // The outer proxy is one of ours, of another gateway: what it lets through it names in its record.
    let names = Names::default();
    let host = Host::http().await;
    let (tls_host, ca) = Host::https("b.example").await;
    let (port, tls_port) = (host.port, tls_host.port);
    for name in ["a.example", "b.example"] {
        names.set(name, &["127.0.0.1"]);
    }
    let hosts = format!("'a.example:{port}', 'b.example:{tls_port}'");
    let outer_world =
        World::with_egress(parts(&names, &format!("allow = [{hosts}]\nprivate = [{hosts}]"))).await;
    let outer = Tunnel::new(&outer_world).await;

    let nobody = Names::default();
    let policy = format!("allow = [{hosts}, 'db.internal', '10.0.0.1', 'c.example']");
    let mut parts = parts(&nobody, &policy);
    let address = format!("http://user:word@127.0.0.1:{}", outer.port);
    parts.outer = gateway::egress::outer::OuterProxy::from_setting(&address, &Default::default()).unwrap();
    let world = World::with_egress(parts).await;
    let tunnel = Tunnel::new(&world).await;
    let said = tunnel.curl(&[&format!("http://a.example:{port}/x?y")]).await;
    assert!(said.contains("GET /x?y\n") && said.contains(&format!("host: a.example:{port}\n")), "{said}");
    let ca_file = world.folder.path().join("ca.pem");
    std::fs::write(&ca_file, ca).unwrap();
    let https = format!("https://b.example:{tls_port}/x");
    let said = tunnel.curl(&["--cacert", ca_file.to_str().unwrap(), &https]).await;
    assert!(said.contains("GET /x\n"), "{said}");
    assert_eq!(events(&outer_world, outer.me.task, EventKind::EgressAllowed).await.len(), 2);
    for (url, words) in [
        ("http://db.internal/", "a name of the local network"),
        ("http://10.0.0.1/", "private address"),
        ("http://d.example/", "allowlist"),
    ] {
        let said = tunnel.curl(&[url]).await;
        assert!(said.starts_with("HTTP/1.1 403") && said.contains(words), "{url}: {said}");
    }
    // What the outer proxy refuses is told as that.
    let said = tunnel.curl(&["https://c.example/"]).await;
    assert!(said.starts_with("HTTP/1.1 502"), "{said}");
    assert_eq!(events(&outer_world, outer.me.task, EventKind::EgressDenied).await.len(), 1);
    assert!(nobody.asked().is_empty(), "names are looked up outside");
}
