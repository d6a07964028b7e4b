//! The connect protocol (ALPN `mezu-enroll/1`): how a warpgate that has only a connection key gets a
//! certificate, the roots to trust and its bundle; later, newer bundles.
//!
//! One request and one reply per stream, each `length u32 big-endian | JSON`. The warpgate has checked that a control
//! node answers, under the pinned root, before it writes the first byte, because a key is in it: a split edge passes
//! the TLS on unopened. Fields a reader does not know are skipped.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::clock::Timestamp;
use mezusphere_model::id::{EnvironmentId, WarpgateId};
use mezusphere_model::slug::Slug;
use mezusphere_model::token::ApiKeyToken;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use crate::limits::CONNECT_MESSAGE_LEN_MAX;

/// Octets of the length in front of a message.
pub const LEN_SIZE: usize = 4;

/// What a warpgate asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// A certificate for a key made on the warpgate, and the environment's bundle.
    Enroll(Enroll),
    /// The environment's bundle, if there is a newer one.
    Bundle(BundleQuery),
    /// What an enrollment would find: nothing is made, no certificate, no entry.
    Check(Check),
}

/// Asks for a certificate, at first and at each renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enroll {
    /// The API key out of the connection key; its scope must be `connect`.
    #[serde(with = "api_key")]
    pub key: ApiKeyToken,
    /// The environment to connect to.
    pub environment: EnvironmentId,
    /// The certificate signing request (RFC 2986), DER in base64.
    pub csr_der: String,
    /// The instance it already is, at a renewal; `None`: give it an id.
    #[serde(default)]
    pub instance: Option<WarpgateId>,
    /// Its own version, for people: `warpgate/0.1.0`.
    pub agent: String,
    /// Name of the machine, for people.
    pub hostname: String,
}

/// Asks for a newer bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleQuery {
    /// The API key out of the connection key.
    #[serde(with = "api_key")]
    pub key: ApiKeyToken,
    /// Whose.
    pub environment: EnvironmentId,
    /// The revision it has; 0: none.
    pub have_revision: u64,
}

/// Asks whether an enrollment would succeed, for a check before the first connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The API key out of the connection key.
    #[serde(with = "api_key")]
    pub key: ApiKeyToken,
    /// The environment to connect to.
    pub environment: EnvironmentId,
    /// Its own version, as in [`Enroll::agent`].
    pub agent: String,
}

/// What control answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To `Enroll`.
    Enrolled(Box<Enrolled>),
    /// To `Bundle`.
    Bundle {
        /// `None`: what the warpgate has is the newest.
        bundle: Option<SignedBundle>,
    },
    /// To `Check`.
    Checked(Box<Checked>),
    /// To any of them.
    Refused(Refusal),
}

/// A warpgate's new certificate and what it needs to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The certificate chain, leaf first, without the root, PEM.
    pub chain_pem: String,
    /// Root certificates that a connection key may name, with those that lead from an older one to the root of now; PEM.
    /// Believed for the key's pin alone: whom to trust from then on is the bundle's to say.
    pub roots_pem: Vec<String>,
    /// Which instance it is.
    pub warpgate: WarpgateId,
    /// Its SPIFFE URI, as in the certificate.
    pub spiffe: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
    /// What control's clock shows, so that a wrong one here is noticed.
    pub control_time: Timestamp,
    /// The environment's bundle.
    pub bundle: SignedBundle,
    /// Name of the service account the key belongs to.
    pub account: String,
    /// The project's slug.
    pub project: Slug,
    /// The environment's slug.
    pub environment: Slug,
}

/// What an enrollment would find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Root certificates, as in [`Enrolled::roots_pem`].
    pub roots_pem: Vec<String>,
    /// What control's clock shows, so that a wrong one here is noticed.
    pub control_time: Timestamp,
    /// How long a certificate would be valid, in seconds.
    pub certificate_s: u64,
    /// The environment's bundle.
    pub bundle: SignedBundle,
    /// Name of the service account the key belongs to.
    pub account: String,
    /// The project's slug.
    pub project: Slug,
    /// The environment's slug.
    pub environment: Slug,
}

/// Why control does not serve a warpgate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// A stable dotted word: one of [`refusal`], or a newer one.
    pub code: String,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it, for people.
    pub next: String,
}

