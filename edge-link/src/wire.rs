//! The messages of the link as JSON, and the list of its endpoints. Documents pass as the raw JSON the primary wrote, and
//! digests as it computed them. Of model's own messages those that serialize themselves travel as they are.

use std::time::Duration;

use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use mezusphere_model::clock::Timestamp;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::EnvironmentId;
use mezusphere_model::link::{Credential, FoundSession};
use mezusphere_model::token::{ApiKeyToken, Token};
use mezusphere_store::feed::{Cursor, Digest, Entry, Epoch, Filed};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::limits::{
    ANSWER_LEN_MAX, BATCH_LEN_MAX, CONNECT_QUESTION_LEN_MAX, HEADS_LEN_MAX, LinkLimits, QUESTION_LEN_MAX,
    REPORT_LEN_MAX,
};

/// The one type of content.
pub(crate) const JSON: &str = "application/json";

/// Name of the encoding of large bodies (RFC 9110 §8.4.1.2: zlib).
pub(crate) const DEFLATE: &str = "deflate";

/// An endpoint, as both ends see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Heads,
    Snapshot,
    Changes,
    Applied,
    Wake,
    Find,
    Redeem,
    SignOut,
    Activity,
    Assertion,
    Denials,
    Tunnel,
    Certify,
    About,
    Connect,
}

impl Endpoint {
    pub(crate) const ALL: [Self; 15] = [
        Self::Heads,
        Self::Snapshot,
        Self::Changes,
        Self::Applied,
        Self::Wake,
        Self::Find,
        Self::Redeem,
        Self::SignOut,
        Self::Activity,
        Self::Assertion,
        Self::Denials,
        Self::Tunnel,
        Self::Certify,
        Self::About,
        Self::Connect,
    ];

    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Heads => "/v1/feed/heads",
            Self::Snapshot => "/v1/feed/snapshot",
            Self::Changes => "/v1/feed/changes",
            Self::Applied => "/v1/feed/applied",
            Self::Wake => "/v1/feed/wake",
            Self::Find => "/v1/session/find",
            Self::Redeem => "/v1/session/redeem",
            Self::SignOut => "/v1/session/sign-out",
            Self::Activity => "/v1/session/activity",
            Self::Assertion => "/v1/assertion",
            Self::Denials => "/v1/denials",
            Self::Tunnel => "/v1/tunnel",
            Self::Certify => "/v1/node/certify",
            Self::About => "/v1/node/about",
            Self::Connect => "/v1/connect",
        }
    }

    pub(crate) fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }

    /// Whether another control node may be asked after one may have read the question: whether asking twice is asking once.
    pub(crate) const fn may_repeat(self) -> bool {
        !matches!(self, Self::Redeem | Self::Denials | Self::Connect | Self::Certify)
    }

    /// Answers that hold a batch of documents; each link has memory for one at a time.
    pub(crate) const fn is_batch(self) -> bool {
        matches!(self, Self::Heads | Self::Snapshot | Self::Changes)
    }

    /// Whether the question may travel deflated.
    pub(crate) const fn deflates_question(self) -> bool {
        matches!(self, Self::Applied | Self::Activity | Self::Denials)
    }

    /// Longest question, in octets, inflated. What is small by nature gets little, because many are read at once.
    pub(crate) const fn question_len_max(self) -> usize {
        match self {
            Self::Connect => CONNECT_QUESTION_LEN_MAX,
            Self::Applied | Self::Activity | Self::Denials => REPORT_LEN_MAX,
            _ => QUESTION_LEN_MAX,
        }
    }

    /// Whether the question may be so long that few are read at once.
    pub(crate) const fn is_long_question(self) -> bool {
        self.question_len_max() > QUESTION_LEN_MAX
    }

    /// Longest answer, in octets, inflated.
    pub(crate) const fn answer_len_max(self) -> usize {
        match self {
            Self::Heads => HEADS_LEN_MAX,
            Self::Snapshot | Self::Changes => BATCH_LEN_MAX,
            _ => ANSWER_LEN_MAX,
        }
    }

    /// How long an edge waits for the answer.
    pub(crate) const fn wait(self, limits: &LinkLimits) -> Duration {
        match self {
            Self::Heads | Self::Snapshot | Self::Changes | Self::Certify | Self::Connect => limits.batch,
            _ => limits.question,
        }
    }
}

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

/// Whatever is written as text.
pub(crate) mod as_text {
    use super::{Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer, T: std::fmt::Display>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D, T>(from: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        std::borrow::Cow::<'de, str>::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

mod epoch {
    use super::{Deserialize, Deserializer, Epoch, Serializer};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(epoch: &Epoch, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:032x}", epoch.0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Epoch, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        u128::from_str_radix(&text, 16).map(Epoch).map_err(D::Error::custom)
    }
}

mod digest {
    use base64::Engine as _;

    use super::{BASE64URL, Deserializer, Digest, Serializer};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(digest: &Digest, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64URL.encode(digest.0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let bytes = super::bytes::deserialize(from)?;
        bytes.try_into().map(Digest).map_err(|_| D::Error::custom("a digest has 32 bytes"))
    }
}

/// A token as text; on authenticated, encrypted connections only.
pub(crate) mod token {
    use super::{Deserialize, Deserializer, Serializer, Token};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(token: &Token, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&token.reveal())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Token, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Token::parse(&text).ok_or_else(|| D::Error::custom("not a token"))
    }
}

/// Octets as base64url.
pub(crate) mod bytes {
    use base64::Engine as _;

    use super::{BASE64URL, Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64URL.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        BASE64URL.decode(text.as_bytes()).map_err(|_| D::Error::custom("not base64url"))
    }
}

/// A list of octets as base64url.
pub(crate) mod list_of_bytes {
    use base64::Engine as _;

    use super::{BASE64URL, Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(list: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|bytes| BASE64URL.encode(bytes)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let list = Vec::<std::borrow::Cow<'de, str>>::deserialize(from)?;
        let decode = |text: &std::borrow::Cow<'_, str>| BASE64URL.decode(text.as_bytes());
        list.iter().map(decode).collect::<Result<_, _>>().map_err(|_| D::Error::custom("not base64url"))
    }
}
