//! Certificate requests (PKCS #10, RFC 2986): only the public key and the proof that its sender holds the
//! private one are read. Subject, names and extensions a request asks for are ignored.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256};
use x509_parser::prelude::FromDer as _;

/// Longest request accepted, in octets: a P-256 request with a long subject has under 1 KiB.
pub const CSR_LEN_MAX: usize = 4 * 1024;

/// Why a certificate request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Longer than [`CSR_LEN_MAX`].
    #[error("the certificate request is longer than {CSR_LEN_MAX} octets")]
    TooLong,
    /// Not PKCS #10.
    #[error("the certificate request cannot be read")]
    Malformed,
    /// Another kind of key than the one every node uses.
    #[error("the certificate request is not for an ECDSA P-256 key with SHA-256")]
    Algorithm,
    /// Altered, or sent by somebody who does not hold the private key.
    #[error("the certificate request's signature is wrong: its sender does not hold the key")]
    Proof,
}

/// The public key of a request whose proof of possession holds.
pub(crate) fn proven_key(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, CsrError> {
    if csr_der.len() > CSR_LEN_MAX {
        return Err(CsrError::TooLong);
    }
    let (rest, csr) = X509CertificationRequest::from_der(csr_der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let info = &csr.certification_request_info;
    let spki = &info.subject_pki;
    let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    if spki.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY
        || curve != Some(OID_EC_P256)
        || csr.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256
    {
        return Err(CsrError::Algorithm);
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki.subject_public_key.data.as_ref())
        .verify(info.raw, csr.signature_value.data.as_ref())
        .map_err(|_| CsrError::Proof)?;
    SubjectPublicKeyInfo::from_der(spki.raw).map_err(|_| CsrError::Malformed)
}
