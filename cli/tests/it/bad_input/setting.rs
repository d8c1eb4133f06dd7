//! Models that are not there, bounds that are not kept, keys and cursors of something else.

use protocol::client::{ClientError, EventQuery};
use protocol::rest::CreateTaskRequest;

use super::{printed, snapshot, told};
use crate::whole::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    small_work(dir.path());
    let repo = sample().await;
    let before = belongings(repo.path()).await;
    let mut with_models = platform(dir.path(), "small");
    with_models.start().await.unwrap();
    let mut text = String::new();
    let model = |model: &str| CreateTaskRequest { model: Some(model.into()), ..request(repo.path(), "x") };
    let paid = CreateTaskRequest { max_budget_usd: Some(5.0), ..request(repo.path(), "x") };
    for (name, request) in [
        ("unknown model", model("demo/none")),
        ("unknown provider", model("nowhere/none")),
        ("budget without a price", paid),
    ] {
        text.push_str(&told(name, &run(&with_models, &request).await));
    }

    let mut without = platform(dir.path(), "small");
    for name in ["PROVIDERS__DEMO__KIND", "PROVIDERS__DEMO__PATH", "DEFAULT"] {
        without.unset(&format!("BGAGENT__MODEL__{name}"));
    }
    without.start().await.unwrap();
    text.push_str(&told("no model", &run(&without, &request(repo.path(), "x")).await));
    let said = types(&without, &["run", "--repo", repo.path().to_str().unwrap(), "x"]).await;
    assert!(said.code == 1 && (said.out + &said.err).contains("MODEL_NOT_CONFIGURED"));
    snapshot("model", &text, &with_models);
    assert_eq!(belongings(repo.path()).await, before);
    with_models.end(END).await.unwrap();
    without.end(END).await.unwrap();
}

fn refusal<T: std::fmt::Debug>(name: &str, answer: Result<T, ClientError>) -> String {
    match answer {
        Err(ClientError::Api { status, code, message, .. }) => {
            format!("{name}: {status} {code}\n  {message}\n")
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_out_of_bounds_and_keys_and_cursors_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut platform = platform(&small_work(dir.path()), "small");
    let repo = sample().await;
    let client = platform.start().await.unwrap();
    let base = || request(repo.path(), "Add a file");
    let turns = |n| CreateTaskRequest { max_turns: Some(n), ..base() };
    let budget = |n| CreateTaskRequest { max_budget_usd: Some(n), ..base() };
    let mut text = String::new();
    for (name, request) in [
        ("no turns", turns(0)),
        ("negative turns", turns(-1)),
        ("too many turns", turns(501)),
        ("too small a budget", budget(0.001)),
        ("negative budget", budget(-5.0)),
        ("too great a budget", budget(100.01)),
        ("no description", CreateTaskRequest { task_description: Some(" ".into()), ..base() }),
        ("no repository", CreateTaskRequest { repo: None, ..base() }),
        (
            "a branch that is an option",
            CreateTaskRequest { base_branch: Some("--upload-pack=x".into()), ..base() },
        ),
        (
            "a workflow of later",
            CreateTaskRequest {
                workflow_ref: Some("coding/pr-review-v1".into()),
                pr_number: Some(1),
                ..base()
            },
        ),
    ] {
        text.push_str(&refusal(name, client.create_task(&request, None).await));
    }
    text.push_str(&refusal("a key with a space", client.create_task(&base(), Some("a b")).await));

    let (first, _) = client.create_task(&base(), Some("the-key")).await.unwrap();
    let (again, _) = client.create_task(&base(), Some("the-key")).await.unwrap();
    assert_eq!(first.task_id, again.task_id);
    text.push_str(&refusal(
        "the same key, another body",
        client.create_task(&turns(7), Some("the-key")).await,
    ));
    let (second, _) = client.create_task(&base(), Some("another-key")).await.unwrap();
    let (first, second) = (first.task_id.parse().unwrap(), second.task_id.parse().unwrap());
    platform.ended(first, END).await.unwrap();
    platform.ended(second, END).await.unwrap();
    let client = platform.client().unwrap();
    let of_first = events(&platform, first).await.pop().unwrap().event_id;
    let ask = |after: &str, next: Option<&str>| EventQuery {
        after: (!after.is_empty()).then(|| after.to_owned()),
        next_token: next.map(str::to_owned),
        ..EventQuery::default()
    };
    text.push_str(&refusal("another task's cursor", client.events(second, &ask(&of_first, None)).await));
    text.push_str(&refusal("no cursor at all", client.events(second, &ask("yesterday", None)).await));
    text.push_str(&refusal("a page token of nobody", client.events(second, &ask("", Some("AAAA"))).await));
    let query = EventQuery { limit: Some(1), ..EventQuery::default() };
    let token = client.events(first, &query).await.unwrap().pagination.next_token.unwrap();
    text.push_str(&refusal("another task's page token", client.events(second, &ask("", Some(&token))).await));
    let nobody = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    text.push_str(&refusal("no such task", client.task(nobody).await));
    snapshot("request", &text, &platform);

    let url = platform.client().unwrap().base().to_string();
    let mut stranger = platform.command(&["list", "--api-url", &url]);
    let output = stranger.env("BGAGENT_API_KEY", "bgak_not-the-owner").output().await.unwrap();
    let said = Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(said.code == 1 && said.out.is_empty() && !said.err.contains("bgak_not"), "{said:?}");
    snapshot("wrong_key", &printed("bgagent list", &said), &platform);
    platform.end(END).await.unwrap();
}
