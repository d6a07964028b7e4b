//! The internal CA: a root that may be kept offline, issuing CAs below it, and the leaves they sign.
//!
//! An issuing CA certifies only keys whose holder has proved to hold them, only under the name the caller
//! decided, and only for a day at most. What a request asks for beside its key is ignored. The caller (control)
//! decides who may have which name.

use std::fmt;
use std::fmt::Write as _;

use mezusphere_model::seal::Seal;
use mezusphere_model::{Entropy, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::certificate::{self, Facts};
pub use crate::csr::{CSR_LEN_MAX, CsrError};
pub use crate::issue::{IssueError, IssuedLeaf, IssuedPublic, PUBLIC_NAMES_MAX};
use crate::key::{KeyError, NodeKey};
use crate::lifetime::{CA_BACK_DATE, ISSUING_TTL, ROOT_TTL};
use crate::name::TrustDomain;
use crate::trust::CROSSES_MAX;

/// CAs that may stand below a root: the crosses of the roots that replaced it one after the other, and an issuing CA.
#[expect(clippy::cast_possible_truncation, reason = "crosses are a handful")]
const ROOT_PATH_LEN: u8 = CROSSES_MAX as u8 + 1;

/// CAs that may stand below an issuing CA: none, so that no leaf can become a CA.
pub(crate) const ISSUING_PATH_LEN: u8 = 0;

/// Octets of a serial number: 159 random bits, above what RFC 5280 §4.1.2.2 and public practice ask for.
const SERIAL_LEN: usize = 20;

const ROOT_CONTEXT: &str = "pki/root";
const ISSUING_CONTEXT: &str = "pki/issuing";

/// Why a CA could not be made or loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Its key could not be made or used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its certificate could not be made.
    #[error("a CA certificate could not be made: {0}")]
    Library(String),
    /// What was stored cannot be opened with the master key at hand.
    #[error("the CA's key cannot be opened: it was altered, or sealed with another master key")]
    Sealed,
    /// What was stored is no CA certificate with its key.
    #[error("what is stored is not a CA certificate with its key")]
    Malformed,
}

/// A CA's certificate and key.
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) facts: Facts,
    key: NodeKey,
}

/// The root of an installation's trust.
pub struct Root(pub(crate) Authority);

/// A CA below the root, whose key works every day.
pub struct Issuing {
    pub(crate) authority: Authority,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) crosses: Vec<CertificateDer<'static>>,
    pub(crate) entropy: Entropy,
}

impl Root {
    /// A new root for `trust_domain`, valid for [`ROOT_TTL`].
    pub fn create(
        trust_domain: &TrustDomain,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<Self, AuthorityError> {
        let key = NodeKey::generate()?;
        let params = ca_params(trust_domain, "root", ROOT_PATH_LEN, now, now.after(ROOT_TTL), entropy)?;
        let certificate = params.self_signed(&key.pair).map_err(|error| library(&error))?;
        Authority::new(certificate.der().clone(), key).map(Self)
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    /// The certificate as PEM: what goes into trust bundles.
    pub fn certificate_pem(&self) -> String {
        certificate::to_pem([&self.0.certificate])
    }

    /// SHA-256 of the certificate: the pin in a connection key.
    pub fn fingerprint(&self) -> [u8; 32] {
        certificate::fingerprint(&self.0.certificate)
    }

    /// Certificate and key as PEM, **in the clear**: for a store that seals by itself, and for a file that leaves this
    /// machine for good.
    pub fn secret_pem(&self) -> Zeroizing<String> {
        self.0.secret_pem()
    }

    /// Reads what [`Root::secret_pem`] gave.
    pub fn from_secret_pem(pem: &[u8]) -> Result<Self, AuthorityError> {
        Authority::from_secret_pem(pem).map(Self)
    }

    /// Certificate and key, sealed.
    pub fn sealed(&self, seal: &dyn Seal) -> Vec<u8> {
        self.0.sealed(ROOT_CONTEXT, seal)
    }

    /// Reads what [`Root::sealed`] gave.
    pub fn open(sealed: &[u8], seal: &dyn Seal) -> Result<Self, AuthorityError> {
        Authority::open(ROOT_CONTEXT, sealed, seal).map(Self)
    }
}

impl Issuing {
    /// A new issuing CA below `root`, valid for [`ISSUING_TTL`], but not longer than the root.
    pub fn create(root: &Root, now: Timestamp, entropy: &Entropy) -> Result<Self, AuthorityError> {
        let trust_domain = root.0.facts.ca_trust_domain().ok_or(AuthorityError::Malformed)?;
        let key = NodeKey::generate()?;
        let not_after = now.after(ISSUING_TTL).min(root.0.facts.not_after);
        let params = ca_params(&trust_domain, "issuing", ISSUING_PATH_LEN, now, not_after, entropy)?;
        let issuer = root.0.issuer()?;
        let certificate = params.signed_by(&key.pair, &issuer).map_err(|error| library(&error))?;
        let authority = Authority::new(certificate.der().clone(), key)?;
        Ok(Self { authority, trust_domain, crosses: Vec::new(), entropy: entropy.clone() })
    }

    pub(crate) fn of(authority: Authority, entropy: &Entropy) -> Result<Self, AuthorityError> {
        let trust_domain = authority.facts.ca_trust_domain().ok_or(AuthorityError::Malformed)?;
        Ok(Self { authority, trust_domain, crosses: Vec::new(), entropy: entropy.clone() })
    }

    /// Puts `crosses` (at most [`CROSSES_MAX`]) behind this CA in every chain it gives from now on: peers that trust a
    /// root of before alone accept its leaves, while the root is changed.
    #[must_use]
    pub fn with_crosses(mut self, mut crosses: Vec<CertificateDer<'static>>) -> Self {
        crosses.truncate(CROSSES_MAX);
        self.crosses = crosses;
        self
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.authority.certificate
    }

    /// SHA-256 of its public key: what it is known by once it is retired.
    pub fn digest(&self) -> [u8; 32] {
        self.authority.facts.key_digest()
    }

    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> String {
        certificate::to_pem([&self.authority.certificate])
    }

    /// From when it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.authority.facts.not_before
    }

    /// When it ends; no leaf outlives it.
    pub fn not_after(&self) -> Timestamp {
        self.authority.facts.not_after
    }

    /// For whose nodes it issues.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Certificate and key as PEM, **in the clear**: for a store that seals by itself.
    pub fn secret_pem(&self) -> Zeroizing<String> {
        self.authority.secret_pem()
    }

    /// Reads what [`Issuing::secret_pem`] gave. Serial numbers are drawn from `entropy`.
    pub fn from_secret_pem(pem: &[u8], entropy: &Entropy) -> Result<Self, AuthorityError> {
        Self::of(Authority::from_secret_pem(pem)?, entropy)
    }

    /// Certificate and key, sealed.
    pub fn sealed(&self, seal: &dyn Seal) -> Vec<u8> {
        self.authority.sealed(ISSUING_CONTEXT, seal)
    }

    /// Reads what [`Issuing::sealed`] gave. Serial numbers are drawn from `entropy`.
    pub fn open(sealed: &[u8], seal: &dyn Seal, entropy: &Entropy) -> Result<Self, AuthorityError> {
        Self::of(Authority::open(ISSUING_CONTEXT, sealed, seal)?, entropy)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("not_after", &self.0.facts.not_after).finish_non_exhaustive()
    }
}

impl fmt::Debug for Issuing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuing").field("not_after", &self.not_after()).finish_non_exhaustive()
    }
}