/// The codes of a [`Refusal`].
pub mod refusal {
    /// There is no such key.
    pub const KEY_UNKNOWN: &str = "key.unknown";
    /// The key was revoked.
    pub const KEY_REVOKED: &str = "key.revoked";
    /// The key has expired.
    pub const KEY_EXPIRED: &str = "key.expired";
    /// The key may do other things, or connect other environments.
    pub const KEY_SCOPE: &str = "key.scope";
    /// The warpgate's clock is too far off.
    pub const CLOCK_SKEW: &str = "clock.skew";
    /// An operator evicted this warpgate for good; its key may still be good.
    pub const WARPGATE_EVICTED: &str = "warpgate.evicted";
    /// There is no such environment in the key's project.
    pub const ENVIRONMENT_UNKNOWN: &str = "environment.unknown";
    /// The warpgate is older than control supports.
    pub const AGENT_TOO_OLD: &str = "agent.too_old";
    /// The signing request is malformed, or its signature is not its key's.
    pub const CSR_INVALID: &str = "csr.invalid";
    /// The message is not one control understands.
    pub const REQUEST_MALFORMED: &str = "request.malformed";
    /// The edge cannot reach control; ask again later.
    pub const CONTROL_AWAY: &str = "control.away";
    /// A fault of control.
    pub const INTERNAL: &str = "control.internal";
}

/// Why a message cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Longer than [`CONNECT_MESSAGE_LEN_MAX`].
    #[error("a connect message is longer than {CONNECT_MESSAGE_LEN_MAX} octets")]
    TooLong,
    /// Not the JSON of a message of this kind; says where.
    #[error("a connect message cannot be read: {0}")]
    Malformed(String),
    /// The stream ended before the message did.
    #[error("the stream ended before the connect message was whole")]
    Truncated,
    /// The stream went on after the message.
    #[error("more than one connect message on a stream")]
    TrailingBytes,
}

impl Request {
    /// Reads the JSON of a request.
    pub fn from_json(json: &[u8]) -> Result<Self, ConnectError> {
        from_json(json)
    }

    /// Writes the JSON of a request. It holds a secret.
    pub fn to_json(&self) -> Result<Vec<u8>, ConnectError> {
        to_json(self)
    }
}

impl Reply {
    /// Reads the JSON of a reply.
    pub fn from_json(json: &[u8]) -> Result<Self, ConnectError> {
        from_json(json)
    }

    /// Writes the JSON of a reply.
    pub fn to_json(&self) -> Result<Vec<u8>, ConnectError> {
        to_json(self)
    }
}

/// A message with its length in front.
pub fn frame(json: &[u8]) -> Result<Bytes, ConnectError> {
    let len = u32::try_from(json.len()).map_err(|_| ConnectError::TooLong)?;
    if json.len() > CONNECT_MESSAGE_LEN_MAX {
        return Err(ConnectError::TooLong);
    }
    let mut out = BytesMut::with_capacity(LEN_SIZE + json.len());
    out.put_u32(len);
    out.put_slice(json);
    Ok(out.freeze())
}

/// The length of a message from the four octets in front of it.
pub fn message_len(front: [u8; LEN_SIZE]) -> Result<usize, ConnectError> {
    usize::try_from(u32::from_be_bytes(front))
        .ok()
        .filter(|len| *len <= CONNECT_MESSAGE_LEN_MAX)
        .ok_or(ConnectError::TooLong)
}

/// Gathers the one message of a stream, however the bytes are cut. Takes memory as bytes come, never by
/// what the length promises.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: BytesMut,
}

impl Decoder {
    /// A decoder for a new stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes. `true` once the message is whole.
    ///
    /// # Errors
    /// [`ConnectError::TooLong`] as soon as the length says so; [`ConnectError::TrailingBytes`].
    pub fn push(&mut self, chunk: &[u8]) -> Result<bool, ConnectError> {
        self.bytes.extend_from_slice(chunk);
        match self.len()? {
            None => Ok(false),
            Some(len) if self.bytes.len() > LEN_SIZE + len => Err(ConnectError::TrailingBytes),
            Some(len) => Ok(self.bytes.len() == LEN_SIZE + len),
        }
    }

