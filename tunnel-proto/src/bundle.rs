//! Signing and opening the environment bundle: a JWS of type [`TYP`] whose header carries control's chain.

use mezusphere_model::bundle::{Bundle, SignedBundle};
use mezusphere_model::route::READER;
use serde::Deserialize;

use crate::jws::{self, ChainError, JwsError, PublicKey, SignError, SigningKey};
use crate::limits::BUNDLE_LEN_MAX;

/// The `typ` of its header.
pub const TYP: &str = "mezu-bundle+jwt";

/// Why a bundle is not used. What the warpgate had before stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError<E> {
    /// Not signed as it must be.
    #[error(transparent)]
    Jws(JwsError),
    /// The signer's certificate, in the words of whoever checked it.
    #[error("the bundle's signer is not trusted: {0}")]
    Untrusted(E),
    /// Longer than [`BUNDLE_LEN_MAX`].
    #[error("the bundle is longer than {BUNDLE_LEN_MAX} octets")]
    TooLong,
    /// Signed, but it does not read as a bundle.
    #[error("the bundle is malformed: {0}")]
    Malformed(String),
    /// The label it travels under names another environment or revision than the signed content.
    #[error("the bundle's label does not match its content")]
    Mislabelled,
    /// Made for a newer warpgate.
    #[error("the bundle needs reader {0}; this warpgate reads {READER}: update it")]
    TooNew(u32),
}

/// Why a bundle could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The key failed, or the chain is not one to four certificates.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Longer than [`BUNDLE_LEN_MAX`].
    #[error("the bundle would be longer than {BUNDLE_LEN_MAX} octets; the environment has too many routes")]
    TooLong,
}

/// Signs `bundle` with the key of `chain`'s first certificate (DER). For control only.
pub fn sign<C: AsRef<[u8]>>(
    bundle: &Bundle,
    key: &SigningKey,
    chain: &[C],
) -> Result<SignedBundle, MintError> {
    let payload = serde_json::to_vec(bundle).map_err(|_| SignError)?;
    let jws = jws::sign_with_chain(key, TYP, chain, &payload)?;
    if jws.len() > BUNDLE_LEN_MAX {
        return Err(MintError::TooLong);
    }
    Ok(SignedBundle { environment: bundle.site.environment, revision: bundle.site.revision, jws })
}

/// What `signed` holds, if the signer is control. `trust` is given the chain (DER, leaf first), verifies it up
/// to a root, asks for control's role, and returns the leaf's key.
///
/// Whether its environment is the warpgate's own and its revision the highest so far is the caller's to ask.
pub fn open<E>(
    signed: &SignedBundle,
    trust: impl FnOnce(&[Vec<u8>]) -> Result<PublicKey, E>,
) -> Result<Bundle, BundleError<E>> {
    if signed.jws.len() > BUNDLE_LEN_MAX {
        return Err(BundleError::TooLong);
    }
    let payload = jws::verify_with_chain(&signed.jws, TYP, trust).map_err(|why| match why {
        ChainError::Jws(why) => BundleError::Jws(why),
        ChainError::Untrusted(why) => BundleError::Untrusted(why),
    })?;
    let malformed = |why: serde_json::Error| BundleError::Malformed(why.to_string());
    // Asked first: the rest of a newer bundle may not read at all.
    let front: Front = serde_json::from_slice(&payload).map_err(malformed)?;
    if front.min_reader > READER {
        return Err(BundleError::TooNew(front.min_reader));
    }
    let bundle: Bundle = serde_json::from_slice(&payload).map_err(malformed)?;
    if bundle.site.environment != signed.environment || bundle.site.revision != signed.revision {
        return Err(BundleError::Mislabelled);
    }
    Ok(bundle)
}

#[derive(Deserialize)]
struct Front {
    min_reader: u32,
}
