//! Sealing of secrets at rest, so that a stolen disk shows nothing: AES-256-GCM-SIV under a key of the place.
//!
//! A sealed value is `version u8 = 1 | key id [8] | nonce [12] | ciphertext and tag`. The key of a place is
//! HKDF-SHA256(master key, info = `mezusphere/seal/1/` and the context), so values of one place say nothing
//! about another's key; header and context are authenticated too. GCM-SIV rather than GCM, because a nonce
//! that came twice (a copied virtual machine) then shows only that two values were equal.
//!
//! Where the master key is kept is the caller's: this module reads no file.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD as BASE64URL};
use mezusphere_model::Entropy;
use mezusphere_model::seal::{Seal, UnsealError};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 8;
const HEADER_LEN: usize = 1 + KEY_ID_LEN;
const TAG_LEN: usize = 16;
const SALT: &[u8] = b"mezusphere/seal/1";

/// Most retired master keys a [`Sealer`] still opens values of.
pub const RETIRED_KEYS_MAX: usize = 8;

/// Names a master key without telling it: the first octets of its hash, put in front of every sealed value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KEY_ID_LEN]);

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

    fn key_for(&self, context: &str) -> LessSafeKey {
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

/// Seals with one master key, and opens what that one or a retired one sealed.
#[derive(Clone, Debug)]
pub struct Sealer {
    current: MasterKey,
    retired: Vec<MasterKey>,
    entropy: Entropy,
}

/// Why a sealer could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at most {RETIRED_KEYS_MAX} retired master keys are held")]
pub struct TooManyRetiredKeys;

impl Sealer {
    /// Seals with `current`; draws nonces from `entropy`, which must be the operating system's in a program.
    pub fn new(current: MasterKey, entropy: Entropy) -> Self {
        Self { current, retired: Vec::new(), entropy }
    }

    /// Opens what `retired` keys sealed, too.
    pub fn with_retired(mut self, retired: Vec<MasterKey>) -> Result<Self, TooManyRetiredKeys> {
        if retired.len() > RETIRED_KEYS_MAX {
            return Err(TooManyRetiredKeys);
        }
        self.retired = retired;
        Ok(self)
    }

    /// Whether `sealed` was sealed with a retired key and should be sealed anew.
    pub fn is_outdated(&self, sealed: &[u8]) -> bool {
        sealed.get(1..HEADER_LEN) != Some(self.current.id().0.as_slice())
    }
}

impl Seal for Sealer {
    fn seal(&self, context: &str, secret: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = self.entropy.bytes();
        let mut sealed = Vec::with_capacity(HEADER_LEN + NONCE_LEN + secret.len() + TAG_LEN);
        sealed.push(VERSION);
        sealed.extend(self.current.id().0);
        let aad = Aad::from(associated(&sealed, context));
        sealed.extend(nonce);
        sealed.extend_from_slice(secret);
        let (_, body) = sealed.split_at_mut(HEADER_LEN + NONCE_LEN);
        let tag = self
            .current
            .key_for(context)
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, body)
            // RFC 8452 §6: up to 64 GiB; every secret we keep is a few KiB.
            .expect("a secret is far below the cipher's limit");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        let (header, rest) = sealed.split_at_checked(HEADER_LEN).ok_or(UnsealError)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(UnsealError)?;
        let (version, id) = header.split_first().ok_or(UnsealError)?;
        if *version != VERSION {
            return Err(UnsealError);
        }
        let key = std::iter::once(&self.current)
            .chain(&self.retired)
            .find(|key| key.id().0 == id)
            .ok_or(UnsealError)?;
        let aad = Aad::from(associated(header, context));
        let mut body = Zeroizing::new(body.to_vec());
        let opened = key
            .key_for(context)
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut body)
            .map_err(|_| UnsealError)?;
        Ok(opened.to_vec())
    }
}

/// What is authenticated beside the ciphertext: header and context.
fn associated(header: &[u8], context: &str) -> Vec<u8> {
    [header, context.as_bytes()].concat()
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

    fn sealer(key: u8) -> Sealer {
        Sealer::new(MasterKey::from_bytes([key; 32]), Entropy::counting())
    }

    #[test]
    fn what_is_derived_differs_by_purpose_and_stays() {
        let key = MasterKey::from_bytes([7; MasterKey::LEN]);
        assert_eq!(key.derive("a"), key.derive("a"));
        assert_ne!(key.derive("a"), key.derive("b"));
        assert_ne!(key.derive("a"), MasterKey::from_bytes([8; MasterKey::LEN]).derive("a"));
    }

    #[test]
    fn r20_a_sealed_value_opens_in_its_place_only() {
        let keeper = sealer(1);
        let sealed = keeper.seal("pki/root", b"secret");
        assert_eq!(keeper.open("pki/root", &sealed).as_deref(), Ok(b"secret".as_slice()));
        for context in ["pki/issuing", "", "pki/root/", "pki/roo"] {
            assert_eq!(keeper.open(context, &sealed), Err(UnsealError), "{context:?}");
        }
    }

    #[test]
    fn r20_a_sealed_value_altered_anywhere_or_cut_does_not_open() {
        let keeper = sealer(1);
        let sealed = keeper.seal("place", b"secret");
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut altered = sealed.clone();
                altered[at] ^= 1 << bit;
                assert_eq!(keeper.open("place", &altered), Err(UnsealError), "octet {at}, bit {bit}");
            }
        }
        for len in 0..sealed.len() {
            assert_eq!(keeper.open("place", &sealed[..len]), Err(UnsealError), "cut to {len}");
        }
        let mut longer = sealed;
        longer.push(0);
        assert_eq!(keeper.open("place", &longer), Err(UnsealError));
    }

    #[test]
    fn r20_another_master_key_opens_nothing_even_with_the_key_id_forged() {
        let mut sealed = sealer(1).seal("place", b"secret");
        let other = sealer(2);
        assert_eq!(other.open("place", &sealed), Err(UnsealError));
        sealed[1..HEADER_LEN].copy_from_slice(&MasterKey::from_bytes([2; 32]).id().0);
        assert_eq!(other.open("place", &sealed), Err(UnsealError));
    }

    #[test]
    fn r20_the_secret_and_the_key_are_not_in_what_is_stored_or_printed() {
        let keeper = sealer(1);
        let secret = [0x5a; 32];
        let sealed = keeper.seal("place", &secret);
        assert!(!sealed.windows(8).any(|part| part == &secret[..8]));
        assert_ne!(sealed, keeper.seal("place", &secret), "the same secret twice looks different");
        assert!(!format!("{keeper:?}").contains(keeper.current.reveal().as_str()));
    }

    #[test]
    fn a_retired_key_still_opens_and_is_told_apart() {
        let old = sealer(1).seal("place", b"secret");
        let keeper = sealer(2).with_retired(vec![MasterKey::from_bytes([1; 32])]).unwrap();
        assert!(keeper.is_outdated(&old));
        let opened = keeper.open("place", &old).unwrap();
        assert!(!keeper.is_outdated(&keeper.seal("place", &opened)));
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
