//! The one string an operator gives a new edge: where control is, whom to trust, and the secret that lets it in once.
//!
//! Text form: `mzj_` and base64url of
//! `version u8 = 1 | invitation id [16] | secret [32] | SHA-256 of the root certificate [32] |
//! addresses u8 | (port u16 | host length u8 | host)… | CRC-32 u32 over all before`, integers big-endian.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

use crate::document::NodeAddress;
use crate::id::JoinId;
use crate::token::Token;

const VERSION: u8 = 1;

/// Most control nodes a token names; an edge learns of all others once it is in.
pub const ADDRESSES_MAX: usize = 8;

/// A parsed join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// Which invitation.
    pub id: JoinId,
    /// Proves that its holder was invited.
    pub secret: Token,
    /// SHA-256 of the root certificate to trust (DER).
    pub root: [u8; 32],
    /// Where control nodes listen for nodes; at least one, at most [`ADDRESSES_MAX`].
    pub controls: Vec<NodeAddress>,
}

/// Why a text is not a join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// It does not start like one.
    #[error("this is not a join token; one starts with mzj_")]
    NotAToken,
    /// A connection key: right kind of thing, wrong use.
    #[error("this is a warpgate's connection key (mzw_), not an edge's join token (mzj_)")]
    ConnectionKey,
    /// It starts like one, but is cut off or altered.
    #[error("this join token is incomplete or mistyped; copy it again, whole")]
    Damaged,
    /// Made by a newer installation.
    #[error("this join token is of format {0}; this program is too old for it")]
    TooNew(u8),
}

impl JoinToken {
    /// What every join token starts with.
    pub const PREFIX: &'static str = "mzj_";

    /// The text its holder uses. Not `Display`, so that no log prints it by accident.
    pub fn reveal(&self) -> String {
        let mut bytes = Vec::with_capacity(128);
        bytes.push(VERSION);
        bytes.extend(self.id.bits().to_be_bytes());
        bytes.extend(self.secret.as_bytes());
        bytes.extend(self.root);
        let controls: Vec<_> =
            self.controls.iter().filter(|at| at.host.len() <= 255).take(ADDRESSES_MAX).collect();
        bytes.push(u8::try_from(controls.len()).unwrap_or(u8::MAX)); // at most ADDRESSES_MAX
        for at in controls {
            bytes.extend(at.port.to_be_bytes());
            bytes.push(u8::try_from(at.host.len()).unwrap_or(u8::MAX)); // filtered above
            bytes.extend(at.host.as_bytes());
        }
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        format!("{}{}", Self::PREFIX, BASE64URL.encode(bytes))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (id, bytes) = bytes.split_first_chunk::<16>()?;
        let (secret, bytes) = bytes.split_first_chunk::<32>()?;
        let (root, bytes) = bytes.split_first_chunk::<32>()?;
        let (count, mut bytes) = bytes.split_first()?;
        if *count == 0 || usize::from(*count) > ADDRESSES_MAX {
            return None;
        }
        let mut controls = Vec::with_capacity(usize::from(*count));
        for _ in 0..*count {
            let (port, rest) = bytes.split_first_chunk::<2>()?;
            let (len, rest) = rest.split_first()?;
            let (host, rest) = rest.split_at_checked(usize::from(*len))?;
            let host = std::str::from_utf8(host).ok().filter(|host| !host.is_empty())?.to_owned();
            controls.push(NodeAddress { host, port: u16::from_be_bytes(*port) });
            bytes = rest;
        }
        bytes.is_empty().then(|| Self {
            id: JoinId::from_bits(u128::from_be_bytes(*id)),
            secret: Token::from_bytes(*secret),
            root: *root,
            controls,
        })
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        if text.starts_with(crate::connection_key::ConnectionKey::PREFIX) {
            return Err(JoinTokenError::ConnectionKey);
        }
        let body = text.strip_prefix(Self::PREFIX).ok_or(JoinTokenError::NotAToken)?;
        let bytes = BASE64URL.decode(body).map_err(|_| JoinTokenError::Damaged)?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(JoinTokenError::Damaged)?;
        if *sum != crc32fast::hash(body).to_be_bytes() {
            return Err(JoinTokenError::Damaged);
        }
        let (version, rest) = body.split_first().ok_or(JoinTokenError::Damaged)?;
        if *version != VERSION {
            return Err(JoinTokenError::TooNew(*version));
        }
        Self::read(rest).ok_or(JoinTokenError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;

    fn token() -> JoinToken {
        let entropy = Entropy::counting();
        let at = |host: &str| NodeAddress { host: host.to_owned(), port: 8444 };
        JoinToken {
            id: JoinId::random(&entropy),
            secret: Token::random(&entropy),
            root: entropy.bytes(),
            controls: vec![at("control-1.example"), at("2001:db8::1")],
        }
    }

    #[test]
    fn a_join_token_survives_its_text_form() {
        assert_eq!(token().reveal().parse(), Ok(token()));
    }

    #[test]
    fn r24_each_bad_token_gets_its_own_reason() {
        let text = token().reveal();
        for cut in 4..text.len() {
            assert_eq!(text[..cut].parse::<JoinToken>(), Err(JoinTokenError::Damaged), "{cut}");
        }
        assert_eq!("mzw_AAAA".parse::<JoinToken>(), Err(JoinTokenError::ConnectionKey));
        assert_eq!("hello".parse::<JoinToken>(), Err(JoinTokenError::NotAToken));
    }
}