impl Authority {
    pub(crate) fn new(certificate: CertificateDer<'static>, key: NodeKey) -> Result<Self, AuthorityError> {
        let facts = certificate::facts(&certificate).map_err(|_| AuthorityError::Malformed)?;
        if !facts.is_ca || facts.public_key != key.public_key() {
            return Err(AuthorityError::Malformed);
        }
        Ok(Self { certificate, facts, key })
    }

    pub(crate) fn issuer(&self) -> Result<Issuer<'static, &rcgen::KeyPair>, AuthorityError> {
        Issuer::from_ca_cert_der(&self.certificate, &self.key.pair).map_err(|error| library(&error))
    }

    fn secret_pem(&self) -> Zeroizing<String> {
        let mut pem = Zeroizing::new(certificate::to_pem([&self.certificate]));
        pem.push_str(&Zeroizing::new(certificate::pem_block("PRIVATE KEY", self.key.pkcs8_der())));
        pem
    }

    fn from_secret_pem(pem: &[u8]) -> Result<Self, AuthorityError> {
        let (chain, key) = certificate::pair_from_pem(pem).map_err(|_| AuthorityError::Malformed)?;
        let certificate = chain.into_iter().next().ok_or(AuthorityError::Malformed)?;
        Self::new(certificate, NodeKey::from_pkcs8_der(&key)?)
    }

    fn sealed(&self, context: &str, seal: &dyn Seal) -> Vec<u8> {
        seal.seal(context, self.secret_pem().as_bytes())
    }

    fn open(context: &str, sealed: &[u8], seal: &dyn Seal) -> Result<Self, AuthorityError> {
        let pem = Zeroizing::new(seal.open(context, sealed).map_err(|_| AuthorityError::Sealed)?);
        Self::from_secret_pem(&pem)
    }
}

pub(crate) fn ca_params(
    trust_domain: &TrustDomain,
    kind: &str,
    path_len: u8,
    now: Timestamp,
    not_after: Timestamp,
    entropy: &Entropy,
) -> Result<CertificateParams, AuthorityError> {
    let (serial, serial_hex) = serial(entropy);
    let mut params =
        leaf_params(now.before(CA_BACK_DATE), not_after, serial).map_err(|error| library(&error))?;
    // A part of the serial keeps the subjects of successive CAs apart: chains are found by subject.
    let mark = serial_hex.get(..8).unwrap_or_default();
    params.distinguished_name.push(DnType::OrganizationName, "Mezusphere");
    params.distinguished_name.push(DnType::CommonName, format!("Mezusphere {kind} {mark}"));
    let uri = Ia5String::try_from(trust_domain.uri()).map_err(|error| library(&error))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// What every certificate of ours has: dates, serial number, a signing key that is no CA's.
pub(crate) fn leaf_params(
    not_before: Timestamp,
    not_after: Timestamp,
    serial: SerialNumber,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = plain_leaf_params(not_before, not_after)?;
    params.serial_number = Some(serial);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The same without what only a CA can give: the serial number follows from the key.
pub(crate) fn plain_leaf_params(
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.not_before = date(not_before)?;
    params.not_after = date(not_after)?;
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn date(at: Timestamp) -> Result<time::OffsetDateTime, rcgen::Error> {
    time::OffsetDateTime::from_unix_timestamp(at.as_seconds()).map_err(|_| rcgen::Error::Time)
}

/// A random serial number, and its hex text.
pub(crate) fn serial(entropy: &Entropy) -> (SerialNumber, String) {
    let mut bytes: [u8; SERIAL_LEN] = entropy.bytes();
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40; // positive, and of one length
    }
    let hex = bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    });
    (SerialNumber::from_slice(&bytes), hex)
}

pub(crate) fn library(error: &rcgen::Error) -> AuthorityError {
    AuthorityError::Library(error.to_string())
}
