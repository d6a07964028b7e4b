//! The messages of the link as JSON. Documents pass as the raw JSON the primary wrote, and digests as it computed them. Of
//! model's own messages those that serialize themselves travel as they are.

mod endpoint;
mod text;

use mezusphere_model::clock::Timestamp;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::EnvironmentId;
use mezusphere_model::link::{Credential, FoundSession, TunnelReport};
use mezusphere_model::token::{ApiKeyToken, Token};
use mezusphere_store::feed::{Cursor, Digest, Entry, Epoch, Filed};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) use endpoint::Endpoint;
use text::{as_text, digest, epoch};
pub(crate) use text::{bytes, list_of_bytes, token};

/// The one type of content.
pub(crate) const JSON: &str = "application/json";

/// Name of the encoding of large bodies (RFC 9110 §8.4.1.2: zlib).
pub(crate) const DEFLATE: &str = "deflate";

/// A question without content, and an answer that says only "done".
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Nothing {}

/// Where a partition ends or a follower is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct At {
    #[serde(with = "epoch")]
    epoch: Epoch,
    revision: u64,
    #[serde(with = "digest")]
    digest: Digest,
}

impl From<Cursor> for At {
    fn from(Cursor { epoch, revision, digest }: Cursor) -> Self {
        Self { epoch, revision, digest }
    }
}

impl From<At> for Cursor {
    fn from(At { epoch, revision, digest }: At) -> Self {
        Self { epoch, revision, digest }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Heads {
    pub(crate) heads: Vec<HeadAt>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HeadAt {
    /// As text: an edge skips kinds of partitions it does not know.
    pub(crate) partition: String,
    pub(crate) at: At,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotOf {
    #[serde(with = "as_text")]
    pub(crate) partition: Partition,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<DocumentKey>,
    pub(crate) max: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) at: At,
    pub(crate) documents: Vec<FiledDoc>,
    pub(crate) more: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FiledDoc {
    pub(crate) key: DocumentKey,
    pub(crate) body: Box<RawValue>,
}

impl From<Filed> for FiledDoc {
    fn from(Filed { key, body }: Filed) -> Self {
        Self { key, body }
    }
}

impl From<FiledDoc> for Filed {
    fn from(FiledDoc { key, body }: FiledDoc) -> Self {
        Self { key, body }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangesSince {
    #[serde(with = "as_text")]
    pub(crate) partition: Partition,
    pub(crate) since: At,
    pub(crate) max: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Changed {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) start_over: bool,
    #[serde(default)]
    pub(crate) entries: Vec<Change>,
    #[serde(default)]
    pub(crate) more: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    revision: u64,
    key: DocumentKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    #[serde(with = "digest")]
    digest: Digest,
}

impl From<Entry> for Change {
    fn from(Entry { revision, key, body, digest }: Entry) -> Self {
        Self { revision, key, body, digest }
    }
}

impl From<Change> for Entry {
    fn from(Change { revision, key, body, digest }: Change) -> Self {
        Self { revision, key, body, digest }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub(crate) reports: Vec<AppliedAt>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AppliedAt {
    #[serde(with = "as_text")]
    pub(crate) partition: Partition,
    pub(crate) at: At,
    pub(crate) time: Timestamp,
}

/// A line of the wake; without content it is a sign of life.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WakeLine {
    /// As text: an edge skips kinds of partitions it does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) changed: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) anything: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ByToken {
    #[serde(with = "token")]
    pub(crate) token: Token,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) found: Option<FoundSession>,
}

/// Every tunnel an edge holds at a moment of its clock.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TunnelsHeld {
    pub(crate) held: Vec<TunnelReport>,
    pub(crate) at: Timestamp,
}

/// A list of what is reported.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Batch<T> {
    pub(crate) batch: Vec<T>,
}

/// Holds either a session's token or an API key, as text.
#[derive(Serialize, Deserialize)]
pub(crate) struct AssertionFor {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    pub(crate) environment: EnvironmentId,
}

impl AssertionFor {
    pub(crate) fn new(credential: &Credential, environment: EnvironmentId) -> Self {
        match credential {
            Credential::Session(token) => Self { session: Some(token.reveal()), api_key: None, environment },
            Credential::ApiKey(key) => Self { session: None, api_key: Some(key.reveal()), environment },
        }
    }

    /// The credential; `None` if there is not exactly one, or it is damaged.
    pub(crate) fn credential(&self) -> Option<Credential> {
        match (self.session.as_deref(), self.api_key.as_deref()) {
            (Some(text), None) => Token::parse(text).map(Credential::Session),
            (None, Some(text)) => text.parse::<ApiKeyToken>().ok().map(Credential::ApiKey),
            _ => None,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CertifyKey {
    #[serde(with = "bytes")]
    pub(crate) csr_der: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Certified {
    #[serde(with = "list_of_bytes")]
    pub(crate) chain_der: Vec<Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConnectFrom {
    #[serde(with = "bytes")]
    pub(crate) message: Vec<u8>,
    pub(crate) from: std::net::SocketAddr,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConnectReply {
    #[serde(with = "bytes")]
    pub(crate) message: Vec<u8>,
}

/// What is answered instead of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) error: Word,
    #[serde(default)]
    pub(crate) message: String,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    Malformed,
    Unknown,
    Refused,
    Damaged,
    Away,
    Busy,
}
