//! The escape suite: what an agent's own tools can try to get out of its box, to somebody else's secrets, or past a
//! limit. Every attempt is a test of its own in every tier, and a row of `docs/security.md`.
//!
//! | module | holds |
//! |---|---|
//! | [`table`] | what an attempt is, what it has to come to in which tier, and the tests made from it |
//! | [`bed`] | the host around it: things to steal, listeners, a second box; and one task that tries an area's attempts |
//! | [`outcome`] | what was seen, from inside and from outside, and whether that is an escape |
//! | [`page`] | the list in the documentation is the one that is run |
//!
//! The areas are the other files. An attempt is a Python script that a model in the box runs with `Bash`, after
//! `escape/probe.py`, which says how it tells what it came to. Its word is not all that counts: what it could not
//! touch is looked at from outside, and what works in tier `process` is run there, so that an attempt that is stopped
//! in a box is known to work without one.
//!
//! An area's attempts share one box: the first test that needs it runs them all, and leaves the outcomes in a file for
//! the others, which are other processes.

mod bed;
mod host;
mod outcome;
mod page;
mod table;

mod devices;
mod ending;
mod files;
mod git;
mod kernel;
mod limits;
mod network;
mod processes;
mod proxy;
mod races;
mod sockets;
mod token;
mod traps;
mod writes;

use table::Attempt;

/// Every area: its name, what it is about, and its attempts.
const AREAS: &[(&str, &str, &[Attempt])] = &[
    ("files", "Reading what is on the host", files::ATTEMPTS),
    ("processes", "Other processes", processes::ATTEMPTS),
    ("token", "The box's token and the box API", token::ATTEMPTS),
    ("writes", "Writing outside the work tree", writes::ATTEMPTS),
    ("kernel", "Privileges and the kernel", kernel::ATTEMPTS),
    ("devices", "Devices", devices::ATTEMPTS),
    ("sockets", "Sockets of the host", sockets::ATTEMPTS),
    ("network", "The network without the proxy", network::ATTEMPTS),
    ("proxy", "The one way out", proxy::ATTEMPTS),
    ("traps", "What git can be made to run", traps::ATTEMPTS),
    ("git", "What git may read and push", git::ATTEMPTS),
    ("races", "File tools and symbolic links", races::ATTEMPTS),
    ("limits", "Exhaustion", limits::ATTEMPTS),
    ("ending", "Outliving the task", ending::ATTEMPTS),
];
