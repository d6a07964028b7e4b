//! The installation's trust: who may speak to whom, and the keys that prove it.
//!
//! A root certificate signs issuing CAs, an issuing CA signs leaves that live for a day at most, and
//! each leaf names one node by a SPIFFE URI ([`name`]). Owns issuing ([`authority`]), what a root signs besides
//! ([`ceremony`]), a node's own
//! certificate ([`identity`]) and when to renew it ([`renewal`]), what is trusted ([`trust`]), how a peer
//! is judged ([`peer`]), the rustls configurations built on both ([`tls`]), the certificates strangers see
//! ([`public`]), what answers an authority that asks about a name ([`acme`]), the keys that sign assertions
//! ([`signing`]), the sealing of secrets at rest ([`seal`])
//! and how a node proves the key of a certificate that has ended ([`possession`]).
//!
//! Leaves to others: every file and socket (this crate does no I/O), who may be issued what
//! (control decides), and which connection gets which configuration (the edge decides).
//!
//! ```text
//!  Root ──signs──▶ Issuing ──signs──▶ leaf: edge       serverAuth clientAuth  DNS edge.mezu.internal
//!                                     leaf: control    serverAuth clientAuth  DNS control.mezu.internal
//!                                     leaf: warpgate   clientAuth
//!                                     public, for development: serverAuth, DNS names, no SPIFFE URI
//!   │
//!   └──cross-signs──▶ the Root that replaces it, so that whoever knows this one alone finds the way to that one
//! ```
//!
//! What is absent on purpose: revocation lists (leaves are short, and [`Trust`] carries a deny list), URI
//! name constraints (webpki refuses every chain that has them), 0-RTT, and any way to issue without a CSR.

pub mod acme;
pub mod alert;
pub mod authority;
pub mod ceremony;
pub mod identity;
pub mod key;
pub mod lifetime;
pub mod name;
pub mod peer;
pub mod possession;
pub mod public;
pub mod renewal;
pub mod seal;
pub mod signing;
pub mod tls;
pub mod trust;

mod certificate;
mod csr;
mod issue;
mod master_key;
mod provider;
mod verifier;

pub use authority::{IssuedLeaf, Issuing, Root};
pub use ceremony::IssuingRequest;
pub use identity::{CurrentIdentity, NodeIdentity};
pub use key::NodeKey;
pub use lifetime::LeafTtls;
pub use name::{CONTROL_DNS_NAME, EDGE_DNS_NAME, Role, SpiffeName, TrustDomain};
pub use peer::{ExpectedRole, Peer, PeerError, verify_peer};
pub use public::PublicCertificate;
pub use renewal::RenewalSchedule;
pub use trust::{CurrentTrust, Trust, TrustError};
