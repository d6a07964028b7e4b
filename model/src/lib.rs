//! The words of Mezusphere, and the decisions made with them.
//!
//! Owns what every other crate must agree on: ids, host names, canonical paths, routes and their
//! matching, identities, sessions, the policy decision, the documents on the feed, the bundle a
//! warpgate trusts, and what an edge may ask of control. Does no I/O and reads no clock: time comes
//! in as a [`Timestamp`] and randomness as [`Entropy`].
//!
//! A first reading: [`route`] (what is published), [`path`] (how a path is read), [`policy`] (who may
//! pass), [`document`] (what an edge knows), [`bundle`] (what a warpgate trusts).

pub mod bundle;
pub mod clock;
pub mod connection_key;
pub mod document;
pub mod entropy;
pub mod header;
mod hex;
pub mod host;
pub mod id;
pub mod identity;
pub mod join_token;
mod lenient;
pub mod link;
pub mod path;
mod pattern;
pub mod platform;
pub mod policy;
pub mod route;
pub mod rules;
pub mod seal;
pub mod session;
pub mod slug;
mod span;
pub mod token;

pub use clock::{Clock, Timestamp};
pub use entropy::Entropy;
pub use hex::hex;
pub use host::Host;
pub use identity::Identity;
pub use platform::Platform;
pub use span::span_text;
