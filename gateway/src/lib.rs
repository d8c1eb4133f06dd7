//! gateway
pub mod model;
