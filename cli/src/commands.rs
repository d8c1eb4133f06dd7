//! What a person types: one file for each verb.

pub mod admin;
pub mod ask;
pub mod cache;
pub mod cancel;
pub mod completions;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod egress;
pub mod events;
pub mod in_box;
pub mod inside;
pub mod key;
pub mod list;
pub mod login;
pub mod logout;
pub mod nudge;
pub mod pause;
pub mod pr;
pub mod replay;
pub mod resume;
pub mod retry;
pub mod run;
pub mod serve;
pub mod status;
pub mod submit;
pub mod trace;
pub mod usage;
pub mod watch;
pub mod webhook;
pub mod whoami;
pub mod worker;

mod attachment;
mod number;
mod request;
mod span;
