//! The box API as servers of every version speak it, read by a worker of this build; and what workers of every version
//! say, read by a server of this build.

use domain::report::Report;
use protocol::box_api::{
    AskAnswer, AttachRequest, AttachResponse, BoxError, Directives, EventBatch, EventsAccepted, Heartbeat,
    TakeNudges, TakenNudges, VERSION, VERSION_OLDEST,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

fn read<T: DeserializeOwned>(value: &Value, what: &str) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{what}: {e}"))
}

fn calls(version: u32) -> Vec<Value> {
    let path = format!("{}/contract/box-{version}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let text = ["$task", "$nudge", "$ask"]
        .iter()
        .fold(text, |text, id| text.replace(id, "01HF7YAT000000000000000001"));
    let all: Value = serde_json::from_str(&text).unwrap();
    all["calls"].as_array().unwrap().clone()
}

#[test]
fn there_is_a_contract_of_every_version_that_is_served() {
    assert!((1..=VERSION).contains(&VERSION_OLDEST));
    for version in VERSION_OLDEST..=VERSION {
        assert!(!calls(version).is_empty());
    }
}

#[test]
fn every_call_and_answer_of_every_version_is_understood() {
    for version in VERSION_OLDEST..=VERSION {
        for call in calls(version) {
            let name = call["name"].as_str().unwrap();
            let what = format!("version {version}, {name}");
            let (request, answer) = (&call["request"], &call["answer"]);
            match name {
                "attach" => {
                    let said: AttachRequest = read(request, &what);
                    assert_eq!(said.api, version, "{what}: the version that a worker of it is taken for");
                    let spec = read::<AttachResponse>(answer, &what).spec;
                    assert_eq!(
                        (spec.max_turns, spec.save_interval_s),
                        (100, 0),
                        "{what}: what an older server does not say is off"
                    );
                }
                "events" => {
                    assert_eq!(read::<EventBatch>(request, &what).events.len(), 9);
                    read::<EventsAccepted>(answer, &what);
                }
                "directives" => assert_eq!(read::<Directives>(answer, &what).asks.len(), 1),
                "nudges/take" => {
                    read::<TakeNudges>(request, &what);
                    read::<TakenNudges>(answer, &what);
                }
                "asks/answer" => drop(read::<AskAnswer>(request, &what)),
                "heartbeat" => {
                    read::<Heartbeat>(request, &what);
                    assert!(!read::<Directives>(answer, &what).cancel);
                }
                "result" => drop(read::<Report>(request, &what)),
                "started" | "artifact" => (),
                _refused => drop(read::<BoxError>(answer, &what)),
            }
        }
    }
}
