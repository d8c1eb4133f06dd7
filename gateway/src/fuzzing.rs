//! Bodies of the fuzz targets in `fuzz/`; the tests here run them on what proptest makes up. Each panics when what must
//! always hold does not.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a fuzz target panics when a rule is broken"
)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::egress::forward::{Destination, Tls, is_framing, outgoing};
use crate::egress::hello::Hello;
use crate::egress::resolve::Reach;
use crate::egress::rule::Rule;
use crate::egress::target::Target;
use crate::tunnel;

/// The head of a push, from any bytes.
pub fn pkt_line(bytes: &[u8]) {
    crate::git_proxy::fuzz_commands(bytes);
}

/// A rule and a target, one in each line: what matches is the host that is connected to, in every spelling.
pub fn egress_rule(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (rule, target) = text.split_once('\n').unwrap_or((&text, &text));
    let target = Target::parse(target, Some(443));
    if let Ok(target) = &target {
        assert_eq!(Target::parse(&target.to_string(), None).as_ref(), Ok(target));
        assert!(Rule::for_target(target).matches(target));
    }
    let (Ok(rule), Ok(target)) = (Rule::parse(rule), target) else { return };
    assert_eq!(Rule::parse(&rule.to_string()), Ok(rule.clone()));
    if rule.matches(&target) {
        let host = target.host.to_string();
        let written = rule.to_string();
        let written = written.strip_suffix(&format!(":{}", target.port)).unwrap_or(&written);
        match written.strip_prefix('*') {
            Some(under) => assert!(host.ends_with(under) && host.len() > under.len(), "{rule} {target}"),
            None => assert_eq!(written, host),
        }
    }
}

/// A greeting of TLS, whole and byte by byte: both read the same.
pub fn tls_hello(bytes: &[u8]) {
    let mut hello = Hello::default();
    let parts: Option<_> = bytes.iter().find_map(|byte| hello.feed(std::slice::from_ref(byte)));
    let whole = Hello::default().feed(bytes);
    if let (Some(crate::egress::hello::First::Tls(a)), Some(crate::egress::hello::First::Tls(b))) =
        (&parts, &whole)
    {
        assert_eq!(a, b);
    }
}

/// What a tool sends to its proxy, from any bytes: each request that is passed on is one request at the host, with the
/// host's name, and with no header that is not the proxy's to pass.
pub fn proxy_request(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (passed, arrived) = runtime.block_on(pass_on(bytes));
    assert!(arrived.len() <= passed.len(), "{passed:?} became {arrived:?}");
    for (passed, arrived) in passed.iter().zip(&arrived) {
        assert_eq!(passed, arrived);
    }
}

