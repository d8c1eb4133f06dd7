//! What people say to agents: nudges and questions.

use domain::steer::{Answer, AnswerSource, Ask, Nudge, ask_answered, ask_opened, nudges_acknowledged};
use domain::{AskId, Attempt, NudgeId, TaskId, UserId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::event::{By, Head};
use super::fault::Fault;
use super::task::load;
use super::value::{At, Bits};
use crate::record::{Answered, Asked, NewAnswer, NewAsk, NewNudge, NudgeTake, Nudged, NudgesTaken};
use crate::rule;

/// See [`crate::Store::nudge_add`].
pub(super) fn nudge_add(tx: &Connection, new: &NewNudge) -> Result<Nudged, Fault> {
    let head = Head::load(tx, new.task)?;
    if head.status.is_terminal() {
        return Ok(Nudged::Ended(head.status));
    }
    let sql = "SELECT submitted_at FROM nudge WHERE task_id = ?1 AND submitted_at > ?2 ORDER BY number";
    if let Some(wait) = rule::too_many(&recent(tx, sql, new.task, new.now)?, new.per_minute, new.now) {
        return Ok(Nudged::TooMany(wait));
    }
    tx.prepare_cached(
        "INSERT INTO nudge (id, task_id, person, text, submitted_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        Bits(new.id.bits()),
        Bits::from(new.task),
        new.by.as_str(),
        new.text,
        At(new.now)
    ])?;
    Ok(Nudged::Stored(Nudge {
        id: new.id,
        task: new.task,
        by: new.by.clone(),
        text: new.text.clone(),
        submitted_at: new.now,
        taken: None,
    }))
}

/// See [`crate::Store::nudge_list`].
pub(super) fn nudge_list(db: &Connection, task: TaskId) -> Result<Vec<Nudge>, Fault> {
    let mut statement = db.prepare_cached(
        "SELECT id, task_id, person, text, submitted_at, taken_attempt, taken_at FROM nudge
         WHERE task_id = ?1 ORDER BY number",
    )?;
    let rows = statement.query_map([Bits::from(task)], nudge)?;
    rows.map(|row| Ok(row?)).collect()
}

/// See [`crate::Store::nudge_take`].
pub(super) fn nudge_take(tx: &Connection, take: &NudgeTake) -> Result<NudgesTaken, Fault> {
    if !rule::may_take(&load(tx, take.task)?, take.attempt) {
        return Ok(NudgesTaken::Superseded);
    }
    let (known, fresh) = rule::takeable(nudge_list(tx, take.task)?, take);
    let mut mark = tx.prepare_cached("UPDATE nudge SET taken_attempt = ?2, taken_at = ?3 WHERE id = ?1")?;
    for nudge in &fresh {
        mark.execute(params![Bits(nudge.id.bits()), take.attempt.0, At(take.now)])?;
    }
    if !fresh.is_empty() {
        say(tx, take.task, &nudges_acknowledged(&fresh), take.now)?;
    }
    Ok(NudgesTaken::Taken(known.into_iter().chain(fresh).collect()))
}

/// See [`crate::Store::ask_open`].
pub(super) fn ask_open(tx: &Connection, new: &NewAsk) -> Result<Asked, Fault> {
    let head = Head::load(tx, new.task)?;
    let open: Option<Bits> = tx
        .prepare_cached("SELECT id FROM ask WHERE task_id = ?1 AND person = ?2 AND answered_at IS NULL")?
        .query_row(params![Bits::from(new.task), new.by.as_str()], |r| r.get(0))
        .optional()?;
    if let Some(open) = open {
        return Ok(Asked::AlreadyOpen(AskId::from_bits(open.0)));
    }
    let sql = "SELECT opened_at FROM ask WHERE task_id = ?1 AND opened_at > ?2 ORDER BY number";
    if let Some(wait) = rule::too_many(&recent(tx, sql, new.task, new.now)?, new.per_minute, new.now) {
        return Ok(Asked::TooMany(wait));
    }
    let ask = rule::ask_of(new);
    let answer = ask.answer.as_ref();
    tx.prepare_cached(
        "INSERT INTO ask (id, task_id, person, question, opened_at, answer, source, answered_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        Bits(ask.id.bits()),
        Bits::from(ask.task),
        ask.by.as_str(),
        ask.question,
        At(ask.opened_at),
        answer.map(|a| a.text.as_str()),
        answer.map(|a| a.source.as_str()),
        answer.map(|a| At(a.at))
    ])?;
    if !head.status.is_terminal() {
        say(tx, ask.task, &ask_opened(&ask), new.now)?;
        if let Some(answer) = answer {
            say(tx, ask.task, &ask_answered(&ask, answer), new.now)?;
        }
    }
    Ok(Asked::Opened(ask))
}

