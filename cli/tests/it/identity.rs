//! Signing in at identity providers that nobody here wrote, and working as whoever has signed in.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::oidc::{Answer, Mint, Options, Provider, browse, browser_of};
use testkit::platform::Platform;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::whole::{END, Said, bash, platform, sample, say, small_work, transcript, types};

/// A platform whose people sign in at `issuer`: those of the group `eng` are members.
fn of_provider(platform: Platform, issuer: &str) -> Platform {
    platform
        .with("BGAGENT__IDENTITY__OIDC__CORP__ISSUER", issuer)
        .with("BGAGENT__IDENTITY__OIDC__CORP__CLIENT_ID", "bgagent")
        .with("BGAGENT__IDENTITY__OIDC__CORP__MEMBERS", r#"["eng"]"#)
}

fn server(platform: &Platform) -> String {
    platform.client().unwrap().base().to_string()
}

/// Types `bgagent login --device`, and does as it says with a browser.
async fn signs_in(platform: &Platform, person: &str, answer: Answer) -> Said {
    let url = server(platform);
    let mut command = platform.command(&["login", "--device", "--api-url", &url]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut err = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        err.push_str(&format!("{line}\n"));
        if let Some(url) = line.strip_prefix("or open ") {
            browse(url, person, answer).await.unwrap();
        }
    }
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    Said { code: child.wait().await.unwrap().code().unwrap_or(-1), out, err }
}

/// The file of all logins.
fn kept(platform: &Platform) -> Value {
    let path = platform.state_dir().parent().unwrap().join("config/bgagent/credentials.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn login(platform: &Platform) -> Value {
    kept(platform)["servers"].as_object().unwrap().values().next().unwrap().clone()
}

/// The name of the key that signed the kept token.
fn signed_by(platform: &Platform) -> String {
    let token = login(platform)["token"].as_str().unwrap().to_owned();
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

/// No token of any login is anywhere in what the server wrote.
fn nothing_leaked(platform: &Platform) {
    let login = login(platform);
    for name in ["token", "refresh_token"] {
        let secret = login[name].as_str().unwrap();
        assert!(secret.len() > 20 && !platform.log().contains(secret), "{name} is in the server's log");
    }
}

async fn whoami(platform: &Platform) -> Said {
    types(platform, &["whoami", "--output", "json"]).await
}

/// The issue's "done when": a login against a real provider process, and a rotation of its keys during a run that needs no
/// restart and drops nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_in_submit_and_watch_through_a_rotation_of_the_providers_keys() {
    // Tokens of two seconds: every command of this run has to renew them.
    let options = Options { lifetime_s: 2, ..Options::default() };
    let Some(provider) = Provider::start(&options).await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let wait = format!("while [ ! -e '{}' ]; do sleep 0.05; done; echo one > one.txt", go.display());
    let script = transcript(dir.path(), "wait", &[bash(&wait), say("Add a file\n\nIt is there.")]);
    let repo = sample().await;
    let mut platform = of_provider(platform(&script, "wait"), &provider.issuer)
        .with("BGAGENT__IDENTITY__OIDC__CORP__TEAMS", r#"{ eng = "platform" }"#)
        .with("BGAGENT__TEAMS__PLATFORM__MEMBERS", "[]");
    platform.start().await.unwrap();
    let pid = platform.pid().unwrap();

    let said = signs_in(&platform, "ann", Answer::Agree).await;
    assert_eq!(said.code, 0, "{said:?}\n{}", platform.log());
    assert!(said.out.contains("as corp:ann (member, platform)"), "{said:?}");
    assert_eq!(signed_by(&platform), "key-1");

    // No --api-url: whoever has signed in means that server.
    let repo_path = repo.path().display().to_string();
    let submit = [
        "submit",
        "--output",
        "json",
        "--repo",
        &repo_path,
        "--isolation",
        "process",
        "Wait, then add a file",
    ];
    let said = types(&platform, &submit).await;
    assert_eq!(said.code, 0, "{said:?}");
    let task: Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
    let id = task["task_id"].as_str().unwrap().to_owned();
    platform.wait_for(id.parse().unwrap(), &["RUNNING"], END).await.unwrap();
    let mut watch = platform.command(&["watch", &id]);
    let watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();

    provider.rotate().await.unwrap();
    let renewed = async || {
        let said = whoami(&platform).await;
        assert_eq!(said.code, 0, "nobody is dropped: {said:?}\n{}", platform.log());
        (signed_by(&platform) == "key-2").then_some(())
    };
    testkit::poll::until("a token that the new key signed", END, renewed).await.unwrap();
    provider.retire().await.unwrap();
    assert_eq!(whoami(&platform).await.code, 0);
    provider.rotate().await.unwrap();
    let renewed = async || {
        let said = whoami(&platform).await;
        assert_eq!(said.code, 0, "nobody is dropped: {said:?}\n{}", platform.log());
        (signed_by(&platform) == "key-3").then_some(())
    };
    testkit::poll::until("a token that the next key signed", END, renewed).await.unwrap();

    std::fs::write(&go, "").unwrap();
    let watched = tokio::time::timeout(END, watch.wait_with_output()).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8_lossy(&watched.stdout), String::from_utf8_lossy(&watched.stderr));
    assert_eq!(watched.status.code(), Some(0), "{out}\n{err}\n{}", platform.log());
    let said = types(&platform, &["status", &id, "--output", "json"]).await;
    let task: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(task["status"], "COMPLETED");
    let said = types(&platform, &["list", "--output", "json"]).await;
    assert!(said.out.contains(&id), "it is ann's: {said:?}");
    assert_eq!(platform.pid(), Some(pid), "no restart");
    nothing_leaked(&platform);

    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(platform.state_dir().parent().unwrap().join("config/bgagent/credentials.json"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    platform.end(END).await.unwrap();
}

/// D-095: two commands renewed one token twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_at_once_renew_one_token_once_and_a_logout_ends_it() {
    let options = Options { lifetime_s: 1, ..Options::default() };
    let Some(provider) = Provider::start(&options).await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut platform = of_provider(platform(&small_work(dir.path()), "small"), &provider.issuer);
    platform.start().await.unwrap();
    assert_eq!(signs_in(&platform, "ann", Answer::Agree).await.code, 0);

    // The provider ends a session whose refresh token is used twice.
    for _ in 0..3 {
        let all = tokio::join!(whoami(&platform), whoami(&platform), whoami(&platform), whoami(&platform));
        for said in [all.0, all.1, all.2, all.3] {
            assert_eq!(said.code, 0, "{said:?}");
            let who: Value = serde_json::from_str(&said.out).unwrap();
            assert_eq!((who["user"].as_str(), who["by"].as_str()), (Some("corp:ann"), Some("oidc")));
        }
    }

    let before = kept(&platform);
    let said = types(&platform, &["logout"]).await;
    assert!(said.code == 0 && said.out.contains("Signed out") && !said.err.contains('!'), "{said:?}");
    assert_eq!(kept(&platform)["servers"], json!({}));
    let url = server(&platform);
    let said = types(&platform, &["whoami", "--api-url", &url]).await;
    assert!(said.code == 1 && said.err.contains("bgagent login"), "{said:?}");

    // What was copied before is of no use any more: the provider was told.
    let path = platform.state_dir().parent().unwrap().join("config/bgagent/credentials.json");
    std::fs::write(&path, before.to_string()).unwrap();
    let ended = async || Some(whoami(&platform).await).filter(|said| said.code == 1);
    let said = testkit::poll::until("the session's end", END, ended).await.unwrap();
    assert!(said.err.contains("has expired") && said.err.contains("bgagent login"), "{said:?}");
    assert!(!said.err.contains(login(&platform)["refresh_token"].as_str().unwrap()), "{said:?}");
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_on_this_machine_signs_in_with_pkce() {
    let options = Options { algorithm: "ES256", ..Options::default() };
    let Some(provider) = Provider::start(&options).await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let browser = dir.path().join("browser");
    browser_of("ann", &browser).unwrap();
    let mut platform = of_provider(platform(&small_work(dir.path()), "small"), &provider.issuer)
        .with("BROWSER", browser.display());
    platform.start().await.unwrap();
    let said = types(&platform, &["login", "--browser", "--api-url", &server(&platform)]).await;
    assert!(said.code == 0 && said.out.contains("as corp:ann (member)"), "{said:?}");
    assert_eq!(whoami(&platform).await.code, 0);
    platform.end(END).await.unwrap();
}

/// D-093: only one kind of token was taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_tokens_of_people_and_robots_open_the_server_they_were_made_for() {
    let options = Options { algorithm: "EdDSA", resource: Some("urn:bgagent"), ..Options::default() };
    let Some(provider) = Provider::start(&options).await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut platform = of_provider(platform(&small_work(dir.path()), "small"), &provider.issuer)
        .with("BGAGENT__IDENTITY__OIDC__CORP__TOKEN", "access")
        .with("BGAGENT__IDENTITY__OIDC__CORP__AUDIENCES", r#"["urn:bgagent"]"#)
        .with("BGAGENT__IDENTITY__OIDC__CORP__PARAMETERS", r#"{ resource = "urn:bgagent" }"#)
        .with("BGAGENT__IDENTITY__OIDC__CORP__EVERYONE", "viewer");
    platform.start().await.unwrap();
    // Access tokens of this provider tell of no groups.
    let said = signs_in(&platform, "ann", Answer::Agree).await;
    assert!(said.code == 0 && said.out.contains("as corp:ann (viewer)"), "{said:?}\n{}", platform.log());

    let robot = provider.robot().await.unwrap();
    let asks = |platform: &Platform, token: &str| {
        let call = reqwest::Client::builder().no_proxy().build().unwrap();
        call.get(format!("{}v1/whoami", server(platform))).bearer_auth(token)
    };
    let answer = asks(&platform, &robot).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let who: Value = answer.json().await.unwrap();
    assert_eq!(
        (who["data"]["user"].as_str(), who["data"]["role"].as_str()),
        (Some("corp:robot"), Some("viewer"))
    );

    // The same token is not for a server of another audience.
    platform.kill().await.unwrap();
    platform.set("BGAGENT__IDENTITY__OIDC__CORP__AUDIENCES", r#"["urn:other"]"#);
    platform.start().await.unwrap();
    let answer = asks(&platform, &robot).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let told = answer.text().await.unwrap();
    assert!(told.contains("urn:bgagent") && !told.contains(&robot), "{told}");
    platform.end(END).await.unwrap();
}

/// D-094: a first login ended in nonsense.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_login_that_leads_nowhere_says_why_and_what_to_do() {
    let options = Options {
        people: json!({ "ann": { "groups": ["eng"] }, "bob": { "groups": ["sales"] } }),
        ..Options::default()
    };
    let Some(provider) = Provider::start(&options).await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut platform = of_provider(platform(&small_work(dir.path()), "small"), &provider.issuer);
    platform.start().await.unwrap();

    let said = signs_in(&platform, "ann", Answer::Decline).await;
    assert!(
        said.code == 1 && said.err.contains("access_denied") && said.err.contains("declined"),
        "{said:?}"
    );

    let said = signs_in(&platform, "bob", Answer::Agree).await;
    assert_eq!(said.code, 1, "{said:?}");
    for word in ["you are signed in, but", "corp:bob", "sales", "Ask whoever runs this server", "FORBIDDEN"] {
        assert!(said.err.contains(word), "{word}: {said:?}");
    }

    // Once they have a role, the next login lets them in.
    provider.people(json!({ "bob": { "groups": ["eng"] } })).await.unwrap();
    let said = signs_in(&platform, "bob", Answer::Agree).await;
    assert!(said.code == 0 && said.out.contains("corp:bob (member)"), "{said:?}");

    // Without the provider: who is known goes on, who is not is told so.
    provider.stop().await.unwrap();
    assert_eq!(whoami(&platform).await.code, 0, "{}", platform.log());
    let said = types(&platform, &["login", "--device", "--api-url", &server(&platform)]).await;
    assert!(said.code == 1 && said.err.contains("does not answer"), "{said:?}");
    platform.end(END).await.unwrap();
}

/// A second provider: its keys come and go in one process, and are of every kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_provider_changes_its_keys_under_a_server_that_runs() {
    let Some(mut mint) = Mint::start().await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut platform = of_provider(platform(&small_work(dir.path()), "small"), &mint.issuer)
        .with("BGAGENT__IDENTITY__OIDC__CORP__REQUIRED", "{ email_verified = true }");
    platform.start().await.unwrap();
    let claims = json!({ "aud": "bgagent", "sub": "ann", "groups": ["eng"], "email_verified": true });
    let url = platform.client().unwrap().base().clone();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |token: &str| {
        let answer = http.get(url.join("v1/whoami").unwrap()).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let mut all = vec![mint.token(claims.clone()).await.unwrap()];
    for algorithm in ["ES256", "EdDSA", "RS256"] {
        mint.key(algorithm).await.unwrap();
        all.push(mint.token(claims.clone()).await.unwrap());
    }
    for token in all.iter().rev().chain(&all) {
        assert_eq!(ask(token).await.0, 200);
    }
    for (claim, value, word) in [
        ("exp", json!(1), "expired"),
        ("nbf", json!(9_999_999_999_i64), "not valid yet"),
        ("aud", json!("other"), "other"),
        ("iss", json!("https://evil.example"), "evil.example"),
        ("email_verified", json!(false), "email_verified"),
        ("groups", json!({ "eng": true }), "groups"),
    ] {
        let mut bad = claims.clone();
        bad[claim] = value;
        let token = mint.token(bad).await.unwrap();
        let (status, told) = ask(&token).await;
        assert!(status == 401 && told.contains(word) && !told.contains(&token), "{claim}: {status} {told}");
    }
    let log = platform.log();
    assert!(all.iter().all(|token| !log.contains(token) && !log.contains(token.rsplit('.').next().unwrap())));
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_knows_people_listens_to_other_machines() {
    let dir = tempfile::tempdir().unwrap();
    let script = small_work(dir.path());
    let alone = platform(&script, "small").with("BGAGENT__SERVER__LISTEN", "0.0.0.0:0");
    let said = types(&alone, &["serve"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    for word in ["0.0.0.0:0 is reachable from other machines", "[identity.oidc.NAME]", "127.0.0.1"] {
        assert!(said.err.contains(word), "{word}: {said:?}");
    }
    // The provider need not answer for the server to start; what is wrong with it is in the log.
    let mut known = of_provider(platform(&script, "small"), "http://127.0.0.1:9")
        .with("BGAGENT__SERVER__LISTEN", "0.0.0.0:0");
    known.start().await.unwrap();
    let told = async || known.log().contains("an identity provider cannot be used now").then_some(());
    testkit::poll::until("the word of the provider", Duration::from_secs(30), told).await.unwrap();
    assert!(known.log().contains("unencrypted"));
    known.end(END).await.unwrap();
}

#[tokio::test]
async fn wrong_settings_and_servers_without_sign_in_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let script = small_work(dir.path());
    for (name, value, word) in [
        ("ISSUER", "http://id.example", "https://"),
        ("MEMBERS", "[]", "everyone"),
        ("GROUP_CLAIM", "x", "group_claim"),
        ("EVERYONE", "king", "king"),
    ] {
        let platform = of_provider(platform(&script, "small"), "https://id.example")
            .with(&format!("BGAGENT__IDENTITY__OIDC__CORP__{name}"), value);
        let said = types(&platform, &["serve"]).await;
        assert!(said.code == 1 && said.err.contains(word), "{name}: {said:?}");
    }

    let mut keys_only = platform(&script, "small");
    let said = types(&keys_only, &["login"]).await;
    assert!(said.code == 2 && said.err.contains("--api-url"), "{said:?}");
    let said = types(&keys_only, &["login", "--api-url", "http://id.example"]).await;
    assert!(said.code == 2 && said.err.contains("--plain-http"), "{said:?}");
    keys_only.start().await.unwrap();
    let said = types(&keys_only, &["login", "--api-url", &server(&keys_only)]).await;
    assert!(said.code == 1 && said.err.contains("BGAGENT_API_KEY"), "{said:?}");
    let who = types(&keys_only, &["whoami"]).await;
    assert!(who.code == 0 && who.out.contains("owner") && who.out.contains("the owner's key"), "{who:?}");
    keys_only.end(END).await.unwrap();
}

/// What it holds is not told.
/// D-103: a damaged configuration was a parser's message.
#[tokio::test]
async fn a_damaged_file_of_logins_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let platform = platform(&small_work(dir.path()), "small");
    let folder = platform.state_dir().parent().unwrap().join("config/bgagent");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(Path::new(&folder).join("credentials.json"), "{ \"servers\": 7, \"secret\": \"abc\" }")
        .unwrap();
    let said = types(&platform, &["whoami"]).await;
    assert!(said.code == 1 && said.err.contains("damaged") && said.err.contains("bgagent login"), "{said:?}");
    assert!(!said.err.contains("abc"));
}
