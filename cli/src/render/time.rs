//! Times and durations for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `42s`, `3m 14s`, `1h 02m`.
pub fn duration(seconds: i64) -> String {
    let s = seconds.max(0);
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m {:02}s", s / 60, s % 60),
        _ => format!("{}h {:02}m", s / 3_600, s % 3_600 / 60),
    }
}

/// `42s`, `3m`, `2h`, `5d`.
pub fn age(seconds: i64) -> String {
    let s = seconds.max(0);
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m", s / 60),
        3_600..86_400 => format!("{}h", s / 3_600),
        _ => format!("{}d", s / 86_400),
    }
}

/// A time of the wire; `None` when it is none.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Seconds from one time of the wire to another time.
pub fn seconds_since(from: &str, to: Timestamp) -> Option<i64> {
    Some(to.as_second() - parse(from)?.as_second())
}

/// `14:03:59` in the person's zone; the text itself when it is no time.
pub fn clock(text: &str, zone: &TimeZone) -> String {
    match parse(text) {
        Some(at) => at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string(),
        None => crate::clean::line(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_the_contract() {
        let texts = [-5, 0, 42, 59, 60, 194, 3_599, 3_600, 3_725, 90_000].map(duration);
        let want = ["0s", "0s", "42s", "59s", "1m 00s", "3m 14s", "59m 59s", "1h 00m", "1h 02m", "25h 00m"];
        assert_eq!(texts, want);
        assert_eq!([-1, 59, 60, 7_199, 90_000].map(age), ["0s", "59s", "1m", "1h", "1d"]);
    }
}
