//! `bgagent watch --tui`: a task on a whole screen. One way: keys, events and answers come in ([`screen::Screen::on`],
//! pure), wishes go out, and what is known is drawn ([`draw::draw`], pure). [`run`] is the only part with effects.

mod draw;
mod run;
mod screen;

pub use run::{check, watch};

#[cfg(test)]
mod tests;
