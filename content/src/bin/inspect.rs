//! The child alone: what tests and benches start, since the program that people have is built long after this crate.

fn main() -> std::process::ExitCode {
    content::main_inspect()
}
