//! Argon2id with the installation's settings and peppers: what a hash is made of and checked against.

use std::fmt;

use argon2::password_hash::phc::{self, Output, ParamsString, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use mezusphere_model::Entropy;
use subtle::ConstantTimeEq as _;
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

/// The version of a pepper that says: none. Hashes that were made elsewhere carry it until the next sign-in.
const NO_PEPPER: u32 = 0;

/// What a hash that was made elsewhere may cost to verify, so that no import slows sign-ins down for all: KiB of memory,
/// passes, lanes, and KiB times passes.
const IMPORTED_KIB: std::ops::RangeInclusive<u32> = 7 * 1024..=64 * 1024;
const IMPORTED_PASSES_MAX: u32 = 10;
const IMPORTED_LANES_MAX: u32 = 4;
const IMPORTED_KIB_PASSES_MAX: u32 = 192 * 1024;

/// Why a hash that was made elsewhere is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Not Argon2id, version 19, with salt and output, in PHC string format.
    #[error("not an Argon2id hash in PHC string format ($argon2id$v=19$m=…,t=…,p=…$salt$hash)")]
    Kind,
    /// Weaker than is safe, or costs too much to verify.
    #[error(
        "its cost is not between 7 MiB and 64 MiB of memory, with at most 10 passes and 192 MiB in all of them"
    )]
    Cost,
}

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

    fn get(&self, version: u32) -> Option<&[u8]> {
        if version == NO_PEPPER {
            return Some(&[]);
        }
        let all = std::iter::once(&self.current).chain(&self.older);
        all.into_iter().find(|(known, _)| *known == version).map(|(_, bytes)| &bytes[..])
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peppers").field("current", &self.current.0).finish_non_exhaustive()
    }
}

/// Hashing failed: the settings are wrong, or there is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password could not be hashed: {0}")]
pub(super) struct HashError(argon2::password_hash::Error);

impl<E: Into<argon2::password_hash::Error>> From<E> for HashError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// The memory a thread hashes in, kept while there is work and given back when there is none.
///
/// Reserved in one piece larger than any that glibc holds on to (`mallopt(3)`, `M_MMAP_THRESHOLD`: 32 MiB), of which
/// only the part in use is ever touched. Smaller pieces went to its arenas, and after twenty sign-ins it kept
/// 200 MiB for itself.
#[derive(Default)]
pub(super) struct Memory(Vec<Block>);

impl Memory {
    const RESERVED_BLOCKS: usize = 33 * 1024 * 1024 / Block::SIZE;

    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.0.capacity() == 0 {
            self.0.reserve_exact(Self::RESERVED_BLOCKS.max(count));
        }
        self.0.resize(count, Block::new());
        &mut self.0
    }

    /// Gives the memory back to the system.
    pub(super) fn release(&mut self) {
        self.0 = Vec::new();
    }
}

/// Argon2id with this installation's settings and peppers.
pub(super) struct Hasher {
    peppers: Peppers,
    params: Params,
    decoy: Stored,
}

/// A stored hash, taken apart.
struct Stored {
    pepper_version: u32,
    params: Params,
    salt: Salt,
    output: Output,
}

impl Stored {
    /// `None` if it is not a hash of ours.
    fn read(hash: &PasswordHash) -> Option<Self> {
        let parsed = phc::PasswordHash::new(&hash.phc).ok()?;
        let ours =
            parsed.algorithm == Algorithm::Argon2id.ident() && parsed.version == Some(Version::V0x13.into());
        let params = Params::try_from(&parsed).ok()?;
        let (salt, output) = (parsed.salt?, parsed.hash?);
        ours.then_some(Self { pepper_version: hash.pepper_version, params, salt, output })
    }
}

impl PasswordHash {
    /// A hash that was made elsewhere, without a pepper of ours; the user's next sign-in replaces it by one of ours.
    ///
    /// # Errors
    /// [`ImportError`] if it is not Argon2id, or costs too little or too much.
    pub fn imported(phc: &str) -> Result<Self, ImportError> {
        let hash = Self { phc: phc.to_owned(), pepper_version: NO_PEPPER };
        let Stored { params, .. } = Stored::read(&hash).ok_or(ImportError::Kind)?;
        let affordable = IMPORTED_KIB.contains(&params.m_cost())
            && params.t_cost() <= IMPORTED_PASSES_MAX
            && params.p_cost() <= IMPORTED_LANES_MAX
            && params.m_cost().saturating_mul(params.t_cost()) <= IMPORTED_KIB_PASSES_MAX;
        if affordable { Ok(hash) } else { Err(ImportError::Cost) }
    }
}

