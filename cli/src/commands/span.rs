//! Spans of time as people type them: `90d`, `12h`, `30m`, `45s`.

use std::time::Duration;

/// Reads a span; a number without a unit is refused, because nobody knows what was meant.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "write a whole number with a unit: 45s, 30m, 12h or 90d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number = &text[..text.len() - unit.len_utf8()];
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    number
        .checked_mul(seconds)
        .filter(|s| *s <= 100 * 365 * 86_400)
        .map(Duration::from_secs)
        .ok_or_else(|| "that is more than 100 years".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        for (text, seconds) in [("0s", 0), ("45s", 45), ("30m", 1_800), ("12h", 43_200), ("90d", 7_776_000)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "d", "90", "-1d", "+1d", "1.5h", "1 d", "1w", "1ä", "99999999999999999999d", "40000d"]
        {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
