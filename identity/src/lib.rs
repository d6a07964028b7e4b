//! People and machines: who they are, and how they prove it.
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
//! What a flow wants said goes out as a value ([`message`]): `control` has the words and sends them.
//!
//! A first reading: [`desk`], [`factor::password`], [`flow`] with [`flow::login`], [`sign_in`], [`account`].

pub mod account;
pub mod desk;
pub mod factor;
pub mod flow;
pub mod history;
pub mod message;
pub mod service_account;
pub mod session;
pub mod sign_in;
pub mod throttle;
