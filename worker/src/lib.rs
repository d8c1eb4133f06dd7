//! worker

pub mod claim;
pub mod guidance;
pub mod harness;
pub mod tool;
