//! The public side's TLS: which certificate answers for which name, and what is answered to authorities that ask
//! about one; both swapped without a restart.
//!
//! The internal side (tunnels, enrollment) is `mezusphere_pki`'s; nothing here trusts or asks for a client
//! certificate.

mod challenges;
mod names;
mod table;

pub use challenges::{CHALLENGE_PATH, CHALLENGES_MAX, ChallengeTable, Challenges, is_ours_alone};
pub use names::CertificateNames;
pub use table::{CertificateTable, PublicCertificates};
