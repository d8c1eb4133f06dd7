//! worker

pub mod claim;
pub mod guidance;
pub mod tool;
