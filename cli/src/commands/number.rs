//! Numbers as they are typed: read whole or refused, with the bounds told.

use domain::limit;

fn whole(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten().filter(|n| (min..=max).contains(n));
    number.ok_or_else(|| format!("it must be a whole number from {min} to {max}"))
}

/// Turns of a task.
pub fn turns(text: &str) -> Result<i64, String> {
    whole(text, limit::TURNS_MIN.into(), limit::TURNS_MAX.into()).map(u64::cast_signed)
}

/// Dollars of a task.
pub fn budget(text: &str) -> Result<f64, String> {
    let (min, max) = (limit::BUDGET_MIN_USD, limit::BUDGET_MAX_USD);
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = plain.then(|| text.parse().ok()).flatten().filter(|n: &f64| (min..=max).contains(n));
    number.ok_or_else(|| format!("it must be an amount in US dollars from {min} to {max}, like 2.50"))
}

/// An issue.
pub fn issue(text: &str) -> Result<u64, String> {
    whole(text, 1, i64::MAX.cast_unsigned()).map_err(|_| "it must be the number of an issue, from 1".into())
}

/// Rows of a page of tasks.
pub fn task_rows(text: &str) -> Result<u32, String> {
    whole(text, 1, limit::TASKS_PAGE_MAX.into()).map(|n| n as u32)
}

/// Rows of events, over all pages.
pub fn event_rows(text: &str) -> Result<u32, String> {
    whole(text, 1, u32::MAX.into()).map(|n| n as u32)
}

/// Seconds to wait.
pub fn seconds(text: &str) -> Result<u64, String> {
    whole(text, 1, 30 * 86_400)
}

/// Seconds of idleness; 0 is never.
pub fn idle_seconds(text: &str) -> Result<u64, String> {
    whole(text, 0, 30 * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D-100: 42abc was a number.
    #[test]
    fn what_is_not_wholly_a_number_within_bounds_is_refused() {
        assert_eq!((turns("1"), turns("500")), (Ok(1), Ok(500)));
        for bad in ["42abc", "", " 42", "+4", "-1", "0", "501", "4.0", "99999999999999999999"] {
            assert_eq!(turns(bad), Err("it must be a whole number from 1 to 500".into()), "{bad}");
        }
        assert_eq!((budget("0.01"), budget("100"), budget(".5")), (Ok(0.01), Ok(100.0), Ok(0.5)));
        for bad in ["5usd", "NaN", "inf", "1e1", "0", "100.01", "-5", "$5", "", "1.2.3"] {
            assert!(budget(bad).unwrap_err().contains("0.01 to 100"), "{bad}");
        }
        assert!(issue("0").is_err() && issue("7x").is_err() && issue("7") == Ok(7));
    }
}
