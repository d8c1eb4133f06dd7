//! worker

pub mod guidance;
pub mod tool;
