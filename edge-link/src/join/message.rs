//! The messages of joining, and why control refuses. Fields a reader does not know are skipped.

use mezusphere_model::clock::Timestamp;
use mezusphere_model::document::{NodeAddress, TrustDoc};
use mezusphere_model::id::{EdgeId, JoinId};
use mezusphere_model::link::AboutEdge;
use mezusphere_model::token::Token;
use serde::{Deserialize, Serialize};

/// Asks to become an edge of the installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Which invitation.
    pub id: JoinId,
    /// The secret out of the join token. Good once.
    #[serde(with = "crate::wire::token")]
    pub secret: Token,
    /// The certificate request (PKCS #10, DER); base64url on the wire.
    #[serde(with = "crate::wire::bytes")]
    pub csr_der: Vec<u8>,
    /// What the edge says of itself.
    pub about: AboutEdge,
    /// What the edge's clock shows, so that a wrong one is refused with the reason before it causes riddles.
    pub edge_time: Timestamp,
}

/// Asks for the next certificate as the edge that had one before, which has ended or whose CA was retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejoinRequest {
    /// The newest certificate the edge was issued (DER); base64url on the wire.
    #[serde(with = "crate::wire::bytes")]
    pub leaf_der: Vec<u8>,
    /// The certificate request (PKCS #10, DER) for a new key; base64url on the wire.
    #[serde(with = "crate::wire::bytes")]
    pub csr_der: Vec<u8>,
    /// That the edge holds the key of that certificate ([`mezusphere_pki::possession`]); base64url on the wire.
    #[serde(with = "crate::wire::bytes")]
    pub proof: Vec<u8>,
    /// What the edge says of itself.
    pub about: AboutEdge,
    /// What the edge's clock shows.
    pub edge_time: Timestamp,
}

/// What makes an edge an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinReply {
    /// Who it is from now on.
    pub edge: EdgeId,
    /// What operators call it.
    pub name: String,
    /// Its certificate chain, leaf first, without the root (DER); base64url on the wire.
    #[serde(with = "crate::wire::list_of_bytes")]
    pub chain_der: Vec<Vec<u8>>,
    /// Whom to trust until the feed brings something newer.
    pub trust: TrustDoc,
    /// Where control nodes listen for nodes, this one among them.
    pub controls: Vec<NodeAddress>,
    /// What control's clock shows.
    pub control_time: Timestamp,
}

/// Why control does not let an edge join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct JoinRefused {
    /// A stable dotted word: one of [`refusal`], or a newer one.
    pub code: String,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it, for people.
    pub next: String,
}

impl JoinRefused {
    /// A refusal in these words.
    pub fn new(code: &str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), next: next.into() }
    }
}

/// The codes of a [`JoinRefused`].
pub mod refusal {
    /// There is no such invitation, or the secret is not its.
    pub const UNKNOWN: &str = "join.unknown";
    /// The invitation was used already, or revoked.
    pub const USED: &str = "join.used";
    /// The invitation's time is over.
    pub const EXPIRED: &str = "join.expired";
    /// The edge's clock is too far off.
    pub const CLOCK: &str = "join.clock";
    /// The edge's program is older than control supports.
    pub const TOO_OLD: &str = "join.too_old";
    /// The certificate is none of an edge that may still have one: unknown, or long replaced by newer ones.
    pub const NOT_MEMBER: &str = "join.not_member";
    /// The edge was evicted.
    pub const EVICTED: &str = "edge.evicted";
    /// The invitation is of another installation.
    pub const OTHER_INSTALLATION: &str = "join.other_installation";
    /// The message or the certificate request is not one control understands.
    pub const MALFORMED: &str = "join.malformed";
    /// Too many join at once, or control cannot reach its database; ask again, or another control node.
    pub const BUSY: &str = "join.busy";
}

/// What travels back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Answered {
    /// It is an edge now.
    Joined(Box<JoinReply>),
    /// It is not.
    Refused(JoinRefused),
}
