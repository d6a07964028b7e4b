//! The one string a customer gives a warpgate: where to connect, whom to trust, what for, and the secret.
//!
//! Text form: `mzw_` and base64url of
//! `version u8 = 1 | API key id [16] | secret [32] | environment id [16] | SHA-256 of the root certificate [32] |
//! port u16 | host length u8 | host | CRC-32 u32 over all before`, integers big-endian.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

use crate::host::Host;
use crate::id::{ApiKeyId, EnvironmentId};
use crate::token::{ApiKeyToken, Token};

const VERSION: u8 = 1;

/// A parsed connection key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionKey {
    /// The API key it carries, whose scope is `connect`.
    pub key: ApiKeyToken,
    /// The environment it connects to.
    pub environment: EnvironmentId,
    /// SHA-256 of the root certificate to trust (DER).
    pub root: [u8; 32],
    /// The host of the connect service: `connect.` and the platform domain.
    pub host: Host,
    /// Its port.
    pub port: u16,
}

/// Why a text is not a connection key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionKeyError {
    /// It does not start like one.
    #[error("this is not a connection key; one starts with mzw_")]
    NotAKey,
    /// An API key: right kind of thing, wrong use.
    #[error("this is an API key (mzk_), not a connection key (mzw_)")]
    ApiKey,
    /// It starts like one, but is cut off or altered.
    #[error("this connection key is incomplete or mistyped; copy it again, whole")]
    Damaged,
    /// Made by a newer installation.
    #[error("this connection key is of format {0}; this warpgate is too old for it")]
    TooNew(u8),
}

impl ConnectionKey {
    /// What every connection key starts with.
    pub const PREFIX: &'static str = "mzw_";

    /// The text its holder keeps. Not `Display`, so that no log prints it by accident.
    pub fn reveal(&self) -> String {
        let host = self.host.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(104 + host.len());
        bytes.push(VERSION);
        bytes.extend(self.key.id.bits().to_be_bytes());
        bytes.extend(self.key.secret.as_bytes());
        bytes.extend(self.environment.bits().to_be_bytes());
        bytes.extend(self.root);
        bytes.extend(self.port.to_be_bytes());
        bytes.push(u8::try_from(host.len()).unwrap_or(u8::MAX)); // a Host has at most 253 octets
        bytes.extend(host);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        format!("{}{}", Self::PREFIX, BASE64URL.encode(bytes))
    }

    /// The last four characters: what logs and tables may show.
    pub fn hint(text: &str) -> &str {
        text.len().checked_sub(4).and_then(|from| text.get(from..)).unwrap_or_default()
    }
}

impl FromStr for ConnectionKey {
    type Err = ConnectionKeyError;

    fn from_str(text: &str) -> Result<Self, ConnectionKeyError> {
        if text.starts_with(ApiKeyToken::PREFIX) {
            return Err(ConnectionKeyError::ApiKey);
        }
        let body = text.strip_prefix(Self::PREFIX).ok_or(ConnectionKeyError::NotAKey)?;
        let bytes = BASE64URL.decode(body).map_err(|_| ConnectionKeyError::Damaged)?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(ConnectionKeyError::Damaged)?;
        if *sum != crc32fast::hash(body).to_be_bytes() {
            return Err(ConnectionKeyError::Damaged);
        }
        let (version, rest) = body.split_first().ok_or(ConnectionKeyError::Damaged)?;
        if *version != VERSION {
            return Err(ConnectionKeyError::TooNew(*version));
        }
        Self::read(rest).ok_or(ConnectionKeyError::Damaged)
    }
}

impl ConnectionKey {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (id, bytes) = bytes.split_first_chunk::<16>()?;
        let (secret, bytes) = bytes.split_first_chunk::<32>()?;
        let (environment, bytes) = bytes.split_first_chunk::<16>()?;
        let (root, bytes) = bytes.split_first_chunk::<32>()?;
        let (port, bytes) = bytes.split_first_chunk::<2>()?;
        let (len, host) = bytes.split_first()?;
        if host.len() != usize::from(*len) {
            return None;
        }
        Some(Self {
            key: ApiKeyToken {
                id: ApiKeyId::from_bits(u128::from_be_bytes(*id)),
                secret: Token::from_bytes(*secret),
            },
            environment: EnvironmentId::from_bits(u128::from_be_bytes(*environment)),
            root: *root,
            host: Host::parse(std::str::from_utf8(host).ok()?).ok()?,
            port: u16::from_be_bytes(*port),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;

    fn key() -> ConnectionKey {
        let entropy = Entropy::counting();
        ConnectionKey {
            key: ApiKeyToken { id: ApiKeyId::random(&entropy), secret: Token::random(&entropy) },
            environment: EnvironmentId::random(&entropy),
            root: entropy.bytes(),
            host: Host::parse("connect.mezu.localhost").unwrap(),
            port: 8443,
        }
    }

    #[test]
    fn a_connection_key_survives_its_text_form() {
        assert_eq!(key().reveal().parse(), Ok(key()));
    }

    #[test]
    fn each_bad_key_gets_its_own_reason() {
        let text = key().reveal();
        for cut in 4..text.len() {
            assert_eq!(text[..cut].parse::<ConnectionKey>(), Err(ConnectionKeyError::Damaged), "{cut}");
        }
        assert_eq!(key().key.reveal().parse::<ConnectionKey>(), Err(ConnectionKeyError::ApiKey));
        assert_eq!("hello".parse::<ConnectionKey>(), Err(ConnectionKeyError::NotAKey));
    }
}
