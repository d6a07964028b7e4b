//! The control plane: who may publish what, who users are, and what edges and warpgates trust.
//!
//! Owns the use cases (`use_case`), the admin API over them (`api`), the hosted sign-in pages (`login`,
//! `page`), enrollment and bundles (`connect`, `bundle`), assertions (`assertion`), the public certificates of
//! an installation without ACME (`certificate`), and the first start (`first_start`). Every change is one
//! store transaction: rows, audit entry and what edges must know of it.
//!
//! Forwarding never waits for it: an edge asks control only for what no replica can know yet
//! ([`Control::link`]). It listens nowhere itself: the edge's listeners hand it the requests for
//! `console.`, `login.` and `connect.` ([`Control::platform_service`]), and the program serves
//! [`Control::local_admin`] on a unix socket.

pub mod api;
mod caller;
mod config;
mod login;
mod page;

pub use caller::{Caller, Permission};
pub use config::{
    ASSERTION_TTL, Advertise, ControlConfig, LEAF_TTL_MAX, LEAF_TTL_MIN, PublicCertificate, SessionLimits,
};
