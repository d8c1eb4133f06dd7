//! What people attach: fetched within the rules, and handed to the box of its task alone.

use domain::{Attachment, AttachmentId, AttachmentKind, AttachmentSource, Command, Content, Screened};
use gateway::egress::Egress;
use gateway::egress::fetch::{Fetcher, HostCredential};
use orchestrator::attachment::{Fetch as _, content_key, text_key};
use secrecy::SecretString;

use crate::network::*;
use crate::world::*;

const MAX: u64 = 1_000_000;

struct Web {
    names: Names,
    host: Host,
    folder: tempfile::TempDir,
}

impl Web {
    /// A host `files.example` on loopback, which the operator named.
    async fn new() -> Web {
        let (host, ca) = Host::https("files.example").await;
        let (names, folder) = (Names::default(), tempfile::tempdir().unwrap());
        names.set("files.example", &["127.0.0.1"]);
        std::fs::write(folder.path().join("ca.pem"), ca).unwrap();
        Web { names, host, folder }
    }

    fn fetcher(&self, private: &str) -> Fetcher {
        let credential = HostCredential {
            hosts: vec!["files.example".into()],
            token: SecretString::from("hush-hush".to_owned()),
        };
        let egress = Egress::new(parts(&self.names, &format!("allow = []\nprivate = [{private}]")));
        egress.fetcher(vec![credential], Some(&self.folder.path().join("ca.pem"))).unwrap()
    }

    fn named(&self) -> Fetcher {
        self.fetcher(&format!("'files.example:{}'", self.host.port))
    }

    fn url(&self, path: &str) -> String {
        format!("https://files.example:{}{path}", self.host.port)
    }
}

async fn said(fetcher: &Fetcher, url: &str) -> String {
    match fetcher.fetch(&repo(), url, MAX).await {
        Ok(fetched) => String::from_utf8(fetched.bytes).unwrap(),
        Err(why) => format!("error: {why}"),
    }
}

#[tokio::test]
async fn a_file_is_fetched_with_its_type() {
    let web = Web::new().await;
    let fetched = web.named().fetch(&repo(), &web.url("/a.txt?x=1"), MAX).await.unwrap();
    assert_eq!(fetched.content_type.as_deref(), Some("text/plain; charset=utf-8"));
    let text = String::from_utf8(fetched.bytes).unwrap();
    assert!(text.starts_with("GET /a.txt?x=1\n"), "{text}");
    assert!(text.contains(&format!("host: files.example:{}\n", web.host.port)), "{text}");
    // A credential is for the port of TLS; elsewhere somebody else may listen.
    assert!(!text.contains("hush"), "{text}");
}

/// D-124: addresses of attachments led inside.
#[tokio::test]
async fn what_is_not_public_is_not_fetched_unless_the_operator_named_it() {
    let web = Web::new().await;
    let taken = web.host.taken();
    for (names, words) in [
        (&["127.0.0.1"][..], "loopback address"),
        (&["10.0.0.7"], "private address"),
        (&["169.254.169.254"], "metadata address"),
        (&["100.64.0.1"], "carrier address"),
        (&["::ffff:127.0.0.1"], "address"),
        (&["192.0.0.8"], "reserved address"),
        (&["198.18.0.1"], "reserved address"),
        (&["1.1.1.1 127.0.0.1"], "loopback address"),
    ] {
        web.names.set("files.example", names);
        let text = said(&web.fetcher(""), &web.url("/a")).await;
        assert!(text.contains(words) && text.contains("public ones only"), "{names:?}: {text}");
    }
    // Named is not metadata.
    web.names.set("files.example", &["169.254.169.254"]);
    assert!(said(&web.named(), &web.url("/a")).await.contains("metadata address"));
    for (url, words) in [
        (format!("http://files.example:{}/a", web.host.port), "only https"),
        (format!("https://me:word@files.example:{}/a", web.host.port), "password"),
        (format!("https://127.0.0.1:{}/a", web.host.port), "loopback"),
        (format!("https://[::1]:{}/a", web.host.port), "loopback"),
        (format!("https://2130706433:{}/a", web.host.port), "loopback"),
        ("file:///etc/passwd".to_owned(), "only https"),
        ("https://nobody.example/a".to_owned(), "not found"),
    ] {
        let text = said(&web.fetcher(""), &url).await;
        assert!(text.contains(words), "{url}: {text}");
    }
    assert_eq!(web.host.taken(), taken, "nobody was connected to");
}

