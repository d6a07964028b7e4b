//! A node's private key, made on the node and never sent: only a CSR leaves (R20).

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

/// An ECDSA P-256 private key.
pub struct NodeKey {
    pub(crate) pair: KeyPair,
    /// Kept beside `pair` so that the copy we hand out is wiped when dropped.
    pkcs8: Zeroizing<Vec<u8>>,
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes are not a P-256 private key as PKCS #8.
    #[error("not an ECDSA P-256 private key (PKCS #8)")]
    Malformed,
    /// The cryptographic library refused.
    #[error("a key could not be made or used: {0}")]
    Library(String),
}

impl NodeKey {
    /// A new key, from the cryptographic library's own randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(library)?;
        let pkcs8 = Zeroizing::new(pair.serialized_der().to_vec());
        Ok(Self { pair, pkcs8 })
    }

    /// Reads what [`NodeKey::pkcs8_der`] gave.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        let pair =
            KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ECDSA_P256_SHA256)
                .map_err(|_| KeyError::Malformed)?;
        Ok(Self { pair, pkcs8: Zeroizing::new(der.to_vec()) })
    }

    /// The key as PKCS #8, to be sealed or written with mode 0600.
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public key, an uncompressed point.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.pair.public_key_raw()
    }

    /// A request to certify this key (PKCS #10): carries the public key and proves that its sender holds the
    /// private one. It asks for no name, because the issuer decides names and ignores what a CSR asks for.
    pub fn csr_der(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&self.pair).map_err(library)?;
        Ok(csr.der().as_ref().to_vec())
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey")
    }
}

// By value, so that it can be named in `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` needs")]
fn library(error: rcgen::Error) -> KeyError {
    KeyError::Library(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_bytes() {
        let key = NodeKey::generate().unwrap();
        let again = NodeKey::from_pkcs8_der(key.pkcs8_der()).unwrap();
        assert_eq!(key.pair.public_key_raw(), again.pair.public_key_raw());
    }

    #[test]
    fn r20_a_key_does_not_print_itself() {
        assert_eq!(format!("{:?}", NodeKey::generate().unwrap()), "NodeKey");
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        assert_eq!(NodeKey::from_pkcs8_der(b"no").unwrap_err(), KeyError::Malformed);
    }
}
