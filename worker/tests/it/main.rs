//! Tests of the worker through its public doors.

mod harness;
mod tools;
