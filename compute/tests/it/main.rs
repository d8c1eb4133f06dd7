//! Every backend against the conformance suite, and the local one against real process trees.

mod fake;
mod local;
mod survival;
mod toy;
