//! What runs in the box: `bgagent worker`. It takes one session, does the work and ends.
//!
//! It is not trusted by anyone outside the box and holds nothing but the token of its task. It writes no database, no
//! forge and no chat: all it says goes to the gateway.
//!
//! ```text
//! claim ─▶ attach ─▶ repo ─▶ agent ─▶ commit ─▶ push ─▶ verify ─▶ result        beside: heartbeat, directives, events
//!                       └─▶ baseline ────────────────────┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`boot`] | the process: claim, runtime, signals, exit code |
//! | [`claim`] | taking the session that a backend prepared |
//! | [`pipeline`] | the run, stage by stage |
//! | [`stage`] | the list of stages: name, time, failure rule |
//! | [`stop`] | why the work must end early |
//! | [`client`] | the box API |
//! | [`spool`] | events: to disk first, then to the gateway |
//! | [`heartbeat`] | signs of life, and directives |
//! | [`mailbox`] | what people say to the agent, on its way in |
//! | [`reap`] | ended processes that nobody waits for |
//! | [`boxed`] | the box from this side: what it is made of, and what is where in it |
//! | [`job`] | what the pipeline is given, the same in every tier |
//! | [`launch`] | starting programs: here, or in the tools' layer of the box |
//! | [`notice`] | limits that the box has reached |
//! | [`forwarder`] | TCP to the gateway's socket, for git without a box |
//! | [`tunnel`] | the way out of the tools' layer |
//! | [`tree`] | the work tree's files, past all links |
//! | [`repo`] | clone and branch |
//! | [`harness`] | the seam to the agent, and our own agent |
//! | [`tool`] | what the agent may do |
//! | [`guidance`] | what the repository tells agents |
//! | [`verify`] | build and lint, before and after |
//! | [`deliver`] | commit, push, title and body |
//! | [`mod@warm`] | the owner's commands in a box, to fill a dependency cache |

pub mod attachment;
pub mod boot;
pub mod boxed;
pub mod claim;
pub mod client;
pub mod deliver;
pub mod forwarder;
pub mod guidance;
pub mod harness;
pub mod heartbeat;
pub mod job;
pub mod launch;
pub mod mailbox;
pub mod notice;
pub mod pipeline;
pub mod reap;
pub mod repo;
mod saving;
pub mod spool;
pub mod stage;
pub mod stop;
pub mod tool;
pub mod tree;
pub mod tunnel;
pub mod verify;
pub mod warm;

pub use boot::{WorkerArgs, run};
pub use warm::warm;
