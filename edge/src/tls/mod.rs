//! The public side's TLS: which certificate answers for which name, swapped without a restart.
//!
//! The internal side (tunnels, enrollment) is `mezusphere_pki`'s; nothing here trusts or asks for a client
//! certificate.

mod names;
mod table;

pub use names::CertificateNames;
pub use table::{CertificateTable, PublicCertificates};
