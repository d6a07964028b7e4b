//! The key everything at rest is sealed with: how it is read, named, and what is derived of it. Sealing is [`crate::seal`]'s.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD as BASE64URL};
use mezusphere_model::Entropy;
use zeroize::Zeroizing;

/// Octets of a [`KeyId`].
pub(crate) const KEY_ID_LEN: usize = 8;

const SALT: &[u8] = b"mezusphere/seal/1";

/// Names a master key without telling it: the first octets of its hash, put in front of every sealed value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub(crate) [u8; KEY_ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The key everything at rest is sealed with. Wiped when dropped.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; MasterKey::LEN]>);

/// Why a text or bytes are not a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a master key is 32 random octets, raw or as base64url or hex text")]
pub struct MasterKeyError;

impl MasterKey {
    /// Octets of a master key.
    pub const LEN: usize = 32;

    /// A new key.
    pub fn generate(entropy: &Entropy) -> Self {
        Self(Zeroizing::new(entropy.bytes()))
    }

    /// The key with these octets.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a key from the content of a file, an environment variable or a credential: 32 raw octets, or their
    /// base64url or hex text with or without white space around it.
    pub fn parse(content: &[u8]) -> Result<Self, MasterKeyError> {
        if let Ok(raw) = <[u8; Self::LEN]>::try_from(content) {
            return Ok(Self::from_bytes(raw));
        }
        let text = std::str::from_utf8(content).map_err(|_| MasterKeyError)?.trim();
        let bytes = Zeroizing::new(if text.len() == 2 * Self::LEN {
            hex(text).ok_or(MasterKeyError)?
        } else {
            BASE64URL.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| MasterKeyError)?
        });
        <[u8; Self::LEN]>::try_from(bytes.as_slice()).map(Self::from_bytes).map_err(|_| MasterKeyError)
    }

    /// The text its keeper stores. Not `Display`, so that no log prints it by accident.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64URL.encode(self.0.as_slice()))
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        let mut input = Zeroizing::new(b"mezusphere/seal/key-id/1".to_vec());
        input.extend_from_slice(self.0.as_slice());
        let mut id = [0; KEY_ID_LEN];
        for (to, from) in id.iter_mut().zip(digest(&SHA256, &input).as_ref()) {
            *to = *from;
        }
        KeyId(id)
    }

    /// A secret for another use than sealing, the same whenever it is asked for: HKDF-SHA256(master key, info =
    /// `mezusphere/derive/1/` and `purpose`).
    #[expect(clippy::missing_panics_doc, reason = "HKDF gives 32 octets of any key (RFC 5869 §2.3)")]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let prk = Salt::new(HKDF_SHA256, SALT).extract(self.0.as_slice());
        let info = [b"mezusphere/derive/1/".as_slice(), purpose.as_bytes()];
        let mut secret = [0; 32];
        let okm = prk.expand(&info, HKDF_SHA256).and_then(|okm| okm.fill(&mut secret));
        // As in `key_for`: one block is within HKDF's bound.
        okm.expect("32 octets are within HKDF's bound");
        secret
    }

    /// The key of a place.
    pub(crate) fn key_for(&self, context: &str) -> LessSafeKey {
        let prk = Salt::new(HKDF_SHA256, SALT).extract(self.0.as_slice());
        let info = [b"mezusphere/seal/1/".as_slice(), context.as_bytes()];
        // HKDF-SHA256 gives up to 255 × 32 octets (RFC 5869 §2.3); this asks for 32.
        let okm = prk.expand(&info, &AES_256_GCM_SIV).expect("32 octets are within HKDF's bound");
        LessSafeKey::new(UnboundKey::from(okm))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_derived_differs_by_purpose_and_stays() {
        let key = MasterKey::from_bytes([7; MasterKey::LEN]);
        assert_eq!(key.derive("a"), key.derive("a"));
        assert_ne!(key.derive("a"), key.derive("b"));
        assert_ne!(key.derive("a"), MasterKey::from_bytes([8; MasterKey::LEN]).derive("a"));
    }

    #[test]
    fn a_master_key_is_read_in_each_of_its_forms() {
        let key = MasterKey::generate(&Entropy::counting());
        let hex = key.0.map(|byte| format!("{byte:02X}")).concat();
        for content in [key.0.to_vec(), format!("{}\n", *key.reveal()).into_bytes(), hex.into_bytes()] {
            assert_eq!(MasterKey::parse(&content).map(|read| read.id()), Ok(key.id()));
        }
        for content in [b"".as_slice(), b"short", &[b'x'; 64], &[0; 31], &[b'a'; 44]] {
            assert!(MasterKey::parse(content).is_err(), "{content:?}");
        }
    }
}
