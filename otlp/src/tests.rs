use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;

use domain::TaskId;
use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use telemetry::{Content, Kind, Moment, SpanId, TraceId, Traces, Value};
use tokio::time::Instant;

use super::*;

fn settings(url: &str) -> Settings {
    Settings {
        url: url.parse().unwrap(),
        headers: vec![("x-key".into(), SecretString::from("the-key".to_owned()))],
        timeout: Duration::from_secs(5),
        service_name: "bgagent".into(),
        instance: "node-1".into(),
        version: "0.0.0",
    }
}

fn span(name: &str) -> Span {
    let task = TaskId::from_bits(7);
    let mut span = Span {
        trace: TraceId::of_task(task),
        id: SpanId::root(task),
        parent: None,
        name: name.into(),
        kind: Kind::Internal,
        start: Timestamp::from_second(10).unwrap(),
        end: Timestamp::from_second(12).unwrap(),
        attributes: Vec::new(),
        moments: vec![Moment { name: "m".into(), at: Timestamp::from_second(11).unwrap() }],
        links: Vec::new(),
        error: None,
    };
    span.set("text", "t");
    span.set("number", 5u64);
    span.set("list", vec!["a".to_owned()]);
    span
}

fn all() -> telemetry::Settings {
    telemetry::Settings { sample_ratio: 1.0, content: Content::Withheld }
}

/// The head and the body of a request.
type Heard = (String, Vec<u8>);

/// A collector that gives these answers, one a connection, and tells what it was sent; then it is gone.
fn collector(answers: Vec<&'static str>) -> (String, mpsc::Receiver<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (heard, hear) = mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                connection.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            connection.read_exact(&mut body).unwrap();
            heard.send((head, body)).unwrap();
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, hear)
}

/// Runs an exporter over these spans until the collector has heard of them, and stops it; what was heard.
async fn export(collector: (String, mpsc::Receiver<Heard>), spans: Vec<Span>) -> Heard {
    let (url, heard) = collector;
    let (traces, queue) = Traces::new(all());
    spans.into_iter().for_each(|span| traces.give(span));
    let stop = CancellationToken::new();
    let running = Exporter::new(settings(&url)).unwrap().run(queue, stop.clone());
    let heard = tokio::task::spawn_blocking(move || {
        let heard = heard.recv_timeout(Duration::from_secs(60)).unwrap();
        stop.cancel();
        heard
    });
    running.await;
    heard.await.unwrap()
}

/// The spans of a body.
fn names(body: &[u8]) -> Vec<String> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    request.resource_spans[0].scope_spans[0].spans.iter().map(|s| s.name.clone()).collect()
}

#[tokio::test]
async fn spans_are_one_request_with_the_headers() {
    let (head, body) = export(collector(vec!["200 OK"]), vec![span("a"), span("b")]).await;
    assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    assert!(
        head.contains("x-key: the-key") && head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    assert_eq!(names(&body), ["a", "b"]);
    let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    let spans = &request.resource_spans[0].scope_spans[0].spans;
    assert_eq!(spans[0].start_time_unix_nano, 10_000_000_000);
    assert_eq!(spans[0].trace_id, TaskId::from_bits(7).bits().to_be_bytes());
    assert!(spans[0].parent_span_id.is_empty() && spans[0].status.is_none());
    assert_eq!(spans[0].events[0].name, "m");
    assert_eq!(spans[0].attributes.len(), 3);
    assert_eq!(Value::from(5u64), Value::Int(5));
}

#[tokio::test]
async fn a_refusal_is_final_and_busy_is_not() {
    // 400: not tried again, and the rest of the queue goes on.
    let (url, heard) = collector(vec!["400 Bad Request", "200 OK"]);
    let (traces, queue) = Traces::new(all());
    traces.give(span("a"));
    let stop = CancellationToken::new();
    let running = Exporter::new(settings(&url)).unwrap();
    let running = running.run(queue, stop.clone());
    let heard = tokio::task::spawn_blocking(move || {
        let first = heard.recv().unwrap().1;
        traces.give(span("b"));
        let second = heard.recv().unwrap().1;
        stop.cancel();
        [first, second].map(|body| names(&body))
    });
    running.await;
    assert_eq!(heard.await.unwrap(), [["a"], ["b"]], "the same was not sent once more");

    let (url, heard) = collector(vec!["503 Service Unavailable", "200 OK"]);
    let (traces, queue) = Traces::new(all());
    traces.give(span("a"));
    let stop = CancellationToken::new();
    let exporter = Exporter::new(settings(&url)).unwrap();
    let running = exporter.run(queue, stop.clone());
    let heard = tokio::task::spawn_blocking(move || {
        let bodies = [heard.recv().unwrap().1, heard.recv().unwrap().1];
        stop.cancel();
        bodies
    });
    running.await;
    let [first, second] = heard.await.unwrap();
    assert_eq!(first, second, "the same spans once more");
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_answers_nothing_holds_nobody_up_at_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", silent.local_addr().unwrap());
    let (traces, queue) = Traces::new(all());
    (0..2_000).for_each(|_| traces.give(span("a")));
    let stop = CancellationToken::new();
    let mut settings = settings(&url);
    settings.timeout = Duration::from_secs(3_600);
    // It is told to stop while it waits for an answer.
    let exporter = Exporter::new(settings).unwrap();
    let stopping = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        stop.cancel();
        Instant::now()
    };
    let ended = async {
        exporter.run(queue, stop.clone()).await;
        Instant::now()
    };
    let (begun, ended) = tokio::join!(stopping, ended);
    // Of the paused clock: it is what was waited for, not how long the test took.
    assert_eq!((ended - begun).as_secs(), FLUSH.as_secs());
}

#[test]
fn settings_that_cannot_be_sent_are_told_by_name_and_without_the_value() {
    let mut bad = settings("http://127.0.0.1/v1/traces");
    bad.headers = vec![("not a name".into(), SecretString::from("v".to_owned()))];
    assert!(Exporter::new(bad.clone()).unwrap_err().to_string().contains("not a name"));
    bad.headers = vec![("x-key".into(), SecretString::from("se\ncret".to_owned()))];
    let error = Exporter::new(bad).unwrap_err().to_string();
    assert!(error.contains("headers.x-key") && !error.contains("cret"), "{error}");
}
