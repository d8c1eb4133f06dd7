//! The git command line, hardened: the one way any part of the product runs git.
//!
//! A repository is hostile until shown otherwise: its configuration, attributes and hooks can name programs. A command
//! built with [`Git`] runs none of them (see [`harden`](mod@harden)), reads no configuration of this machine or its
//! users, never prompts, and inherits nothing of our environment but the way to the network. Credentials go to that
//! one child alone, outside argv, and are cut from every error.
//!
//! What it does not stop: `checkout`, `add`, `commit` and `merge` of a work tree run the filters and merge drivers that
//! its configuration names ([`overrides`] turns filters off). Only the worker, inside its box, does such things.
//!
//! | module | holds |
//! |---|---|
//! | [`run`] | [`Git`], the builder, and what a run gives |
//! | [`place`] | where a command is started: here, or in a box |
//! | [`harden`](mod@harden) | the environment and configuration each command gets |
//! | [`bound`] | bounds for a command that reads what a stranger made |
//! | [`error`] | [`GitError`] and how its kind is read from what git says |
//! | [`read`] | questions: revisions, branches, ancestry, status, differences |
//! | [`transfer`] | fetching and pushing |

pub mod bound;
pub mod error;
pub mod harden;
pub mod place;
pub mod read;
pub mod run;
pub mod transfer;

pub use bound::Bounds;
pub use error::{GitError, GitErrorKind};
pub use place::At;
pub use read::{
    DiffStat, Kind, Layout, RemoteHead, StatusEntry, branch_head, count_commits, current_branch, diff_stat,
    is_ancestor, layout, local_branches, ls_remote_heads, overrides, rev_parse, status_porcelain, version,
};
pub use run::{Git, Output, Process};
pub use transfer::{BasicAuth, fetch, hand_over, push};