/// See [`crate::Store::ask_answer`].
pub(super) fn ask_answer(tx: &Connection, new: &NewAnswer) -> Result<Answered, Fault> {
    let head = Head::load(tx, new.task)?;
    if let Some(attempt) = new.attempt
        && (head.status.is_terminal() || head.attempt != attempt)
    {
        return Ok(Answered::Superseded);
    }
    let Some(mut ask) = ask_list(tx, new.task)?.into_iter().find(|a| a.id == new.ask) else {
        return Ok(Answered::NoSuchAsk);
    };
    if ask.answer.is_some() {
        return Ok(Answered::Settled(ask));
    }
    let answer = Answer { text: new.text.clone(), source: new.source, at: new.now };
    tx.prepare_cached("UPDATE ask SET answer = ?2, source = ?3, answered_at = ?4 WHERE id = ?1")?
        .execute(params![Bits(ask.id.bits()), answer.text, answer.source.as_str(), At(answer.at)])?;
    if !head.status.is_terminal() {
        say(tx, new.task, &ask_answered(&ask, &answer), new.now)?;
    }
    ask.answer = Some(answer);
    Ok(Answered::Settled(ask))
}

/// See [`crate::Store::ask_list`].
pub(super) fn ask_list(db: &Connection, task: TaskId) -> Result<Vec<Ask>, Fault> {
    let mut statement = db.prepare_cached(
        "SELECT id, task_id, person, question, opened_at, answer, source, answered_at FROM ask
         WHERE task_id = ?1 ORDER BY number",
    )?;
    let rows = statement.query_map([Bits::from(task)], |r| Ok(ask(r)))?;
    rows.map(|row| row?).collect()
}

/// Times within the last minute.
fn recent(db: &Connection, sql: &str, task: TaskId, now: Timestamp) -> Result<Vec<Timestamp>, Fault> {
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![Bits::from(task), At(rule::a_minute_before(now))], |r| {
        r.get::<_, At>(0).map(|at| at.0)
    })?;
    rows.map(|row| Ok(row?)).collect()
}

fn say(tx: &Connection, task: TaskId, event: &domain::NewEvent, now: Timestamp) -> Result<(), Fault> {
    let mut head = Head::load(tx, task)?;
    head.append(tx, event, By::ControlPlane, now)?;
    head.save(tx)
}

fn nudge(r: &Row<'_>) -> rusqlite::Result<Nudge> {
    let taken = r.get::<_, Option<u32>>(5)?.zip(r.get::<_, Option<At>>(6)?);
    Ok(Nudge {
        id: NudgeId::from_bits(r.get::<_, Bits>(0)?.0),
        task: r.get::<_, Bits>(1)?.task(),
        by: UserId::new(r.get::<_, String>(2)?),
        text: r.get(3)?,
        submitted_at: r.get::<_, At>(4)?.0,
        taken: taken.map(|(attempt, at)| (Attempt(attempt), at.0)),
    })
}

fn ask(r: &Row<'_>) -> Result<Ask, Fault> {
    let answer =
        match (r.get::<_, Option<String>>(5)?, r.get::<_, Option<String>>(6)?, r.get::<_, Option<At>>(7)?) {
            (Some(text), Some(source), Some(at)) => {
                let source = AnswerSource::from_wire(&source)
                    .ok_or_else(|| Fault::Damaged(format!("unknown source of an answer {source:?}")))?;
                Some(Answer { text, source, at: at.0 })
            }
            _ => None,
        };
    Ok(Ask {
        id: AskId::from_bits(r.get::<_, Bits>(0)?.0),
        task: r.get::<_, Bits>(1)?.task(),
        by: UserId::new(r.get::<_, String>(2)?),
        question: r.get(3)?,
        opened_at: r.get::<_, At>(4)?.0,
        answer,
    })
}
