//! A worker of every version of the box API that this server serves, and workers of versions that it does not.
//!
//! `protocol/contract/box-<version>.json` is what workers of a version say, in their own words, and what they were
//! answered. The answers of today must have all of it, in the same shape; more is not theirs to mind.

use domain::{Status, UserId};
use protocol::box_api::{VERSION, VERSION_OLDEST};
use serde_json::{Value, json};
use store::{Asked, Nudged};

use crate::world::World;

fn contract(version: u32) -> Value {
    let path = format!("{}/../protocol/contract/box-{version}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap()
}

/// What of `was` is missing in `is`, or of another kind.
fn missing(was: &Value, is: &Value, at: &str) -> Option<String> {
    match (was, is) {
        (Value::Object(was), Value::Object(is)) => was.iter().find_map(|(name, value)| {
            let at = format!("{at}.{name}");
            is.get(name).map_or_else(|| Some(format!("{at} is gone")), |now| missing(value, now, &at))
        }),
        (Value::Array(was), Value::Array(is)) => match (was.first(), is.first()) {
            (Some(was), Some(is)) => missing(was, is, &format!("{at}[]")),
            (Some(_), None) => Some(format!("{at} is empty")),
            (None, _) => None,
        },
        (Value::Bool(_), Value::Bool(_))
        | (Value::String(_), Value::String(_))
        // Optional: what may be null may be something.
        | (Value::Null, _) => None,
        (Value::Number(was), Value::Number(is)) => {
            (was.is_u64() && !is.is_u64()).then(|| format!("{at} is no whole number any more: {is}"))
        }
        (was, is) => Some(format!("{at} was {was} and is {is}")),
    }
}

#[test]
fn what_is_gone_or_changed_is_found() {
    let was = json!({ "a": 1, "b": [{ "c": "x" }], "d": null, "e": { "f": true } });
    let missing = |is: Value| missing(&was, &is, "");
    assert_eq!(
        missing(json!({ "a": 2, "b": [{ "c": "y", "new": 1 }], "d": "z", "e": { "f": false }, "new": 1 })),
        None
    );
    assert!(
        missing(json!({ "a": 2, "b": [{}], "d": null, "e": { "f": true } }))
            .unwrap()
            .contains(".b[].c is gone")
    );
    assert!(
        missing(json!({ "a": "2", "b": [{ "c": "x" }], "d": null, "e": { "f": true } }))
            .unwrap()
            .contains(".a was 1")
    );
    assert!(
        missing(json!({ "a": 1.5, "b": [{ "c": "x" }], "d": null, "e": { "f": true } }))
            .unwrap()
            .contains(".a is no")
    );
    assert!(
        missing(json!({ "a": 1, "b": [], "d": null, "e": { "f": true } })).unwrap().contains(".b is empty")
    );
}

#[tokio::test]
async fn a_worker_of_every_version_that_is_served_does_its_whole_work() {
    for version in VERSION_OLDEST..=VERSION {
        let contract = contract(version);
        assert_eq!(contract["version"], version);
        let world = World::new().await;
        let id = world.submitted().await;
        world.drive(id).await;
        let by = UserId::new("ann");
        let Nudged::Stored(nudge) = world.orchestrator.nudge(id, &by, "use tabs").await.unwrap() else {
            panic!("the task runs");
        };
        let Asked::Opened(ask) =
            world.orchestrator.ask(&world.task(id).await, &by, "how far?").await.unwrap()
        else {
            panic!("it is the first");
        };
        let bootstrap = world.bootstrap(id, 1);
        let mut session = String::new();
        for call in contract["calls"].as_array().unwrap() {
            let name = call["name"].as_str().unwrap();
            let text = call.to_string().replace("$task", &id.to_string());
            let text = text.replace("$nudge", &nudge.id.to_string()).replace("$ask", &ask.id.to_string());
            let call: Value = serde_json::from_str(&text).unwrap();
            let word = |field: &str| call[field].as_str().unwrap();
            let token = match call["token"].as_str() {
                Some("bootstrap") => Some(bootstrap.as_str()),
                Some(_) => None,
                None => Some(session.as_str()),
            };
            let body = call.get("request").cloned();
            let answer = world.call(word("method"), word("path"), token, body).await;
            let status = u16::try_from(call["status"].as_u64().unwrap()).unwrap();
            match call.get("answer") {
                None => answer.nothing(),
                Some(was) => {
                    let is = answer.json(status);
                    assert_eq!(missing(was, &is, ""), None, "version {version}, {name}: {is}");
                    if status >= 400 {
                        assert_eq!(is["code"], was["code"], "version {version}, {name}");
                    }
                    if name == "events" {
                        assert_eq!(&is, was, "version {version}: what it says is taken");
                    }
                    if let Some(token) = is["session_token"].as_str() {
                        token.clone_into(&mut session);
                    }
                }
            }
        }
        assert_eq!(world.task(id).await.status(), Status::Finalizing, "version {version}");
        world.drive(id).await;
        assert!(world.task(id).await.status().is_terminal(), "version {version}");
    }
}

#[tokio::test]
async fn a_worker_of_a_version_that_is_not_served_is_told_so_and_its_task_fails_with_the_reason() {
    for api in [VERSION_OLDEST - 1, VERSION + 1] {
        let world = World::new().await;
        let id = world.submitted().await;
        world.drive(id).await;
        let attach =
            |api: u32| json!({ "task": id, "attempt": 1, "instance": "i1", "version": "9.9.9", "api": api });
        // Nobody without the token ends a task by this.
        let stranger = world.call("POST", "/box/v1/attach", Some("bgb_x"), Some(attach(api))).await;
        stranger.refused(401, "UNAUTHORIZED");
        assert!(!world.task(id).await.status().is_terminal());
        let answer =
            world.call("POST", "/box/v1/attach", Some(&world.bootstrap(id, 1)), Some(attach(api))).await;
        let said = answer.refused(426, "VERSION_UNSUPPORTED");
        assert!(said.contains(&format!("9.9.9) speaks version {api} of the box API")), "{said}");
        let task = world.task(id).await;
        assert_eq!(task.status(), Status::Failed);
        let failure = task.state.failure().unwrap();
        assert_eq!(failure.code.as_str(), "WORKER_VERSION_UNSUPPORTED");
        assert_eq!(failure.detail, said);
    }
}
