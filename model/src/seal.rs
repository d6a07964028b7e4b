//! The seam through which stores keep secrets on disk without knowing keys or ciphers; `pki` implements it.

/// Encrypts what must not be readable on a stolen disk.
pub trait Seal: Send + Sync {
    /// Encrypts `secret` for the place named by `context`; a sealed value opens only under the same context.
    fn seal(&self, context: &str, secret: &[u8]) -> Vec<u8>;

    /// Decrypts what [`Seal::seal`] made.
    ///
    /// # Errors
    /// [`UnsealError`] if the value was altered, sealed under another key, or for another context.
    fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError>;
}

/// A sealed value could not be opened: altered, or sealed under another key or for another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value cannot be opened: it was altered, or sealed with another key")]
pub struct UnsealError;
