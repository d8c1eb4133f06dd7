//! What a push may bring: `[push]`. The rules are `forge`'s, which asks them again before anything goes out.

pub use forge::push::Settings;
