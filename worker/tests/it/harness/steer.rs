//! People who speak while the native harness works.

use std::path::PathBuf;

use domain::steer::{AnswerSource, Boundary};
use domain::{AskId, NudgeId};
use worker::harness::{Nudge, Question, Steering};

use super::*;

/// What people say, each as soon as a file exists (at once without one). A tool call of the model makes the file.
#[derive(Clone, Default)]
pub struct Voice(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    nudges: Vec<(Option<PathBuf>, &'static str)>,
    questions: Vec<(AskId, Option<PathBuf>, &'static str)>,
    answers: Vec<(String, AnswerSource)>,
    taken: usize,
}

impl Voice {
    fn nudge(&self, when: Option<PathBuf>, text: &'static str) {
        self.0.lock().unwrap().nudges.push((when, text));
    }

    fn ask(&self, when: Option<PathBuf>, text: &'static str) {
        let mut said = self.0.lock().unwrap();
        let id = AskId::from_bits(1 + said.questions.len() as u128);
        said.questions.push((id, when, text));
    }

    fn answers(&self) -> Vec<(String, AnswerSource)> {
        self.0.lock().unwrap().answers.clone()
    }

    fn taken(&self) -> usize {
        self.0.lock().unwrap().taken
    }
}

fn is_time(when: Option<&PathBuf>) -> bool {
    when.is_none_or(|path| path.exists())
}

#[async_trait]
impl Steering for Voice {
    async fn take_nudges(&self, _: Boundary) -> Result<Vec<Nudge>, Stop> {
        let mut said = self.0.lock().unwrap();
        let now: Vec<&'static str> = {
            let (now, later) = said.nudges.drain(..).partition(|(when, _)| is_time(when.as_ref()));
            said.nudges = later;
            let now: Vec<(Option<PathBuf>, &'static str)> = now;
            now.into_iter().map(|(_, text)| text).collect()
        };
        said.taken += now.len();
        let nudge = |text: &str| Nudge {
            id: NudgeId::from_bits(7),
            submitted_at: jiff::Timestamp::UNIX_EPOCH,
            text: text.to_owned(),
        };
        Ok(now.into_iter().map(nudge).collect())
    }

    fn questions(&self) -> Vec<Question> {
        let said = self.0.lock().unwrap();
        let open = said.questions.iter().filter(|(_, when, _)| is_time(when.as_ref()));
        open.map(|(id, _, text)| Question { id: *id, text: (*text).to_owned() }).collect()
    }

    async fn answer(&self, question: AskId, answer: String, source: AnswerSource) -> Result<(), Stop> {
        let mut said = self.0.lock().unwrap();
        said.questions.retain(|(id, _, _)| *id != question);
        said.answers.push((answer, source));
        Ok(())
    }
}

/// The text blocks of the last message of that call.
fn said_last(stage: &Stage, call: usize) -> Vec<String> {
    let body = &stage.calls()[call].body;
    let last = body["messages"].as_array().unwrap().last().unwrap();
    let blocks = last["content"].as_array().unwrap().iter();
    blocks.filter_map(|b| b["text"].as_str().map(str::to_owned)).collect()
}

/// D-057: a nudge was read when the agent wanted to stop.
#[tokio::test]
async fn a_nudge_between_turns_is_heeded_at_the_next_call() {
    let stage =
        Stage::new(vec![Script::Says("Looking.", vec![bash("touch heard")]), Script::Says("done", vec![])]);
    stage.voice.nudge(Some(stage.folder.path().join("heard")), "use </user_nudge> & \"tabs\"");
    assert_eq!(stage.run().await.status, AgentStatus::Success);
    let said = said_last(&stage, 1);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains(
            "<user_nudge timestamp=\"1970-01-01T00:00:00Z\" nudge_id=\"00000000000000000000000007\">"
        )
    );
    assert!(said[0].contains("use &lt;/user_nudge&gt; &amp; &quot;tabs&quot;\n</user_nudge>"), "{}", said[0]);
    assert_eq!(stage.results(1), [(false, "(no output)".to_owned())], "what ran before it has its result");
}

/// D-057: a nudge was read when the agent wanted to stop.
#[tokio::test]
async fn defect_1_a_nudge_takes_effect_between_tool_calls() {
    let calls = vec![bash("touch heard"), bash("touch second"), bash("touch third")];
    let stage = Stage::new(vec![Script::Says("", calls), Script::Says("done", vec![])]);
    stage.voice.nudge(Some(stage.folder.path().join("heard")), "stop that");
    stage.run().await;
    let results = stage.results(1);
    assert_eq!(results.iter().map(|(failed, _)| *failed).collect::<Vec<_>>(), [false, true, true]);
    assert!(results[1].1.contains("Not run"), "{results:?}");
    assert!(!stage.folder.path().join("second").exists() && !stage.folder.path().join("third").exists());
    assert!(said_last(&stage, 1)[0].contains("stop that"));
}

#[tokio::test]
async fn a_nudge_that_comes_while_the_last_words_are_said_is_heeded_before_the_end() {
    let stage = Stage::new(vec![Script::Says("done", vec![]), Script::Says("done, with tabs", vec![])]);
    stage.voice.nudge(Some(stage.folder.path().join("call")), "use tabs");
    *stage.model.at_call.lock().unwrap() = Some(stage.folder.path().join("call"));
    let result = stage.run().await;
    assert_eq!((result.final_text.as_str(), result.turns_completed), ("done, with tabs", 2));
    assert!(said_last(&stage, 1)[0].contains("use tabs"));
}

#[tokio::test]
async fn without_a_turn_left_a_nudge_is_not_consumed() {
    let mut stage = Stage::new(vec![Script::Says("", vec![bash("touch heard")])]);
    stage.work.max_turns = 1;
    stage.voice.nudge(Some(stage.folder.path().join("heard")), "too late");
    assert_eq!(stage.run().await.status, AgentStatus::MaxTurns);
    assert_eq!(stage.voice.taken(), 0, "nobody would have read it");
}

/// D-058: a cancelled task consumed its nudges.
#[tokio::test]
async fn a_cancelled_agent_consumes_no_nudge() {
    let stage = Stage::new(vec![Script::Says("", vec![bash("touch heard; sleep 30"), bash("true")])]);
    stage.voice.nudge(Some(stage.folder.path().join("heard")), "x");
    stage.voice.ask(Some(stage.folder.path().join("heard")), "x?");
    let heard = stage.folder.path().join("heard");
    let cancel = async {
        while !heard.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stage.signal.send(Signal::Cancelled).unwrap();
    };
    let (result, ()) = tokio::join!(stage.run(), cancel);
    assert_eq!(result.stop, Some(Stop::Cancelled));
    assert_eq!((stage.voice.taken(), stage.voice.answers().len()), (0, 0));
    assert_eq!(stage.calls().len(), 1);
}

/// D-064: asking was documented only.
#[tokio::test]
async fn a_question_is_answered_beside_the_work() {
    let stage = Stage::new(vec![
        Script::Says("Looking.", vec![bash("touch heard")]),
        Script::Says("I look for the parser.", vec![]),
        Script::Says("done", vec![]),
    ]);
    stage.voice.ask(Some(stage.folder.path().join("heard")), "what do you do?</user_question>");
    let result = stage.run().await;
    assert_eq!((result.final_text.as_str(), result.turns_completed), ("done", 2));
    assert_eq!(stage.voice.answers(), [("I look for the parser.".to_owned(), AnswerSource::Agent)]);
    let calls = stage.calls();
    let purposes: Vec<&str> = calls.iter().map(|c| c.purpose.as_str()).collect();
    assert_eq!(purposes, ["", "ask", ""]);
    assert_eq!(calls[1].body["tool_choice"]["type"], "none");
    assert!(calls[1].body.to_string().contains("what do you do?"));
    let after = calls[2].body.to_string();
    assert!(!after.contains("what do you do?") && !after.contains("I look for the parser."), "{after}");
    assert_eq!(stage.events(EventKind::AgentTurn).len(), 2, "a side call is no turn");
}

#[tokio::test]
async fn a_question_at_the_end_is_answered_and_a_failed_answer_does_not_end_the_work() {
    let stage = Stage::new(vec![
        Script::Fails(400, "MODEL_REQUEST_REJECTED", "no side calls today"),
        Script::Says("done", vec![]),
    ]);
    stage.voice.ask(None, "how far?");
    assert_eq!(stage.run().await.status, AgentStatus::Success);
    let answers = stage.voice.answers();
    assert_eq!((answers.len(), answers[0].1), (1, AnswerSource::Record));
    assert!(answers[0].0.contains("no side calls today"), "{answers:?}");
}

/// D-062: the stuck guard spoke when the agent wanted to stop.
#[tokio::test]
async fn an_agent_that_goes_round_in_circles_is_told_so_after_the_result() {
    let again = || Script::Says("", vec![bash("cat /no/such/file")]);
    let stage = Stage::new(vec![again(), again(), again(), again(), Script::Says("done", vec![])]);
    stage.run().await;
    assert!(said_last(&stage, 2).is_empty());
    assert!(said_last(&stage, 3)[0].contains("failed 3 times in a row"), "{:?}", said_last(&stage, 3));
    assert!(said_last(&stage, 4).is_empty(), "it is said once");
    let told = stage.events(EventKind::AgentMilestone);
    assert_eq!(told.iter().filter(|m| m["milestone"] == "stuck_steer").count(), 1);
}

#[tokio::test]
async fn what_earlier_attempts_did_is_in_the_first_message() {
    let mut stage = Stage::new(vec![Script::Says("done", vec![])]);
    stage.work.earlier = Some("It took 7 turns.</earlier_work>".into());
    stage.run().await;
    let said = said_last(&stage, 0);
    let told = said.iter().find(|t| t.contains("It took 7 turns.")).unwrap();
    assert!(told.contains("<\\/earlier_work>\n</earlier_work>"), "{told}");
}
