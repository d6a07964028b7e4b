//! Sealing of secrets at rest, so that a stolen disk shows nothing: AES-256-GCM-SIV under a key of the place.
//!
//! A sealed value is `version u8 = 1 | key id [8] | nonce [12] | ciphertext and tag`. The key of a place is
//! HKDF-SHA256(master key, info = `mezusphere/seal/1/` and the context), so values of one place say nothing
//! about another's key; header and context are authenticated too. GCM-SIV rather than GCM, because a nonce
//! that came twice (a copied virtual machine) then shows only that two values were equal.
//!
//! Where the master key is kept is the caller's: this module reads no file.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use mezusphere_model::Entropy;
use mezusphere_model::seal::{Seal, UnsealError};
use zeroize::Zeroizing;

use crate::master_key::KEY_ID_LEN;
pub use crate::master_key::{KeyId, MasterKey, MasterKeyError};

const VERSION: u8 = 1;
const HEADER_LEN: usize = 1 + KEY_ID_LEN;
const TAG_LEN: usize = 16;

/// Most master keys a [`Sealer`] opens values of besides the one in use.
pub const RETIRED_KEYS_MAX: usize = 8;

/// Seals with one master key, and opens what that one, a retired one or a coming one sealed.
///
/// Cheap to clone; every clone sees a change at once.
#[derive(Clone, Debug)]
pub struct Sealer {
    keys: Arc<ArcSwap<Keys>>,
    entropy: Entropy,
}

/// The keys of a [`Sealer`].
#[derive(Clone, Debug)]
struct Keys {
    current: MasterKey,
    /// Newest first. What they sealed is to be sealed anew.
    retired: Vec<MasterKey>,
    /// What they sealed is opened and stays as it is: other nodes seal with them already.
    coming: Vec<MasterKey>,
}

/// Why a sealer takes no more keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at most {RETIRED_KEYS_MAX} master keys are held besides the one in use")]
pub struct TooManyKeys;

impl Sealer {
    /// Seals with `current`; draws nonces from `entropy`, which must be the operating system's in a program.
    pub fn new(current: MasterKey, entropy: Entropy) -> Self {
        let keys = Keys { current, retired: Vec::new(), coming: Vec::new() };
        Self { keys: Arc::new(ArcSwap::from_pointee(keys)), entropy }
    }

    /// Opens what `retired` keys sealed, too, and has it sealed anew ([`Seal::outdated`]).
    pub fn with_retired(self, retired: &[MasterKey]) -> Result<Self, TooManyKeys> {
        self.change(|keys| retired.clone_into(&mut keys.retired))?;
        Ok(self)
    }

    /// Opens what `coming` keys sealed, too, and leaves it as it is.
    pub fn with_coming(self, coming: &[MasterKey]) -> Result<Self, TooManyKeys> {
        self.change(|keys| coming.clone_into(&mut keys.coming))?;
        Ok(self)
    }

    /// Seals with `new` from now on; the key in use until now is retired.
    pub fn replace(&self, new: &MasterKey) -> Result<(), TooManyKeys> {
        self.change(|keys| {
            let old = std::mem::replace(&mut keys.current, new.clone());
            keys.retired.retain(|key| key.id() != new.id());
            if old.id() != new.id() {
                keys.retired.insert(0, old);
            }
        })
    }

    /// Opens nothing any more that retired keys sealed.
    pub fn forget_retired(&self) {
        // Fewer keys are never too many.
        self.change(|keys| keys.retired.clear()).unwrap_or_default();
    }

    /// The key in use.
    pub fn current(&self) -> MasterKey {
        self.keys.load().current.clone()
    }

    /// The keys whose values are to be sealed anew, newest first.
    pub fn retired(&self) -> Vec<KeyId> {
        self.keys.load().retired.iter().map(MasterKey::id).collect()
    }

    fn change(&self, change: impl Fn(&mut Keys)) -> Result<(), TooManyKeys> {
        let changed = |keys: &Keys| {
            let mut keys = keys.clone();
            change(&mut keys);
            // The key in use is neither: what it sealed stays.
            let current = keys.current.id();
            keys.retired.retain(|key| key.id() != current);
            keys.coming.retain(|key| key.id() != current);
            keys
        };
        let next = changed(&self.keys.load());
        if next.retired.len() + next.coming.len() > RETIRED_KEYS_MAX {
            return Err(TooManyKeys);
        }
        self.keys.rcu(|keys| changed(keys));
        Ok(())
    }
}