    /// The JSON of the message, at the end of the stream or once it is whole.
    ///
    /// # Errors
    /// [`ConnectError::Truncated`] if it is not.
    pub fn finish(mut self) -> Result<Vec<u8>, ConnectError> {
        let len = self.len()?.ok_or(ConnectError::Truncated)?;
        if self.bytes.len() != LEN_SIZE + len {
            return Err(ConnectError::Truncated);
        }
        self.bytes.advance(LEN_SIZE);
        Ok(self.bytes.into())
    }

    fn len(&self) -> Result<Option<usize>, ConnectError> {
        self.bytes.first_chunk::<LEN_SIZE>().map(|front| message_len(*front)).transpose()
    }
}

fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, ConnectError> {
    if json.len() > CONNECT_MESSAGE_LEN_MAX {
        return Err(ConnectError::TooLong);
    }
    // serde_json's own words for data errors quote the input, which may hold a key; its place is enough.
    serde_json::from_slice(json).map_err(|why| {
        ConnectError::Malformed(format!(
            "{:?} error at line {} column {}",
            why.classify(),
            why.line(),
            why.column()
        ))
    })
}

fn to_json<T: Serialize>(message: &T) -> Result<Vec<u8>, ConnectError> {
    let json = serde_json::to_vec(message).map_err(|why| ConnectError::Malformed(why.to_string()))?;
    if json.len() > CONNECT_MESSAGE_LEN_MAX { Err(ConnectError::TooLong) } else { Ok(json) }
}

/// An API key as text: the one place where it is written out.
mod api_key {
    use mezusphere_model::token::ApiKeyToken;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(key: &ApiKeyToken, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&key.reveal())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ApiKeyToken, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use mezusphere_model::Entropy;
    use mezusphere_model::id::ApiKeyId;
    use mezusphere_model::token::Token;

    use super::*;

    fn request() -> Request {
        let entropy = Entropy::counting();
        Request::Enroll(Enroll {
            key: ApiKeyToken { id: ApiKeyId::random(&entropy), secret: Token::random(&entropy) },
            environment: EnvironmentId::random(&entropy),
            csr_der: "MIIB".to_owned(),
            instance: None,
            agent: "warpgate/0.1.0".to_owned(),
            hostname: "shed".to_owned(),
        })
    }

    #[test]
    fn a_message_survives_its_frame_however_it_is_cut() {
        let framed = frame(&request().to_json().unwrap()).unwrap();
        for cut in 0..=framed.len() {
            let mut decoder = Decoder::new();
            let (front, back) = framed.split_at(cut);
            assert_eq!(decoder.push(front), Ok(cut == framed.len()), "{cut}");
            if cut < framed.len() {
                assert_eq!(decoder.push(back), Ok(true), "{cut}");
            }
            assert_eq!(Request::from_json(&decoder.finish().unwrap()), Ok(request()));
        }
    }

    #[test]
    fn a_truncated_message_is_never_whole() {
        let framed = frame(&request().to_json().unwrap()).unwrap();
        for cut in 0..framed.len() {
            let mut decoder = Decoder::new();
            assert_eq!(decoder.push(&framed[..cut]), Ok(false));
            assert_eq!(decoder.finish(), Err(ConnectError::Truncated));
        }
    }

    #[test]
    fn what_is_too_long_or_too_much_is_refused_at_once() {
        assert_eq!(Decoder::new().push(&u32::MAX.to_be_bytes()), Err(ConnectError::TooLong));
        assert_eq!(Decoder::new().push(&[0, 0, 0, 1, b'1', b'2']), Err(ConnectError::TrailingBytes));
        assert_eq!(frame(&vec![b' '; CONNECT_MESSAGE_LEN_MAX + 1]), Err(ConnectError::TooLong));
    }

    #[test]
    fn a_field_of_a_newer_peer_is_skipped() {
        let json = request().to_json().unwrap();
        let newer = String::from_utf8(json).unwrap().replacen('{', r#"{"new":{"a":1},"#, 1);
        assert_eq!(Request::from_json(newer.as_bytes()), Ok(request()));
    }

    #[test]
    fn r25_no_error_and_no_debug_output_shows_the_key() {
        let Request::Enroll(enroll) = request() else { panic!("an enrollment") };
        let text = enroll.key.reveal();
        assert!(!format!("{:?}", request()).contains(&text));
        let damaged = String::from_utf8(request().to_json().unwrap()).unwrap().replace(&text, &text[1..]);
        let error = Request::from_json(damaged.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains(&text[1..20]), "{error}");
    }
}