/// D-124: addresses of attachments led inside.
#[tokio::test]
async fn every_step_of_a_redirect_is_held_to_the_rules() {
    let web = Web::new().await;
    let (named, port) = (web.named(), web.host.port);
    web.names.set("inside.example", &["10.0.0.1"]);
    let good = said(&named, &web.url("/to?/to?/a")).await;
    assert!(good.starts_with("GET /a\n"), "two are followed: {good}");
    for (to, words) in [
        ("/to?/to?/to?/a".to_owned(), "more than 2 times"),
        ("/to?http://files.example/a".to_owned(), "only https"),
        (format!("/to?https://127.0.0.1:{port}/a"), "loopback"),
        ("/to?https://inside.example/a".to_owned(), "private address"),
        ("/to?https://169.254.169.254/latest/meta-data".to_owned(), "metadata"),
        ("/to?".to_owned(), "more than 2 times"),
    ] {
        let text = said(&named, &web.url(&to)).await;
        assert!(text.contains(words), "{to}: {text}");
    }
    // A name that becomes private between the steps.
    web.names.set("files.example", &["127.0.0.1", "169.254.169.254"]);
    assert!(said(&named, &web.url("/to?/a")).await.contains("metadata"));
}

#[tokio::test]
async fn what_is_too_large_gone_or_not_whom_it_says_is_told() {
    let web = Web::new().await;
    let named = web.named();
    for (path, words) in [("/large", "more than 1000000 bytes"), ("/gone", "404 Not Found")] {
        let text = said(&named, &web.url(path)).await;
        assert!(text.contains(words), "{path}: {text}");
    }
    let before = web.host.taken();
    assert!(said(&named, &web.url("/busy")).await.contains("503 Service Unavailable"));
    assert_eq!(web.host.taken() - before, 3, "a busy one is asked again");
    // Its certificate is not of an authority that is known here.
    let egress =
        Egress::new(parts(&web.names, &format!("allow = []\nprivate = ['files.example:{}']", web.host.port)));
    let text = said(&egress.fetcher(Vec::new(), None).unwrap(), &web.url("/a")).await;
    assert!(text.contains("certificate of files.example"), "{text}");
}

fn content(bytes: &str, text_bytes: Option<u64>) -> Screened {
    Screened::Passed(Content {
        content_type: "text/plain".into(),
        size_bytes: bytes.len() as u64,
        sha256: "ab".into(),
        tokens: 1,
        text_bytes,
    })
}

#[tokio::test]
async fn a_box_gets_what_passed_of_its_own_task() {
    let world = World::new().await;
    let asked = |filename: &str| Attachment {
        kind: AttachmentKind::File,
        filename: filename.into(),
        content_type: None,
        source: AttachmentSource::Presigned { size_bytes: 2 },
    };
    let task = world.submitted_with(|spec| spec.attachments = vec![asked("a.txt"), asked("b.pdf")]).await;
    let (a, b) = (AttachmentId::of(task, 0), AttachmentId::of(task, 1));
    let objects = &world.orchestrator.parts().objects;
    for (key, bytes) in
        [(content_key(task, a), "hi"), (content_key(task, b), "%P"), (text_key(task, b), "words")]
    {
        objects.put(&key.unwrap(), objects::body(bytes)).await.unwrap();
    }
    let attachments = [(a, content("hi", None)), (b, content("%P", Some(5)))].into();
    let _ = world.orchestrator.command(task, Command::ConfirmUploads { attachments }).await.unwrap();
    world.drive(task).await;
    let attached = world.attach(task, 1, "i1", &world.bootstrap(task, 1)).await.json(200);
    let (spec, token) = (&attached["spec"]["attachments"], attached["session_token"].as_str().unwrap());
    assert_eq!((&spec[0]["filename"], &spec[1]["text_bytes"]), (&"a.txt".into(), &5.into()), "{spec}");
    let get = async |path: String| world.call("GET", &path, Some(token), None).await;
    assert_eq!(get(format!("/box/v1/attachments/{a}")).await.text(), "hi");
    assert_eq!(get(format!("/box/v1/attachments/{b}/text")).await.text(), "words");
    // None of a text, none of another task, and no path.
    let other = world.submitted().await;
    objects
        .put(&content_key(other, AttachmentId::of(other, 0)).unwrap(), objects::body("theirs"))
        .await
        .unwrap();
    for path in [
        format!("/box/v1/attachments/{a}/text"),
        format!("/box/v1/attachments/{}", AttachmentId::of(other, 0)),
        "/box/v1/attachments/x".to_owned(),
        format!("/box/v1/attachments/..%2F..%2F{other}%2F{}", AttachmentId::of(other, 0)),
    ] {
        let answer = get(path.clone()).await;
        assert_eq!(answer.status.as_u16(), 400, "{path}: {}", answer.text());
        assert!(!answer.text().contains("theirs"), "{path}");
    }
}