/// What everything begins with that this key sealed.
fn header(key: &MasterKey) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.push(VERSION);
    header.extend_from_slice(&key.id().0);
    header
}

impl Seal for Sealer {
    fn seal(&self, context: &str, secret: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = self.entropy.bytes();
        let mut sealed = Vec::with_capacity(HEADER_LEN + NONCE_LEN + secret.len() + TAG_LEN);
        let keys = self.keys.load();
        sealed.extend(header(&keys.current));
        let aad = Aad::from(associated(&sealed, context));
        sealed.extend(nonce);
        sealed.extend_from_slice(secret);
        let (_, body) = sealed.split_at_mut(HEADER_LEN + NONCE_LEN);
        let tag = keys
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
        let keys = self.keys.load();
        let key = std::iter::once(&keys.current)
            .chain(&keys.retired)
            .chain(&keys.coming)
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

    fn outdated(&self) -> Vec<Vec<u8>> {
        self.keys.load().retired.iter().map(header).collect()
    }
}

/// What is authenticated beside the ciphertext: header and context.
fn associated(header: &[u8], context: &str) -> Vec<u8> {
    [header, context.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: u8) -> Sealer {
        Sealer::new(MasterKey::from_bytes([key; 32]), Entropy::counting())
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
        assert!(!format!("{keeper:?}").contains(keeper.current().reveal().as_str()));
    }

    fn key(octet: u8) -> MasterKey {
        MasterKey::from_bytes([octet; 32])
    }

    #[test]
    fn r20_a_key_that_was_replaced_opens_until_it_is_forgotten_and_what_it_sealed_is_told_apart() {
        let keeper = sealer(1);
        let clone = keeper.clone();
        let old = keeper.seal("place", b"secret");
        keeper.replace(&key(2)).unwrap();
        let new = clone.seal("place", b"secret");
        assert_eq!((clone.is_outdated(&old), clone.is_outdated(&new)), (true, false), "every clone sees it");
        assert_eq!((clone.current().id(), clone.retired()), (key(2).id(), vec![key(1).id()]));
        assert_eq!(clone.open("place", &old).as_deref(), Ok(b"secret".as_slice()));
        assert_eq!(sealer(1).open("place", &new), Err(UnsealError), "the old key opens nothing new");
        keeper.forget_retired();
        assert_eq!(clone.open("place", &old), Err(UnsealError));
        assert_eq!(clone.open("place", &new).as_deref(), Ok(b"secret".as_slice()));
        assert!(clone.outdated().is_empty());
    }

    #[test]
    fn a_key_that_comes_later_opens_and_is_left_alone() {
        let later = sealer(2).seal("place", b"secret");
        let keeper = sealer(1).with_coming(&[key(2), key(1)]).unwrap();
        assert_eq!(keeper.open("place", &later).as_deref(), Ok(b"secret".as_slice()));
        assert!(!keeper.is_outdated(&later) && !keeper.is_outdated(&keeper.seal("place", b"secret")));
    }

    #[test]
    fn a_key_that_is_both_old_and_in_use_is_in_use() {
        let keeper = sealer(1).with_retired(&[key(1), key(2)]).unwrap();
        assert_eq!(keeper.retired(), [key(2).id()]);
        keeper.replace(&key(1)).unwrap();
        assert_eq!(keeper.retired(), [key(2).id()]);
        keeper.replace(&key(2)).unwrap();
        assert_eq!((keeper.current().id(), keeper.retired()), (key(2).id(), vec![key(1).id()]));
    }

    #[test]
    fn there_is_a_limit_to_the_keys_held() {
        let many: Vec<_> = (2..=9).map(key).collect();
        assert_eq!(many.len(), RETIRED_KEYS_MAX);
        let keeper = sealer(1).with_retired(&many).unwrap();
        assert_eq!(keeper.replace(&key(10)), Err(TooManyKeys));
        assert_eq!(keeper.current().id(), key(1).id(), "and nothing changed");
        assert!(sealer(1).with_retired(&[many, vec![key(10)]].concat()).is_err());
    }
}
