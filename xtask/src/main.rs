//! bgagent
fn main() {}
