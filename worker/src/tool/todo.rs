//! `TodoWrite`: the agent's own list of steps. Kept in memory, shown in the timeline, carried through compaction.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Input, ToolError, ToolOutput, Workspace};

const MAX_ITEMS: usize = 100;
const MAX_CHARS: usize = 500;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Todo {
    /// What to do.
    pub content: String,
    /// How far it is.
    pub status: TodoStatus,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TodoStatus {
    /// Not begun.
    Pending,
    /// Being done.
    InProgress,
    /// Done.
    Completed,
}

/// What the model is told of it.
pub fn definition() -> (&'static str, Value) {
    let description = "Keeps your list of steps for a task of several steps. Send the whole list each time; mark a step \
        completed as soon as it is, and keep one step in_progress.";
    let item = json!({
        "type": "object",
        "properties": {
            "content": { "type": "string", "description": "The step, in the imperative" },
            "status": { "type": "string", "enum": ["pending", "in_progress", "completed"] },
        },
        "required": ["content", "status"],
    });
    let schema = json!({
        "type": "object",
        "properties": { "todos": { "type": "array", "items": item } },
        "required": ["todos"],
    });
    (description, schema)
}

/// Replaces the list.
pub fn run(at: &Workspace, input: Input<'_>) -> Result<ToolOutput, ToolError> {
    let items = input.objects("todos")?;
    if items.len() > MAX_ITEMS {
        return Err(
            input.refuse("todos", &format!("may have {MAX_ITEMS} steps at most, it has {}", items.len()))
        );
    }
    let mut todos = Vec::with_capacity(items.len());
    for (n, item) in items.iter().enumerate() {
        let status = match item.text("status")? {
            "pending" => TodoStatus::Pending,
            "in_progress" => TodoStatus::InProgress,
            "completed" => TodoStatus::Completed,
            other => {
                let shown = domain::event::preview(other, 40);
                let why = format!("must be pending, in_progress or completed, it was {shown:?}");
                return Err(input.refuse(&format!("todos[{n}].status"), &why));
            }
        };
        todos.push(Todo { content: domain::event::preview(item.text("content")?, MAX_CHARS), status });
    }
    at.set_todos(todos.clone());
    Ok(ToolOutput::text(format!("The list of steps was saved.\n{}", render(&todos))))
}

/// The list as lines, `[x]` for what is done.
pub fn render(todos: &[Todo]) -> String {
    let line = |todo: &Todo| {
        let mark = match todo.status {
            TodoStatus::Pending => ' ',
            TodoStatus::InProgress => '>',
            TodoStatus::Completed => 'x',
        };
        format!("[{mark}] {}", todo.content)
    };
    todos.iter().map(line).collect::<Vec<_>>().join("\n")
}
