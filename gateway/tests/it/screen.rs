//! The prompt that an agent begins with is screened at the model proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use domain::event::EventKind;
use screening::{Screen, ScreenError, Screens, Source, Verdict};
use serde_json::json;
use store::{EventCursor, EventQuery};

use crate::world::*;

#[derive(Debug, Default)]
struct Words(AtomicUsize);

#[async_trait]
impl Screen for Words {
    async fn screen(&self, source: Source, text: &str) -> Result<Verdict, ScreenError> {
        assert_eq!(source, Source::Prompt);
        let nth = self.0.fetch_add(1, Ordering::SeqCst);
        match text {
            "bad" => Ok(Verdict::Blocked("it is bad".into())),
            "mends" if nth == 0 => {
                Err(ScreenError { screen: "the screen".into(), reason: "it sleeps".into() })
            }
            _ => Ok(Verdict::Passed),
        }
    }
}

async fn world() -> (World, Arc<Words>) {
    let words = Arc::new(Words::default());
    let screens = Screens::new(vec![words.clone()]);
    (World::with(|policy| policy.screens = screens).await, words)
}

async fn ask(world: &World, me: &Boxed, text: &str) -> Answer {
    let messages = json!([{ "role": "user", "content": [{ "type": "text", "text": text }] }]);
    let body = json!({ "max_tokens": 10, "messages": messages });
    world.call("POST", "/model/v1/messages", Some(&me.token), Some(body)).await
}

#[tokio::test]
async fn a_blocked_prompt_reaches_no_model() {
    let (world, _) = world().await;
    let me = world.boxed().await;
    let refused = ask(&world, &me, "bad").await.json(403);
    assert_eq!(refused["error"]["type"], "guardrail_blocked");
    assert_eq!(refused["error"]["message"], "Guardrail blocked: it is bad");
    assert_eq!(world.task(me.task).await.spent.calls, 0);
    let query = EventQuery { task: me.task, from: EventCursor::Start, limit: 100 };
    let events = world.orchestrator.store().events_read(query).await.unwrap();
    let told = events.iter().find(|e| e.kind == EventKind::GuardrailBlocked).unwrap();
    assert_eq!(told.metadata, json!({ "source": "prompt", "reason": "it is bad" }));
    ask(&world, &me, "bad").await.json(403);
}

#[tokio::test]
async fn a_prompt_is_screened_once_and_an_outage_refuses_until_it_is_over() {
    let (world, words) = world().await;
    let me = world.boxed().await;
    let refused = ask(&world, &me, "mends").await.json(503);
    assert!(refused["error"]["message"].as_str().unwrap().contains("it sleeps"), "{refused}");
    ask(&world, &me, "mends").await.json(200);
    ask(&world, &me, "mends").await.json(200);
    assert_eq!(words.0.load(Ordering::SeqCst), 2, "what has passed is not asked about again");
}
