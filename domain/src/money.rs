//! Money in whole micro-dollars and the token counts it is computed from. No floats are stored or added.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use serde::{Deserialize, Serialize};

/// Millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub i64);

impl MicroUsd {
    /// Nothing.
    pub const ZERO: MicroUsd = MicroUsd(0);

    /// Rounded to the nearest micro-dollar; `None` for what is not finite or does not fit.
    pub fn from_usd(usd: f64) -> Option<Self> {
        let micro = (usd * 1e6).round();
        (micro.is_finite() && micro.abs() < 9e15).then_some(Self(micro as i64))
    }

    /// As dollars, for JSON and people.
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl fmt::Display for MicroUsd {
    /// Four decimals, as in `$0.0421`; the shape ABCA's clients print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.4}", self.usd())
    }
}

impl Add for MicroUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for MicroUsd {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

/// What one model call used, as the provider reported it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenCount {
    /// Input tokens billed at the full price.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read: u64,
    /// Input tokens written to the provider's cache.
    pub cache_write: u64,
}

impl TokenCount {
    /// All input tokens, cached or not: what fills the context window.
    pub fn context(self) -> u64 {
        self.input + self.cache_read + self.cache_write
    }
}

impl Add for TokenCount {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self {
            input: self.input + o.input,
            output: self.output + o.output,
            cache_read: self.cache_read + o.cache_read,
            cache_write: self.cache_write + o.cache_write,
        }
    }
}

/// US dollars for a million tokens, as providers publish it, with the day it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Model name, or a prefix of it that ends in `*`.
    pub model: String,
    /// The day this price was read, `YYYY-MM-DD`; shown with every cost computed from it.
    pub as_of: String,
    /// Dollars per million input tokens.
    pub input: f64,
    /// Dollars per million output tokens.
    pub output: f64,
    /// Dollars per million input tokens read from cache; `input` when absent.
    #[serde(default)]
    pub cache_read: Option<f64>,
    /// Dollars per million input tokens written to cache; `input` when absent.
    #[serde(default)]
    pub cache_write: Option<f64>,
}

impl Price {
    /// Whether this row prices `model`.
    pub fn matches(&self, model: &str) -> bool {
        match self.model.strip_suffix('*') {
            Some(prefix) => model.starts_with(prefix),
            None => self.model == model,
        }
    }

    /// The cost of one call. Dollars per million tokens are micro-dollars per token, so this is one sum.
    pub fn cost(&self, used: TokenCount) -> MicroUsd {
        let sum = used.input as f64 * self.input
            + used.output as f64 * self.output
            + used.cache_read as f64 * self.cache_read.unwrap_or(self.input)
            + used.cache_write as f64 * self.cache_write.unwrap_or(self.input);
        MicroUsd(sum.round() as i64)
    }
}

/// The row of a price table for a model: an exact name wins over a prefix, a longer prefix over a shorter.
pub fn price_of<'a>(table: &'a [Price], model: &str) -> Option<&'a Price> {
    table.iter().filter(|p| p.matches(model)).max_by_key(|p| (!p.model.ends_with('*'), p.model.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(model: &str, input: f64) -> Price {
        Price {
            model: model.into(),
            as_of: "2026-11-01".into(),
            input,
            output: 15.0,
            cache_read: Some(0.3),
            cache_write: None,
        }
    }

    #[test]
    fn a_call_costs_the_sum_of_its_tokens() {
        let used = TokenCount { input: 1_000, output: 100, cache_read: 10_000, cache_write: 500 };
        assert_eq!(price("m", 3.0).cost(used), MicroUsd(3_000 + 1_500 + 3_000 + 1_500));
    }

    #[test]
    fn the_most_specific_price_wins() {
        let table = [price("claude-*", 1.0), price("claude-sonnet-*", 2.0), price("claude-sonnet-4-6", 3.0)];
        assert_eq!(price_of(&table, "claude-sonnet-4-6").unwrap().input, 3.0);
        assert_eq!(price_of(&table, "claude-sonnet-5").unwrap().input, 2.0);
        assert_eq!(price_of(&table, "claude-opus").unwrap().input, 1.0);
        assert!(price_of(&table, "gpt").is_none());
    }
}