impl Hasher {
    pub(super) fn new(peppers: Peppers, entropy: &Entropy) -> Result<Self, HashError> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_LEN))?;
        // An output nobody computed: no password leads to it, and trying one costs what a real one costs.
        let decoy = Stored {
            pepper_version: peppers.current.0,
            params: params.clone(),
            salt: Salt::new(&entropy.bytes::<SALT_LEN>()).map_err(argon2::password_hash::Error::from)?,
            output: Output::new(&entropy.bytes::<OUTPUT_LEN>())
                .map_err(argon2::password_hash::Error::from)?,
        };
        Ok(Self { peppers, params, decoy })
    }

    pub(super) fn hash(
        &self,
        password: &Password,
        salt: [u8; SALT_LEN],
        memory: &mut Memory,
    ) -> Result<PasswordHash, HashError> {
        let (pepper_version, pepper) = &self.peppers.current;
        let output = compute(&self.params, &pepper[..], password, &salt, memory)?;
        let hash = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&self.params)?,
            salt: Some(Salt::new(&salt).map_err(argon2::password_hash::Error::from)?),
            hash: Some(Output::new(&output).map_err(argon2::password_hash::Error::from)?),
        };
        Ok(PasswordHash { phc: hash.to_string(), pepper_version: *pepper_version })
    }

    pub(super) fn verify(
        &self,
        password: &Password,
        stored: Option<&PasswordHash>,
        salt: [u8; SALT_LEN],
        memory: &mut Memory,
    ) -> Verdict {
        let known = stored.and_then(|stored| {
            let known = Stored::read(stored).filter(|known| self.peppers.get(known.pepper_version).is_some());
            if known.is_none() {
                tracing::error!(pepper = stored.pepper_version, "A stored password hash cannot be used");
            }
            known
        });
        let right = self.matches(password, known.as_ref().unwrap_or(&self.decoy), memory);
        match known {
            Some(known) if right => Verdict::Right {
                // A sign-in must not fail for it: if hashing fails, the old hash stays until next time.
                replacement: if self.is_outdated(&known) {
                    self.hash(password, salt, memory).ok()
                } else {
                    None
                },
            },
            _ => Verdict::Wrong,
        }
    }

    fn matches(&self, password: &Password, stored: &Stored, memory: &mut Memory) -> bool {
        let Some(pepper) = self.peppers.get(stored.pepper_version) else { return false };
        match compute(&stored.params, pepper, password, &stored.salt, memory) {
            Ok(output) => output.as_slice().ct_eq(stored.output.as_bytes()).into(),
            Err(error) => {
                tracing::error!(%error, "A password could not be verified");
                false
            }
        }
    }

    fn is_outdated(&self, stored: &Stored) -> bool {
        let cost = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost(), params.output_len());
        stored.pepper_version != self.peppers.current.0 || cost(&stored.params) != cost(&self.params)
    }
}

