//! A small trace: two turns, one tool call, one file.

use jiff::Timestamp;
use serde_json::{Value, json};
use trace::line::*;
use trace::pack::Packer;
use trace::prefix::{self, Caller, Seen};
use trace::{Entry, Line, Trajectory};

/// What a test may change of it.
#[derive(Debug, Clone)]
pub struct Sample {
    pub task: &'static str,
    pub system: String,
    pub tools: Value,
    pub result: String,
    pub turns: usize,
    pub blob: &'static str,
    pub tree: &'static str,
    pub build: &'static str,
}

impl Default for Sample {
    fn default() -> Sample {
        Sample {
            task: "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            system: "You are an agent. Work well.".into(),
            tools: json!([{ "name": "Bash", "description": "Runs a command.", "input_schema": { "type": "object" } }]),
            result: "4 passed in 0.12s".into(),
            turns: 2,
            blob: "1111111111111111111111111111111111111111",
            tree: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1",
            build: "passed",
        }
    }
}

impl Sample {
    pub fn lines(&self) -> Vec<Line> {
        let branch = format!("bgagent/{}/fix", self.task);
        let header = Header {
            schema: SCHEMA,
            version: "0.1.0".into(),
            task_id: self.task.into(),
            user_id: "ann".into(),
            repo: "octo/cat".into(),
            workflow: "coding/new-task-v1".into(),
            description: "Fix it".into(),
            issue_number: None,
            branch,
            base_branch: Some("main".into()),
            base_sha: Some("b".repeat(40)),
            model: Some("p/m".into()),
            prompt_version: Some("0123456789ab".into()),
            context_window: Some(100_000),
            max_output_tokens: Some(4_000),
            max_turns: 10,
            build_command: Some("sh test.sh".into()),
            lint_command: None,
            isolation: Some("process".into()),
            attempt: 1,
            created_at: Timestamp::UNIX_EPOCH,
        };
        let mut lines = vec![Line::Header(Box::new(header))];
        let mut messages = vec![json!({ "role": "user", "content": [{ "type": "text", "text": "Fix it" }] })];
        let mut seen: Option<Seen> = None;
        for turn in 1..=self.turns {
            let caller = Caller {
                call_id: format!("call_{}_{turn}", self.task),
                attempt: 1,
                turn: u32::try_from(turn).ok(),
                purpose: "main".into(),
                model: "p/m".into(),
            };
            let body = json!({
                "model": "m", "max_tokens": 4_000, "stream": true, "system": self.system, "tools": self.tools,
                "messages": messages,
            });
            let (request, now) = prefix::request(seen.as_ref(), caller.clone(), body);
            seen = Some(now);
            lines.push(Line::ModelRequest(Box::new(request)));
            let id = format!("toolu_{}_{turn}", self.task);
            let content = if turn < self.turns {
                json!([{ "type": "thinking", "thinking": "hm", "signature": "s" },
                    { "type": "tool_use", "id": id, "name": "Bash", "input": { "command": "sh test.sh" } }])
            } else {
                json!([{ "type": "text", "text": "Fixed" }])
            };
            let message = json!({
                "role": "assistant", "content": content,
                "stop_reason": if turn < self.turns { "tool_use" } else { "end_turn" },
                "usage": { "input_tokens": 10 * turn, "output_tokens": 5 },
            });
            lines.push(Line::ModelResponse(Box::new(ModelResponse {
                call_id: caller.call_id,
                attempt: 1,
                turn: caller.turn,
                purpose: "main".into(),
                duration_ms: 7,
                message: Some(message),
                error: None,
            })));
            messages.push(json!({ "role": "assistant", "content": content }));
            let result = [json!({ "type": "text", "text": self.result })];
            let result = json!([{ "type": "tool_result", "tool_use_id": id, "content": result }]);
            messages.push(json!({ "role": "user", "content": result }));
        }
        lines.push(Line::Event(Box::new(Event {
            event_id: "01ARZ3NDEKTSV4RRFFQ69G5FAW".into(),
            event_seq: 1,
            event_type: "task_created".into(),
            metadata: json!({}),
        })));
        lines.push(Line::Work(Box::new(Work {
            base_sha: "b".repeat(40),
            head_sha: "c".repeat(40),
            tree: self.tree.into(),
            files: vec![FileChange {
                path: "add.sh".into(),
                status: "M".into(),
                mode: "100644".into(),
                blob: self.blob.into(),
            }],
            files_left_out: 0,
        })));
        lines.push(Line::Outcome(Box::new(Outcome {
            status: "COMPLETED".into(),
            build: Some(self.build.into()),
            lint: Some("inert".into()),
            turns_attempted: Some(2),
            turns_completed: Some(2),
            code_changed: Some(true),
            model_calls: 2,
            ..Outcome::default()
        })));
        let count = lines.len() as u64 + 1;
        lines.push(Line::End(End { lines: count, truncated: false }));
        lines
    }

    pub fn packed(&self) -> Vec<u8> {
        pack(self.lines())
    }

    pub fn read(&self) -> Trajectory {
        Trajectory::read(self.packed().as_slice()).unwrap()
    }
}

pub fn pack(lines: Vec<Line>) -> Vec<u8> {
    let mut packer = Packer::new();
    for (n, line) in lines.into_iter().enumerate() {
        packer.push(&Entry { seq: n as u64 + 1, time: Timestamp::UNIX_EPOCH, line }).unwrap();
    }
    packer.finish().unwrap()
}
