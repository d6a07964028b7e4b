//! Secrets that clients hold: session tokens, one-time codes, API keys. Only their SHA-256 is ever stored.
//!
//! An API key reads `mzk_`, 64 base64url characters (16 bytes of key id, 32 of secret) and 8 hexadecimal
//! digits of CRC-32 over those characters. The check sum tells a truncated or mistyped key from a
//! wrong one before anything is asked; it protects nothing.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

use crate::entropy::Entropy;
use crate::id::ApiKeyId;

/// What a stored secret is known by: SHA-256 of its bytes. Enough because every token has 256 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash with these bytes, as stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(secret: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        Self(bytes)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = BASE64URL.decode(text.as_bytes()).map_err(D::Error::custom)?;
        bytes.try_into().map(Self).map_err(|_| D::Error::custom("a hash has 32 bytes"))
    }
}

/// 256 random bits that a client presents: a session token, a hand-off code, a sign-in link.
///
/// Wiped from memory when dropped; never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// A new token.
    pub fn random(entropy: &Entropy) -> Self {
        Self(entropy.bytes())
    }

    /// Reads the 43 characters of base64url that [`Token::reveal`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        BASE64URL.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// The text a client holds. Not `Display`, so that no log prints it by accident.
    pub fn reveal(&self) -> String {
        BASE64URL.encode(self.0)
    }

    /// The token with these bytes, as a wire format carries it.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for a wire format that is itself secret.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What is stored of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Signs the feed revision inside a session cookie, so that an edge which is behind knows to ask control
/// instead of answering "no session", and nobody else can make it ask.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CookieKey(TokenHash);

impl CookieKey {
    /// A new key.
    pub fn random(entropy: &Entropy) -> Self {
        Self(TokenHash(entropy.bytes()))
    }

    fn mac(&self, token: &Token, born_at: u64) -> [u8; 16] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0.0);
        let mut context = hmac::Context::with_key(&key);
        context.update(b"mezu-session-cookie/1");
        context.update(&token.0);
        context.update(&born_at.to_be_bytes());
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        short
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey(…)")
    }
}

/// The value of the session cookie: `<token>.<revision>.<mac>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCookie {
    /// The session's token.
    pub token: Token,
    /// The revision of the project's partition at which the session was published; trusted only if
    /// [`SessionCookie::read`] said it is authentic.
    pub born_at: u64,
}

impl SessionCookie {
    /// Name of the cookie on an app host.
    pub const NAME: &'static str = "__Host-mezu-session";

    /// Writes the value.
    pub fn write(&self, key: &CookieKey) -> String {
        let mac = BASE64URL.encode(key.mac(&self.token, self.born_at));
        format!("{}.{}.{mac}", self.token.reveal(), self.born_at)
    }

    /// Reads a value signed with any of `keys`; `None` if it is malformed or not ours.
    pub fn read(text: &str, keys: &[CookieKey]) -> Option<Self> {
        let (token, rest) = text.split_once('.')?;
        let (born_at, mac) = rest.split_once('.')?;
        let cookie = Self { token: Token::parse(token)?, born_at: born_at.parse().ok()? };
        let mac = BASE64URL.decode(mac).ok()?;
        let ours = |key: &CookieKey| {
            subtle::ConstantTimeEq::ct_eq(key.mac(&cookie.token, cookie.born_at).as_slice(), &mac).into()
        };
        keys.iter().any(ours).then_some(cookie)
    }
}

/// An API key as its holder has it: which key, and the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyToken {
    /// Which key.
    pub id: ApiKeyId,
    /// Its secret.
    pub secret: Token,
}

/// Why a text is not an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    /// It does not start like one.
    #[error("this is not an API key; one starts with mzk_")]
    NotAKey,
    /// It starts like one, but the check sum is wrong.
    #[error("this API key is incomplete or mistyped; copy it again, whole")]
    Damaged,
}

impl ApiKeyToken {
    /// What every API key starts with.
    pub const PREFIX: &'static str = "mzk_";

    /// The text its holder keeps. Not `Display`, so that no log prints it by accident.
    pub fn reveal(&self) -> String {
        let mut bytes = [0_u8; 48];
        let both = self.id.bits().to_be_bytes().into_iter().chain(self.secret.0);
        for (to, from) in bytes.iter_mut().zip(both) {
            *to = from;
        }
        let body = BASE64URL.encode(bytes);
        bytes.zeroize();
        let sum = crc32fast::hash(body.as_bytes());
        format!("{}{body}{sum:08x}", Self::PREFIX)
    }
}

impl FromStr for ApiKeyToken {
    type Err = ApiKeyError;

    fn from_str(text: &str) -> Result<Self, ApiKeyError> {
        let rest = text.strip_prefix(Self::PREFIX).ok_or(ApiKeyError::NotAKey)?;
        let (body, sum) = rest.split_at_checked(64).ok_or(ApiKeyError::Damaged)?;
        if sum != format!("{:08x}", crc32fast::hash(body.as_bytes())) {
            return Err(ApiKeyError::Damaged);
        }
        let bytes = BASE64URL.decode(body).map_err(|_| ApiKeyError::Damaged)?;
        let (id, secret) = bytes.split_first_chunk::<16>().ok_or(ApiKeyError::Damaged)?;
        let secret = secret.try_into().map_err(|_| ApiKeyError::Damaged)?;
        Ok(Self { id: ApiKeyId::from_bits(u128::from_be_bytes(*id)), secret: Token(secret) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_cookie_carries_its_revision_and_nobody_else_can_write_one() {
        let entropy = Entropy::counting();
        let (ours, theirs) = (CookieKey::random(&entropy), CookieKey::random(&entropy));
        let cookie = SessionCookie { token: Token::random(&entropy), born_at: 42 };
        let text = cookie.write(&ours);
        assert_eq!(SessionCookie::read(&text, &[theirs.clone(), ours.clone()]), Some(cookie));
        assert_eq!(SessionCookie::read(&text, &[theirs]), None);
        assert_eq!(SessionCookie::read(&text.replace(".42.", ".43."), &[ours]), None);
    }

    #[test]
    fn a_truncated_api_key_is_told_from_a_foreign_text() {
        let entropy = Entropy::counting();
        let key = ApiKeyToken { id: ApiKeyId::random(&entropy), secret: Token::random(&entropy) };
        let text = key.reveal();
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(text[..text.len() - 1].parse::<ApiKeyToken>(), Err(ApiKeyError::Damaged));
        assert_eq!("ghp_x".parse::<ApiKeyToken>(), Err(ApiKeyError::NotAKey));
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let entropy = Entropy::counting();
        let key = ApiKeyToken { id: ApiKeyId::random(&entropy), secret: Token::random(&entropy) };
        assert!(!format!("{key:?}").contains(&key.secret.reveal()));
    }
}