fn compute(
    params: &Params,
    pepper: &[u8],
    password: &Password,
    salt: &[u8],
    memory: &mut Memory,
) -> Result<Zeroizing<Vec<u8>>, HashError> {
    let argon2 = Argon2::new_with_secret(pepper, Algorithm::Argon2id, Version::V0x13, params.clone())?;
    let mut output = Zeroizing::new(vec![0; params.output_len().unwrap_or(OUTPUT_LEN)]);
    let blocks = memory.blocks(params.block_count());
    argon2.hash_password_into_with_memory(password.as_str().as_bytes(), salt, &mut output, blocks)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reserved_beyond_what_an_allocator_keeps_and_is_given_back() {
        let mut memory = Memory::default();
        assert_eq!(memory.blocks(7).len(), 7);
        assert!(memory.0.capacity() * Block::SIZE > 32 * 1024 * 1024);
        memory.release();
        assert_eq!(memory.0.capacity(), 0);
    }

    #[test]
    fn a_hash_is_what_argon2_computes_with_the_pepper_as_its_secret() {
        let hasher = Hasher::new(Peppers::new(3, [7; 32]), &Entropy::counting()).unwrap();
        let password = Password::new("plum koala nine rulers".to_owned()).unwrap();
        let hash = hasher.hash(&password, [1; SALT_LEN], &mut Memory::default()).unwrap();
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_LEN)).unwrap();
        let reference =
            Argon2::new_with_secret(&[7; 32], Algorithm::Argon2id, Version::V0x13, params).unwrap();
        let mut output = [0; OUTPUT_LEN];
        reference.hash_password_into(b"plum koala nine rulers", &[1; SALT_LEN], &mut output).unwrap();
        assert_eq!(Stored::read(&hash).unwrap().output.as_bytes(), output);
    }

    #[test]
    fn r14_a_hash_of_another_kind_is_not_ours() {
        let salt_and_hash = "AQEBAQEBAQEBAQEBAQEBAQ$AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";
        for (text, ours) in [
            ("$argon2id$v=19$m=19456,t=2,p=1$", true),
            ("$argon2i$v=19$m=19456,t=2,p=1$", false),
            ("$argon2id$v=16$m=19456,t=2,p=1$", false),
            ("$argon2id$m=19456,t=2,p=1$", false),
            ("$scrypt$v=19$ln=17,r=8,p=1$", false),
        ] {
            let hash = PasswordHash::from_stored(format!("{text}{salt_and_hash}"), 1);
            assert_eq!(Stored::read(&hash).is_some(), ours, "{text}");
        }
    }

    #[test]
    fn a_hash_that_was_made_elsewhere_verifies_and_is_replaced_by_one_of_ours() {
        let salt = Salt::new(&[9; SALT_LEN]).unwrap();
        let params = Params::new(16 * 1024, 3, 1, Some(OUTPUT_LEN)).unwrap();
        let mut output = [0; OUTPUT_LEN];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
            .hash_password_into(b"plum koala nine rulers", &[9; SALT_LEN], &mut output)
            .unwrap();
        let made = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params).unwrap(),
            salt: Some(salt),
            hash: Some(Output::new(&output).unwrap()),
        };
        let hash = PasswordHash::imported(&made.to_string()).unwrap();
        let hasher = Hasher::new(Peppers::new(3, [7; 32]), &Entropy::counting()).unwrap();
        let mut memory = Memory::default();
        let mut verify = |password: &str| {
            let password = Password::new(password.to_owned()).unwrap();
            hasher.verify(&password, Some(&hash), [1; SALT_LEN], &mut memory)
        };
        let Verdict::Right { replacement } = verify("plum koala nine rulers") else { panic!("wrong") };
        assert_eq!(replacement.unwrap().pepper_version(), 3);
        assert!(matches!(verify("plum koala nine rules"), Verdict::Wrong));
    }

    #[test]
    fn r14_a_hash_that_was_made_elsewhere_is_neither_weak_nor_costly() {
        let end = "$AQEBAQEBAQEBAQEBAQEBAQ$AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";
        for (start, taken) in [
            ("$argon2id$v=19$m=19456,t=2,p=1", Ok(())),
            ("$argon2id$v=19$m=65536,t=3,p=4", Ok(())),
            ("$argon2id$v=19$m=65536,t=4,p=1", Err(ImportError::Cost)),
            ("$argon2id$v=19$m=1048576,t=1,p=1", Err(ImportError::Cost)),
            ("$argon2id$v=19$m=4096,t=3,p=1", Err(ImportError::Cost)),
            ("$argon2id$v=19$m=8192,t=11,p=1", Err(ImportError::Cost)),
            ("$argon2i$v=19$m=19456,t=2,p=1", Err(ImportError::Kind)),
            ("$2b$12", Err(ImportError::Kind)),
            ("correct horse", Err(ImportError::Kind)),
        ] {
            assert_eq!(PasswordHash::imported(&format!("{start}{end}")).map(drop), taken, "{start}");
        }
    }
}
