//! Many durations in few numbers.

use std::time::Duration;

/// Sorted durations.
pub struct Spread(Vec<Duration>);

impl Spread {
    /// Of these.
    pub fn of(mut all: Vec<Duration>) -> Spread {
        all.sort_unstable();
        Spread(all)
    }

    /// Milliseconds that this share of them (0.0 to 1.0) does not exceed; 0 where there are none.
    pub fn at(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil().max(1.0) as usize - 1;
        self.0.get(rank.min(self.0.len().saturating_sub(1))).map_or(0.0, |d| d.as_secs_f64() * 1e3)
    }

    /// Their mean in milliseconds; 0 where there are none.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<Duration>().as_secs_f64() * 1e3 / self.0.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let spread = Spread::of((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!((spread.at(0.5), spread.at(0.99), spread.at(1.0)), (50.0, 99.0, 100.0));
        assert_eq!(spread.mean(), 50.5);
        assert_eq!(Spread::of(Vec::new()).at(0.5), 0.0);
    }
}
