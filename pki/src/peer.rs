//! Judging a peer by its certificate: stock chain validation first, then the one SPIFFE name, its trust
//! domain, the CA that issued it, the deny list and the role expected (R19).

use std::fmt;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::id::EdgeId;
use rustls_pki_types::CertificateDer;

use crate::certificate;
use crate::lifetime::CLOCK_SUSPECT_MAX;
use crate::name::{NameError, Role, SpiffeName, TrustDomain};
use crate::trust::{CROSSES_MAX, FORMER_MAX, Trust};

/// Roots trusted at once that whoever enrols is shown: the new one and the old one.
const ROOTS_SHOWN_MAX: usize = 2;

/// Most certificates a peer may show: leaf and issuing CA, and to whoever enrols also the crosses and every root that a
/// connection key may name.
pub const CHAIN_LEN_MAX: usize = 2 + CROSSES_MAX + ROOTS_SHOWN_MAX + FORMER_MAX;

/// Whom the other side must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedRole {
    /// This one edge: what a warpgate dials.
    Edge(EdgeId),
    /// Any edge: what control's edge link accepts.
    AnyEdge,
    /// Any control node: who signs bundles, what an edge dials, and whoever joins or enrols.
    AnyControl,
    /// Any warpgate; the tunnel then serves the project and environment of its name and no other.
    AnyWarpgate,
}

impl ExpectedRole {
    /// Whether `role` is one of those expected.
    pub fn admits(self, role: &Role) -> bool {
        match self {
            Self::Edge(expected) => matches!(role, Role::Edge(id) if *id == expected),
            Self::AnyEdge => matches!(role, Role::Edge(_)),
            Self::AnyControl => matches!(role, Role::Control(_)),
            Self::AnyWarpgate => matches!(role, Role::Warpgate { .. }),
        }
    }
}

impl fmt::Display for ExpectedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge(id) => write!(f, "edge {id}"),
            Self::AnyEdge => f.write_str("an edge"),
            Self::AnyControl => f.write_str("a control node"),
            Self::AnyWarpgate => f.write_str("a warpgate"),
        }
    }
}

/// Who a peer is and until when: a connection does not outlive the certificate it was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: SpiffeName,
    /// From when its leaf is valid.
    pub not_before: Timestamp,
    /// When its leaf ends; close the connection then.
    pub not_after: Timestamp,
    /// SHA-256 of the public key of the CA that issued its leaf; `None`: the chain did not show it. When that CA is
    /// retired, close the connection ([`Trust::refuses`]).
    pub issuer: Option<[u8; 32]>,
}

