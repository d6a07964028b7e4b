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

mod acme;
pub mod api;
mod assertion;
mod ca;
mod caller;
mod certificate;
mod certificate_files;
mod config;
mod connect;
mod control;
mod digest;
mod domain;
mod edge;
mod eviction;
mod first_start;
mod installation;
mod jobs;
mod keys;
mod leaf;
mod lease;
mod link;
mod login;
mod mail;
mod node;
mod open_error;
mod page;
mod platform;
mod problem;
mod publish;
mod reconcile;
mod shared;
mod signer;
#[cfg(test)]
mod tests;
mod use_case;

pub use acme::{AcmeChallenge, AcmeConfig, AcmeConfigError, AcmeDirectory, AcmeExternalAccount};
pub use caller::{Caller, Permission, Who};
pub use config::{
    ASSERTION_TTL, Advertise, CertificateFiles, ControlConfig, CustomDomains, LEAF_TTL_MAX, LEAF_TTL_MIN,
    LocalEdge, NodeConfig, PublicCertificate, RootElsewhere, SessionLimits,
};
pub use control::Control;
pub use jobs::Jobs;
pub use keys::{AssertionRotation, Resealed};
pub use mail::{MailConfig, MailConfigError, MailFigures, MailSender, MailTls, MailWay, SmtpConfig};
pub use open_error::OpenError;
pub use platform::{Body, BoxError, PlatformService};
pub use problem::{CODES, Code, Refusal};
pub(crate) use shared::Shared;
