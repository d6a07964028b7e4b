//! Argon2id with the installation's settings and peppers: what a hash is made of and checked against.

use std::fmt;

use argon2::password_hash::phc::{self, Output, ParamsString, Salt};
use argon2::password_hash::{self, PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use mezusphere_model::Entropy;
use zeroize::Zeroizing;

use super::{Password, PasswordHash, Verdict};

/// Memory of one hash, in KiB: 19 MiB, with [`PASSES`] and [`LANES`] the OWASP minimum for Argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over that memory.
const PASSES: u32 = 2;
/// Lanes computed side by side; one, because a sign-in gets one thread.
const LANES: u32 = 1;
const OUTPUT_LEN: usize = 32;
/// Octets of salt.
pub(super) const SALT_LEN: usize = 16;

/// The installation's own secret in every hash: a stolen database alone cannot be guessed against.
///
/// The current one goes into new hashes; hashes made with an older one are still verified, and replaced at the
/// next sign-in.
pub struct Peppers {
    current: (u32, Zeroizing<[u8; 32]>),
    older: Vec<(u32, Zeroizing<[u8; 32]>)>,
}

impl Peppers {
    /// The current pepper with its version, as the store keeps it.
    pub fn new(version: u32, bytes: [u8; 32]) -> Self {
        Self { current: (version, Zeroizing::new(bytes)), older: Vec::new() }
    }

    /// And one that some hashes were still made with.
    #[must_use]
    pub fn with_older(mut self, version: u32, bytes: [u8; 32]) -> Self {
        self.older.push((version, Zeroizing::new(bytes)));
        self
    }

    fn get(&self, version: u32) -> Option<&[u8; 32]> {
        let all = std::iter::once(&self.current).chain(&self.older);
        all.into_iter().find(|(known, _)| *known == version).map(|(_, bytes)| &**bytes)
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peppers").field("current", &self.current.0).finish_non_exhaustive()
    }
}

/// Argon2id with this installation's settings and peppers.
pub(super) struct Hasher {
    peppers: Peppers,
    params: Params,
    decoy: PasswordHash,
}

impl Hasher {
    pub(super) fn new(peppers: Peppers, entropy: &Entropy) -> Result<Self, password_hash::Error> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_LEN))?;
        // An output nobody computed: no password leads to it, and trying one costs what a real one costs.
        let decoy = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params)?,
            salt: Some(Salt::new(&entropy.bytes::<SALT_LEN>())?),
            hash: Some(Output::new(&entropy.bytes::<OUTPUT_LEN>())?),
        };
        let decoy = PasswordHash { phc: decoy.to_string(), pepper_version: peppers.current.0 };
        Ok(Self { peppers, params, decoy })
    }

    fn argon2<'a>(&self, pepper: &'a [u8; 32]) -> Result<Argon2<'a>, argon2::Error> {
        Argon2::new_with_secret(pepper, Algorithm::Argon2id, Version::V0x13, self.params.clone())
    }

    pub(super) fn hash(
        &self,
        password: &Password,
        salt: [u8; SALT_LEN],
    ) -> Result<PasswordHash, password_hash::Error> {
        let (pepper_version, pepper) = &self.peppers.current;
        let hash = self.argon2(pepper)?.hash_password_with_salt(password.as_str().as_bytes(), &salt)?;
        Ok(PasswordHash { phc: hash.to_string(), pepper_version: *pepper_version })
    }

    pub(super) fn verify(
        &self,
        password: &Password,
        stored: Option<&PasswordHash>,
        salt: [u8; SALT_LEN],
    ) -> Verdict {
        let readable = |stored: &&PasswordHash| {
            let ok = self.peppers.get(stored.pepper_version).is_some()
                && phc::PasswordHash::new(&stored.phc).is_ok();
            if !ok {
                tracing::error!(pepper = stored.pepper_version, "A stored password hash cannot be used");
            }
            ok
        };
        let known = stored.filter(readable);
        let right = self.matches(password, known.unwrap_or(&self.decoy));
        match known {
            Some(known) if right && self.is_outdated(known) => Verdict::Right {
                // A sign-in must not fail for it: if hashing fails, the old hash stays until next time.
                replacement: self.hash(password, salt).ok(),
            },
            Some(_) if right => Verdict::Right { replacement: None },
            _ => Verdict::Wrong,
        }
    }

    fn matches(&self, password: &Password, against: &PasswordHash) -> bool {
        let Some(pepper) = self.peppers.get(against.pepper_version) else { return false };
        let (Ok(argon2), Ok(parsed)) = (self.argon2(pepper), phc::PasswordHash::new(&against.phc)) else {
            return false;
        };
        argon2.verify_password(password.as_str().as_bytes(), &parsed).is_ok()
    }

    fn is_outdated(&self, stored: &PasswordHash) -> bool {
        let params = |hash: &PasswordHash| phc::PasswordHash::new(&hash.phc).ok().map(|parsed| parsed.params);
        stored.pepper_version != self.peppers.current.0 || params(stored) != params(&self.decoy)
    }
}
