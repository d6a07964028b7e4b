//! The seam through which stores keep secrets on disk without knowing keys or ciphers; `pki` implements it with a master
//! key, and a key management service is plugged in by another implementation (`docs/operations/keys.md`).
//!
//! A sealed value begins with something that names its key, so that values of a key that is to go are found without opening
//! all others.

/// Encrypts what must not be readable on a stolen disk.
pub trait Seal: Send + Sync {
    /// Encrypts `secret` for the place named by `context`; a sealed value opens only under the same context.
    fn seal(&self, context: &str, secret: &[u8]) -> Vec<u8>;

    /// Decrypts what [`Seal::seal`] made.
    ///
    /// # Errors
    /// [`UnsealError`] if the value was altered, sealed under another key, or for another context.
    fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError>;

    /// What the values begin with that are to be sealed anew, because their key is to go: one entry for each such key, none
    /// if there is none. No entry is empty. Opening them works as long as they are named here.
    fn outdated(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Whether this value is to be sealed anew.
    fn is_outdated(&self, sealed: &[u8]) -> bool {
        self.outdated().iter().any(|start| sealed.starts_with(start))
    }
}

/// A sealed value could not be opened: altered, or sealed under another key or for another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value cannot be opened: it was altered, or sealed with another key")]
pub struct UnsealError;