impl Peer {
    /// Reads the leaf of a chain **without judging it**: for one's own chain, and for chains that a
    /// configuration of [`crate::tls`] has already judged in the handshake.
    pub fn read(chain: &[CertificateDer<'_>]) -> Result<Self, PeerError> {
        let (leaf, others) = chain.split_first().ok_or(PeerError::NoCertificate)?;
        Self::of(leaf, others)
    }

    pub(crate) fn of(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<Self, PeerError> {
        let facts = certificate::facts(leaf).map_err(|_| PeerError::Malformed)?;
        let uri = match facts.uris.as_slice() {
            [uri] => uri,
            uris => return Err(PeerError::NameCount(uris.len())),
        };
        let name = uri.parse().map_err(PeerError::Name)?;
        let issuer = issuer(&facts.issuer, others)?;
        Ok(Self { name, not_before: facts.not_before, not_after: facts.not_after, issuer })
    }
}

/// The digest of the key of the CA with this name, from its certificate among `others`.
///
/// Two of one name are refused, though stock validation would pick the one that fits: a peer whose CA was retired could
/// show another certificate of that name before it.
fn issuer(name: &[u8], others: &[CertificateDer<'_>]) -> Result<Option<[u8; 32]>, PeerError> {
    let facts = others.iter().filter_map(|der| certificate::facts(der).ok());
    let mut found = facts.filter(|facts| facts.subject == name);
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => {
            Err(PeerError::Chain("two certificates bear the name of the CA that issued the leaf".to_owned()))
        }
        (first, _) => Ok(first.map(|facts| facts.key_digest())),
    }
}

/// Why a peer is not who it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It showed none.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// It showed more than [`CHAIN_LEN_MAX`].
    #[error("the peer showed {0} certificates; at most {CHAIN_LEN_MAX} are read")]
    ChainTooLong(usize),
    /// What it showed is no certificate.
    #[error("the peer's certificate cannot be read")]
    Malformed,
    /// No trusted root stands behind it.
    #[error("the peer's certificate was not issued by this installation")]
    UnknownIssuer,
    /// It has ended.
    #[error("the peer's certificate ended {} ago, at {not_after}{}", Span(now.since(*not_after)), clock_hint(now.since(*not_after), *now))]
    Expired {
        /// When it ended.
        not_after: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// It has not begun.
    #[error("the peer's certificate is valid only in {}, from {not_before}{}", Span(not_before.since(*now)), clock_hint(Duration::ZERO, *now))]
    NotYetValid {
        /// When it begins.
        not_before: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// Issued for another use: a client's shown by a server, a public one shown by a node.
    #[error("the peer's certificate was issued for another purpose")]
    Purpose,
    /// A signature in the chain is wrong.
    #[error("a signature in the peer's certificate chain is wrong")]
    Signature,
    /// The chain breaks a rule: a CA where none may be, a missing DNS name, an unknown critical extension….
    #[error("the peer's certificate chain is not valid: {0}")]
    Chain(String),
    /// Not exactly one URI among its names.
    #[error("the peer's certificate has {0} URI names; a node's has exactly one")]
    NameCount(usize),
    /// Its URI is no name of ours.
    #[error("the peer's certificate names no node: {0}")]
    Name(NameError),
    /// A node of another installation.
    #[error("the peer belongs to trust domain {0}, not to this one")]
    TrustDomain(TrustDomain),
    /// Evicted.
    #[error("{0} was evicted")]
    Denied(Box<SpiffeName>),
    /// Its leaf is of a CA that was retired.
    #[error(
        "the CA that issued the certificate of {0} was retired; the node asks for a new certificate by itself"
    )]
    Retired(Box<SpiffeName>),
    /// Another node than the one expected.
    #[error("expected {expected}, but the peer is {found}")]
    Role {
        /// Whom we wanted.
        expected: ExpectedRole,
        /// Who it is.
        found: Box<SpiffeName>,
    },
}

impl PeerError {
    /// Whether a wrong clock, here or there, is the likely cause.
    pub fn suspects_clock(&self) -> bool {
        match self {
            Self::Expired { not_after, now } => now.since(*not_after) <= CLOCK_SUSPECT_MAX,
            Self::NotYetValid { .. } => true,
            _ => false,
        }
    }
}

/// Judges a chain (leaf first) that came by another way than a handshake: a bundle's signer, or a live
/// tunnel's peer after trust has changed.
///
/// An edge or control node must be certified as a server, a warpgate as a client.
pub fn verify_peer(
    chain: &[CertificateDer<'_>],
    trust: &Trust,
    now: Timestamp,
    expected: ExpectedRole,
) -> Result<Peer, PeerError> {
    let (leaf, others) = chain.split_first().ok_or(PeerError::NoCertificate)?;
    match expected {
        ExpectedRole::AnyWarpgate => trust.judge_client(leaf, others, now, expected),
        _ => trust.judge_server(leaf, others, now, expected),
    }
}

/// A stretch of time as people say it.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..120 => write!(f, "{seconds} s"),
            120..7200 => write!(f, "{} min", seconds / 60),
            7200..172_800 => write!(f, "{} h", seconds / 3600),
            _ => write!(f, "{} days", seconds / 86_400),
        }
    }
}

fn clock_hint(by: Duration, now: Timestamp) -> String {
    if by <= CLOCK_SUSPECT_MAX {
        format!(" (this machine's clock says {now}: is it right?)")
    } else {
        String::new()
    }
}
