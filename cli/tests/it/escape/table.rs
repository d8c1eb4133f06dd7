//! What an attempt is, and its tests.

use super::bed::{self, Bed};

/// Where the attempts are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    Process,
    Sandbox,
    /// The tier `sandbox` once more, of a server that is not root's: by a user namespace, and without control groups.
    Ordinary,
    Container,
}

impl Tier {
    /// Names the tests.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Process => "process",
            Tier::Sandbox => "sandbox",
            Tier::Ordinary => "ordinary",
            Tier::Container => "container",
        }
    }

    /// As tasks ask for it.
    pub fn isolation(self) -> &'static str {
        match self {
            Tier::Process => "process",
            Tier::Sandbox | Tier::Ordinary => "sandbox",
            Tier::Container => "container",
        }
    }
}

/// What an attempt comes to where nothing isolates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bare {
    /// It gets what it wants.
    Works,
    /// It gets what it wants when the server runs as root.
    WorksAsRoot,
    /// It is stopped there too: by git's hardening, by the gateway, or by the kernel.
    Stopped,
    /// It depends on the machine.
    Either,
    /// It is not tried there; the reason.
    Untried(&'static str),
}

/// A call of a tool other than `Bash`: the tool and its input as JSON, in which `{file}` is the attempt's own file of
/// the host.
pub type Call = (&'static str, &'static str);

/// Something an agent may try.
#[derive(Debug)]
pub struct Attempt {
    /// Its name, unique in all areas; the test's, and the script's.
    pub name: &'static str,
    /// What it tries, for `docs/security.md`.
    pub tries: &'static str,
    /// What it comes to without a box.
    pub bare: Bare,
    /// What stops it in a box, for `docs/security.md`.
    pub stopped_by: &'static str,
    /// What the attempt saw of that: one of these, with `|` between them, is in what it printed.
    pub says: &'static str,
    /// The script.
    pub run: &'static str,
    /// Calls of other tools after it.
    pub then: &'static [Call],
}

/// A list of attempts, and a test for each in each tier.
macro_rules! attempts {
    ($area:literal; $($name:ident {
        tries: $tries:literal, bare: $bare:expr, stopped_by: $by:literal, says: $says:literal,
        run: $run:literal $(, then: $then:expr)? $(,)?
    })+) => {
        use super::table::{Attempt, Bare::*};

        pub const ATTEMPTS: &[Attempt] = &[$(Attempt {
            name: stringify!($name), tries: $tries, bare: $bare, stopped_by: $by, says: $says, run: $run,
            then: super::table::attempts!(@then $($then)?),
        }),+];

        mod process { $(#[test] fn $name() {
            super::super::table::check(super::super::table::Tier::Process, $area, super::ATTEMPTS, stringify!($name));
        })+ }
        mod sandbox { $(#[test] fn $name() {
            super::super::table::check(super::super::table::Tier::Sandbox, $area, super::ATTEMPTS, stringify!($name));
        })+ }
        mod ordinary { $(#[test] fn $name() {
            super::super::table::check(super::super::table::Tier::Ordinary, $area, super::ATTEMPTS, stringify!($name));
        })+ }
        mod container { $(#[test] fn $name() {
            super::super::table::check(super::super::table::Tier::Container, $area, super::ATTEMPTS, stringify!($name));
        })+ }
    };
    (@then) => { &[] };
    (@then $then:expr) => { $then };
}
pub(super) use attempts;

/// The test of one attempt in one tier.
pub fn check(tier: Tier, area: &'static str, attempts: &'static [Attempt], name: &str) {
    let attempt = attempts.iter().find(|a| a.name == name).unwrap();
    if let (Tier::Process, Bare::Untried(why)) = (tier, attempt.bare) {
        eprintln!("not tried without a box: {why}");
        return;
    }
    let Some(outcomes) = bed::outcomes(Bed { tier, area, attempts }) else { return };
    let outcome =
        outcomes.get(name).unwrap_or_else(|| panic!("{name} was not run: {}", outcomes["the run"].said));
    let wrong = match (tier, attempt.bare) {
        (Tier::Sandbox | Tier::Ordinary | Tier::Container, _) => outcome.is_stopped(attempt.says),
        (Tier::Process, Bare::Works) => outcome.is_escape(),
        (Tier::Process, Bare::WorksAsRoot) if nix::unistd::geteuid().is_root() => outcome.is_escape(),
        (Tier::Process, Bare::WorksAsRoot | Bare::Stopped) => outcome.is_stopped(""),
        (Tier::Process, Bare::Either | Bare::Untried(_)) => outcome.is_told(),
    };
    wrong.unwrap_or_else(|why| panic!("{area}/{name} in tier {}: {why}\n{outcome:#?}", tier.name()));
}
