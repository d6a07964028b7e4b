//! People and machines: who they are, how they prove it, and what they may do.
//!
//! Owns factors (a way to prove an identity), flows (one run of a sign-in), sign-ins and the sessions under
//! them, the throttling of attempts, users with their roles, and service accounts with their API keys.
//! Factors and flows do not know each other: a factor yields a [`factor::Proof`], a flow collects proofs
//! until it is satisfied, so a new factor serves every flow.
//!
//! Knows no HTTP and no HTML: `control` has the pages. Checks no caller's permission: `control`'s use cases
//! do that first, then call in here inside the transaction they opened, so that one commit holds the change,
//! its audit entry and what edges learn of it.
//!
//! A first reading: [`factor::password`], [`flow::login`], [`sign_in`], [`account`].

pub mod access;
pub mod account;
pub mod factor;
pub mod flow;
pub mod service_account;
pub mod sign_in;
pub mod throttle;
