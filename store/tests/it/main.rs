//! The suite on both drivers, and what is SQLite's alone.

mod conformance;
mod model;