/// Method, path and host of requests as they were passed on, and as they arrived.
async fn pass_on(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    type Seen = Arc<Mutex<Vec<String>>>;
    fn tell<B>(seen: &Seen, request: &Request<B>) {
        let host: Vec<_> = request.headers().get_all("host").iter().map(|v| v.to_str().unwrap()).collect();
        seen.lock().unwrap().push(format!("{} {} {}", request.method(), request.uri(), host.join("|")));
    }
    let (passed, arrived) = (Seen::default(), Seen::default());
    let (to_host, at_host) = tokio::io::duplex(1 << 20);
    let host = {
        let arrived = arrived.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            tell(&arrived, &request);
            async move {
                let _ = axum::body::to_bytes(Body::new(request.into_body()), 1 << 20).await;
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(at_host), service),
        )
    };
    let (sender, connection) =
        hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(to_host)).await.unwrap();
    let connection = tokio::spawn(connection);
    let sender = Arc::new(tokio::sync::Mutex::new(Some(sender)));
    let proxy = {
        let (passed, sender) = (passed.clone(), sender.clone());
        service_fn(move |request: Request<Incoming>| {
            let (passed, sender) = (passed.clone(), sender.clone());
            async move { Ok::<_, Infallible>(forward(&passed, &sender, request.map(Body::new)).await) }
        })
    };
    async fn forward(
        passed: &Seen,
        sender: &tokio::sync::Mutex<Option<hyper::client::conn::http1::SendRequest<Body>>>,
        request: Request<Body>,
    ) -> Response<Body> {
        let authority = request.uri().authority().map_or("", |a| a.as_str());
        let Ok(target) = Target::parse(authority, Some(80)) else { return Response::new(Body::empty()) };
        if request.method() == http::Method::CONNECT {
            return Response::builder().status(403).body(Body::empty()).unwrap();
        }
        let wanted = target.host_header(80);
        let request =
            outgoing(request, &Destination { target, tls: Tls::No, reach: Reach::Public }, None, []);
        assert_eq!(request.headers().get_all("host").iter().collect::<Vec<_>>(), [wanted.as_str()]);
        let framing: Vec<_> = request.headers().keys().filter(|n| is_framing(n) && *n != "host").collect();
        assert!(framing.is_empty(), "{framing:?}");
        assert!(request.uri().authority().is_none());
        tell(passed, &request);
        let mut sender = sender.lock().await;
        let Some(open) = sender.as_mut() else { return Response::new(Body::empty()) };
        match open.send_request(request).await {
            Ok(answer) => answer.map(Body::new),
            // The tool broke off within its body.
            Err(_) => Response::new(Body::empty()),
        }
    }
    let (mut tool, at_proxy) = tokio::io::duplex(1 << 20);
    let write = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let _ = tool.write_all(bytes).await;
        let _ = tool.shutdown().await;
        let _ = tool.read_to_end(&mut vec![]).await;
    };
    let served = tunnel::server().half_close(true).serve_connection(TokioIo::new(at_proxy), proxy);
    let _ =
        tokio::time::timeout(std::time::Duration::from_secs(5), async { tokio::join!(write, served) }).await;
    sender.lock().await.take();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), async { tokio::join!(connection, host) })
        .await;
    let taken = |seen: &Seen| seen.lock().unwrap().clone();
    (taken(&passed), taken(&arrived))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces that a request smuggler would put together.
    fn request() -> impl Strategy<Value = Vec<u8>> {
        let pieces = proptest::sample::select(vec![
            "GET http://a.example/x HTTP/1.1\r\n",
            "POST http://a.example:8080/x?y HTTP/1.1\r\n",
            "POST http://u@b.example/ HTTP/1.0\r\n",
            "GET /x HTTP/1.1\r\n",
            "CONNECT a.example:443 HTTP/1.1\r\n",
            "Host: b.example\r\n",
            "Host: a.example\r\n",
            "Content-Length: 5\r\n",
            "Content-Length: 0\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 5, 5\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Connection: host, content-length\r\n",
            "Expect: 100-continue\r\n",
            "Upgrade: websocket\r\n",
            "X: y\r\n z\r\n",
            "\r\n",
            "\r\n",
            "\n",
            "\r",
            "\0",
            "0\r\n\r\n",
            "5\r\nhello\r\n",
            "5;a=b\r\nhello\r\n",
            "hello",
        ]);
        let piece = prop_oneof![
            12 => pieces.prop_map(|piece| piece.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn an_ordinary_request_is_passed_on() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bytes =
            b"POST http://a.example/x HTTP/1.1\r\nHost: b.example\r\nTransfer-Encoding: chunked\r\n\r\n\
            5\r\nhello\r\n0\r\n\r\nGET http://c.example:81/ HTTP/1.1\r\nHost: x\r\n\r\n";
        let (passed, arrived) = runtime.block_on(pass_on(bytes));
        assert_eq!(passed, ["POST /x a.example", "GET / c.example:81"]);
        assert_eq!(arrived, passed);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn requests_are_not_smuggled(bytes in request()) {
            proxy_request(&bytes);
        }

        #[test]
        fn rules_match_what_is_connected_to(bytes in "(\\*\\.)?[a-b]{1,2}(\\.[a-b]{1,2})?(:[0-9]{1,3})?\n.{0,3}[a-bA-B.]{1,6}(:[0-9]{1,3})?") {
            egress_rule(bytes.as_bytes());
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            egress_rule(&bytes);
            pkt_line(&bytes);
            tls_hello(&bytes);
            tls_hello(&[&[22, 3, 1], &bytes[..]].concat());
        }
    }
}
