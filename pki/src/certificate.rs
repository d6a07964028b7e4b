//! Reading the parts of a certificate we decide on. Validates nothing: webpki does that.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use mezusphere_model::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use crate::name::TrustDomain;

/// A certificate cannot be read, or is not a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate")]
pub(crate) struct Unreadable;

/// What we read from a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// Every URI among the alternative names.
    pub(crate) uris: Vec<String>,
    /// Every DNS name among the alternative names.
    pub(crate) dns_names: Vec<String>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    /// The public key's own octets: of an elliptic curve, its point.
    pub(crate) public_key: Vec<u8>,
    pub(crate) is_ca: bool,
    /// CAs that may stand below this one; `None`: any number.
    pub(crate) path_len: Option<u32>,
}

pub(crate) fn facts(der: &[u8]) -> Result<Facts, Unreadable> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Unreadable)?;
    if !rest.is_empty() {
        return Err(Unreadable);
    }
    let mut uris = Vec::new();
    let mut dns_names = Vec::new();
    // Fails when the extension is there twice, which must not hide a second name.
    if let Some(names) = certificate.subject_alternative_name().map_err(|_| Unreadable)? {
        for name in &names.value.general_names {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                _ => {}
            }
        }
    }
    let constraints = certificate.basic_constraints().map_err(|_| Unreadable)?;
    Ok(Facts {
        not_before: Timestamp::from_seconds(certificate.validity().not_before.timestamp()),
        not_after: Timestamp::from_seconds(certificate.validity().not_after.timestamp()),
        uris,
        dns_names,
        issuer: certificate.issuer().as_raw().to_vec(),
        subject: certificate.subject().as_raw().to_vec(),
        public_key: certificate.public_key().subject_public_key.data.to_vec(),
        is_ca: constraints.as_ref().is_some_and(|constraints| constraints.value.ca),
        path_len: constraints.and_then(|constraints| constraints.value.path_len_constraint),
    })
}

impl Facts {
    /// Whether this is a CA that another one signed.
    pub(crate) fn is_cross(&self) -> bool {
        self.is_ca && self.subject != self.issuer
    }

    /// SHA-256 of the public key. A CA is known by it where it must not be able to look like another one: whoever holds a
    /// certificate can write its ECDSA signature in a second way, and so change the hash of the whole.
    pub(crate) fn key_digest(&self) -> [u8; 32] {
        fingerprint(&self.public_key)
    }

    /// The trust domain a CA certificate was made for.
    pub(crate) fn ca_trust_domain(&self) -> Option<TrustDomain> {
        match self.uris.as_slice() {
            [uri] if self.is_ca => TrustDomain::from_uri(uri).ok(),
            _ => None,
        }
    }
}

/// SHA-256, of a certificate's DER in most places.
pub(crate) fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, der).as_ref()); // SHA-256 gives 32 octets
    out
}

/// Every certificate in a PEM text.
pub(crate) fn from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, Unreadable> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| Unreadable)
}

/// Every certificate and the PKCS #8 key of one PEM text.
pub(crate) fn pair_from_pem(
    pem: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, Zeroizing<Vec<u8>>), Unreadable> {
    let text = std::str::from_utf8(pem).map_err(|_| Unreadable)?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| Unreadable)?;
    Ok((from_pem(text)?, Zeroizing::new(key.secret_pkcs8_der().to_vec())))
}

/// The PEM text of a chain.
pub(crate) fn to_pem<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> String {
    chain.into_iter().map(|der| pem_block("CERTIFICATE", der)).collect()
}

/// One PEM block (RFC 7468 §2).
pub(crate) fn pem_block(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (at, character) in body.char_indices() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

pub(crate) fn unix_time(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.as_seconds()).unwrap_or(0)))
}
