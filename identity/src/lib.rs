//! Identity providers that speak OpenID Connect: whose token is this, and how does a person get one.
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | one provider as it is configured: issuer, client, which claims say what |
//! | [`token`] | the parts of a token, before anything of it is believed. Pure |
//! | [`claim`] | the rules for its claims: times, audience, who, which groups, which role. Pure |
//! | [`key`] | a provider's published keys, and whether one of them signed. Pure |
//! | [`discovery`] | what a provider says of itself, and which of its addresses are believed |
//! | [`cache`] | the keys as last fetched: kept through an outage, renewed at a rotation, never more than so often |
//! | [`verify`] | all of it together: from a token to a [`Person`], or why not |
//! | [`login`] | the other side: device code, browser with PKCE, refresh |
//!
//! Nothing here knows of a server or of a command line, and no error holds a token or a part of one.

pub mod cache;
pub mod claim;
pub mod discovery;
mod http;
pub mod key;
pub mod login;
#[cfg(test)]
mod mint;
pub mod settings;
pub mod token;
pub mod verify;

pub use claim::{Person, Refusal};
pub use settings::Settings;
pub use verify::{Denied, Verifier};
