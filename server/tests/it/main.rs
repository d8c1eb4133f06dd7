//! The people's API from outside: one file for each endpoint, against the contract shared with ABCA, and what holds for
//! all of them. Tests named `defect_N` show that a defect of ABCA is not ours.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod access;
mod admin;
mod ag_ui;
mod ask;
mod audit;
mod cancel;
mod contract;
mod create;
mod detail;
mod envelope;
mod events;
mod feed;
mod identity;
mod key;
mod leave;
mod list;
mod login;
mod metrics;
mod nudge;
mod pull_request;
mod rate;
mod screen;
mod stream;
mod support;
mod system;
mod trace;
mod usage;
mod webhook;
