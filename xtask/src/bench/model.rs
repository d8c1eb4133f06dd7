//! A model that answers at once: Anthropic Messages over HTTP, in this process, with a clock on every request.
//!
//! What it says follows from the request alone: the turn is the number of the assistant's messages so far. It can be
//! told to hold its answers back, to look at what waits for them.

use std::{
    io::{BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Instant,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::http;

/// What the model does in a turn, counted from 0.
type Script = Arc<dyn Fn(usize) -> Vec<Value> + Send + Sync>;

/// The model. It serves until the process ends.
pub struct Model {
    /// Where it listens.
    pub url: String,
    /// Every request, once it was answered.
    pub asked: mpsc::Receiver<Asked>,
    gate: Arc<Gate>,
}

/// One request.
pub struct Asked {
    /// When its last byte was here.
    pub at: Instant,
    /// When its answer was on its way.
    pub answered: Instant,
    /// Which turn it was.
    pub turn: usize,
}

#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    waiting: Mutex<usize>,
    moved: Condvar,
}

impl Model {
    /// Starts it on any free port.
    pub fn start(script: impl Fn(usize) -> Vec<Value> + Send + Sync + 'static) -> Result<Model> {
        let script: Script = Arc::new(script);
        let listener = TcpListener::bind("127.0.0.1:0").context("listening for the model")?;
        let url = format!("http://{}", listener.local_addr().context("asking for the model's port")?);
        let (tell, asked) = mpsc::channel();
        let gate = Arc::new(Gate::default());
        let door = gate.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, tell, gate) = (script.clone(), tell.clone(), door.clone());
                // A connection that breaks shows in the figures: its task does not end.
                thread::spawn(move || serve(stream, &script, &tell, &gate).ok());
            }
        });
        Ok(Model { url, asked, gate })
    }

    /// The settings of a server that uses it.
    pub fn settings(&self) -> Vec<(String, String)> {
        let setting = |name: &str, value: &str| (format!("BGAGENT__MODEL__{name}"), value.to_owned());
        vec![
            setting("PROVIDERS__BENCH__KIND", "anthropic"),
            setting("PROVIDERS__BENCH__BASE_URL", &self.url),
            setting("PROVIDERS__BENCH__API_KEY", "none"),
            setting("DEFAULT", "bench/instant"),
        ]
    }

    /// Answers nothing until [`release`](Model::release).
    pub fn hold(&self) {
        *lock(&self.gate.closed) = true;
    }

    /// Answers what waits, and everything after it.
    pub fn release(&self) {
        *lock(&self.gate.closed) = false;
        self.gate.moved.notify_all();
    }

    /// How many requests wait for their answer.
    pub fn waiting(&self) -> usize {
        *lock(&self.gate.waiting)
    }
}

/// A block that says something.
pub fn text(words: &str) -> Value {
    json!({ "type": "text", "text": words })
}

/// A block that calls a tool.
pub fn call(id: &str, tool: &str, input: &Value) -> Value {
    json!({ "type": "tool_use", "id": id, "name": tool, "input": input })
}

fn serve(stream: TcpStream, script: &Script, tell: &mpsc::Sender<Asked>, gate: &Gate) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(head) = http::head(&mut stream)? {
        let mut body = vec![0; head.length];
        stream.read_exact(&mut body)?;
        if !head.first.contains("/v1/messages") {
            answer(stream.get_mut(), "application/json", r#"{"data":[]}"#)?;
            continue;
        }
        let at = Instant::now();
        gate.pass();
        let request: Value = serde_json::from_slice(&body)?;
        let said = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let turn = said.iter().filter(|message| message["role"] == "assistant").count();
        answer(stream.get_mut(), "text/event-stream", &events(&script(turn)))?;
        // Whoever measures may have what it wants.
        drop(tell.send(Asked { at, answered: Instant::now(), turn }));
    }
    Ok(())
}

impl Gate {
    fn pass(&self) {
        *lock(&self.waiting) += 1;
        let mut closed = lock(&self.closed);
        while *closed {
            closed = self.moved.wait(closed).unwrap_or_else(PoisonError::into_inner);
        }
        drop(closed);
        *lock(&self.waiting) -= 1;
    }
}

fn answer(stream: &mut TcpStream, kind: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let whole = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(whole.as_bytes())
}

/// A reply as the events it is streamed in.
fn events(content: &[Value]) -> String {
    let calls = content.iter().any(|block| block["type"] == "tool_use");
    let usage = json!({ "input_tokens": 10, "output_tokens": 10 });
    let mut all = vec![json!({ "type": "message_start", "message": {
        "id": "msg_bench", "type": "message", "role": "assistant", "model": "instant", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage,
    }})];
    for (index, block) in content.iter().enumerate() {
        let (empty, delta) = if block["type"] == "tool_use" {
            let empty = json!({ "type": "tool_use", "id": block["id"], "name": block["name"], "input": {} });
            (empty, json!({ "type": "input_json_delta", "partial_json": block["input"].to_string() }))
        } else {
            (json!({ "type": "text", "text": "" }), json!({ "type": "text_delta", "text": block["text"] }))
        };
        all.push(json!({ "type": "content_block_start", "index": index, "content_block": empty }));
        all.push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        all.push(json!({ "type": "content_block_stop", "index": index }));
    }
    let reason = if calls { "tool_use" } else { "end_turn" };
    let delta = json!({ "stop_reason": reason, "stop_sequence": null });
    all.push(json!({ "type": "message_delta", "delta": delta, "usage": { "output_tokens": 10 } }));
    all.push(json!({ "type": "message_stop" }));
    let frame =
        |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    all.iter().map(frame).collect()
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_each_turn_with_its_own_words_and_says_when() {
        let model = Model::start(|turn| vec![text(&format!("turn {turn}"))]).unwrap();
        let mut stream = TcpStream::connect(model.url.trim_start_matches("http://")).unwrap();
        let body = r#"{"messages":[{"role":"user"},{"role":"assistant"},{"role":"user"}]}"#;
        let length = body.len();
        write!(stream, "POST /v1/messages HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        let asked = model.asked.recv().unwrap();
        assert_eq!(asked.turn, 1);
        let mut stream = BufReader::new(stream);
        let head = http::head(&mut stream).unwrap().unwrap();
        let mut answer = vec![0; head.length];
        stream.read_exact(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("turn 1") && answer.contains("end_turn"), "{answer}");
    }
}
