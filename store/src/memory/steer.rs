//! What people say to agents: nudges and questions.

use domain::steer::{Answer, Ask, Nudge, ask_answered, ask_opened, nudges_acknowledged};

use super::table::Tables;
use crate::driver::StoreError;
use crate::record::{Answered, Asked, NewAnswer, NewAsk, NewNudge, NudgeTake, Nudged, NudgesTaken};
use crate::rule;

impl Tables {
    pub(super) fn nudge_add(&mut self, new: NewNudge) -> Result<Nudged, StoreError> {
        let status = self.row(new.task)?.task.status();
        if status.is_terminal() {
            return Ok(Nudged::Ended(status));
        }
        let since = rule::a_minute_before(new.now);
        let of_task = self.nudges.iter().filter(|n| n.task == new.task);
        let recent: Vec<_> = of_task.map(|n| n.submitted_at).filter(|at| *at > since).collect();
        if let Some(wait) = rule::too_many(&recent, new.per_minute, new.now) {
            return Ok(Nudged::TooMany(wait));
        }
        let NewNudge { id, task, by, text, now, .. } = new;
        let nudge = Nudge { id, task, by, text, submitted_at: now, taken: None };
        self.nudges.push(nudge.clone());
        Ok(Nudged::Stored(nudge))
    }

    pub(super) fn nudge_take(&mut self, take: &NudgeTake) -> Result<NudgesTaken, StoreError> {
        if !rule::may_take(&self.row(take.task)?.task, take.attempt) {
            return Ok(NudgesTaken::Superseded);
        }
        let all = self.nudges.iter().filter(|n| n.task == take.task).cloned().collect();
        let (known, fresh) = rule::takeable(all, take);
        for nudge in &fresh {
            self.nudges.iter_mut().filter(|n| n.id == nudge.id).for_each(|n| n.taken = nudge.taken);
        }
        if !fresh.is_empty() {
            self.append(take.task, &[nudges_acknowledged(&fresh)], take.now)?;
        }
        Ok(NudgesTaken::Taken(known.into_iter().chain(fresh).collect()))
    }

    pub(super) fn ask_open(&mut self, new: &NewAsk) -> Result<Asked, StoreError> {
        let ended = self.row(new.task)?.task.status().is_terminal();
        let of_task = || self.asks.iter().filter(|a| a.task == new.task);
        if let Some(open) = of_task().find(|a| a.by == new.by && a.answer.is_none()) {
            return Ok(Asked::AlreadyOpen(open.id));
        }
        let since = rule::a_minute_before(new.now);
        let recent: Vec<_> = of_task().map(|a| a.opened_at).filter(|at| *at > since).collect();
        if let Some(wait) = rule::too_many(&recent, new.per_minute, new.now) {
            return Ok(Asked::TooMany(wait));
        }
        let ask = rule::ask_of(new);
        self.asks.push(ask.clone());
        if !ended {
            let mut events = vec![ask_opened(&ask)];
            events.extend(ask.answer.as_ref().map(|answer| ask_answered(&ask, answer)));
            self.append(ask.task, &events, new.now)?;
        }
        Ok(Asked::Opened(ask))
    }

    pub(super) fn ask_answer(&mut self, new: &NewAnswer) -> Result<Answered, StoreError> {
        let task = &self.row(new.task)?.task;
        let ended = task.status().is_terminal();
        if new.attempt.is_some_and(|attempt| ended || attempt != task.attempt) {
            return Ok(Answered::Superseded);
        }
        let found = self.asks.iter_mut().find(|a| a.task == new.task && a.id == new.ask);
        let Some(ask) = found else { return Ok(Answered::NoSuchAsk) };
        if ask.answer.is_some() {
            return Ok(Answered::Settled(ask.clone()));
        }
        let answer = Answer { text: new.text.clone(), source: new.source, at: new.now };
        ask.answer = Some(answer.clone());
        let ask: Ask = ask.clone();
        if !ended {
            self.append(new.task, &[ask_answered(&ask, &answer)], new.now)?;
        }
        Ok(Answered::Settled(ask))
    }
}
