//! From wire types to text: pure functions. Time, zone, width and colour are arguments; everything foreign goes through
//! [`crate::clean`].

pub mod access;
pub mod admin;
pub mod cache;
pub mod doctor;
pub mod egress;
pub mod event;
pub mod events;
pub mod list;
pub mod outcome;
pub mod paint;
pub mod pull_request;
pub mod replay;
pub mod status;
pub mod table;
pub mod time;
pub mod timeline;
pub mod usage;
pub mod wrap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use self::paint::Paint;

/// What a text is rendered for.
#[derive(Debug, Clone)]
pub struct View {
    /// The present.
    pub now: Timestamp,
    /// The person's time zone.
    pub zone: TimeZone,
    /// Columns; `None` where nothing is to be wrapped (output that another program reads).
    pub width: Option<usize>,
    /// Colour or not.
    pub paint: Paint,
}

/// What stands for a missing value.
pub const MISSING: &str = "—";

/// Dollars for people: two decimals, four where two would hide the amount.
pub fn dollars(usd: f64) -> String {
    if usd > 0.0 && usd < 0.095 { format!("${usd:.4}") } else { format!("${usd:.2}") }
}

#[cfg(test)]
pub mod sample;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_amounts_are_not_hidden() {
        assert_eq!([0.0, 0.0042, 0.12, 5.0].map(dollars), ["$0.00", "$0.0042", "$0.12", "$5.00"]);
    }
}
