//! The way to the network, with real clients and real hosts on loopback.

use domain::event::EventKind;
use gateway::egress::resolve::Reach;
use serde_json::{Value, json};
use store::{EventCursor, EventQuery};

use crate::network::*;
use crate::world::*;

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
    parts.groups = known(group(&format!("a.example:{port}"), Reach::Named));
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
