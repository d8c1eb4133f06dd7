//! The trajectory of a task: everything its model was asked and said, everything its tools answered, every event, as
//! compressed lines of JSON. Pure: whoever records, keeps or shows one does the I/O.
//!
//! | module | does |
//! |---|---|
//! | [`line`](mod@line) | the lines; `docs/guide/trace.md` and `docs/guide/trace.schema.json` describe them |
//! | [`prefix`] | what a model request adds to the one before it |
//! | [`pack`] | lines to gzip and back |
//! | [`read`] | a whole file, checked and put together again |
//! | [`nudge`] | what people said meanwhile, and where it was heard |
//! | [`play`] | a transcript that plays what the model said |
//! | [`compare`](mod@compare) | where two runs of the same trajectory differ |
//! | [`normal`] | texts without what differs from run to run (times, folders, ids) |

pub mod compare;
pub mod line;
pub mod normal;
pub mod nudge;
pub mod pack;
pub mod play;
pub mod prefix;
pub mod read;

pub use compare::{Comparison, Difference, Subject, compare};
pub use line::{Entry, Line};
pub use read::{BadTrace, Call, Trajectory};
