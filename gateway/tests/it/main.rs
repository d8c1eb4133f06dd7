//! Tests of the gateway from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod attachment;
mod box_api;
mod budget;
mod contract;
mod egress;
mod egress_site;
mod git_proxy;
mod masking;
mod model;
mod network;
mod record;
mod screen;
mod steer;
mod world;
