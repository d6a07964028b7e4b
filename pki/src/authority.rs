//! The internal CA: a root that may be kept offline, issuing CAs below it, and the leaves they sign.
//!
//! An issuing CA certifies only keys whose holder has proved to hold them, only under the name the caller
//! decided, and only for a day at most. What a request asks for beside its key is ignored. The caller (control)
//! decides who may have which name.

use std::fmt;
use std::time::Duration;

use mezusphere_model::seal::Seal;
use mezusphere_model::{Entropy, Host, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::certificate::{self, Facts};
use crate::csr::proven_key;
pub use crate::csr::{CSR_LEN_MAX, CsrError};
use crate::key::{KeyError, NodeKey};
use crate::lifetime::{
    CA_BACK_DATE, ISSUING_TTL, LEAF_TTL_MAX, LEAF_TTL_MIN, PUBLIC_TTL_MAX, ROOT_TTL, skew_allowance,
};
use crate::name::{CONTROL_DNS_NAME, EDGE_DNS_NAME, Role, SpiffeName, TrustDomain};

/// CAs that may stand below a root: one issuing CA, or a cross-signed newer root and its issuing CA.
const ROOT_PATH_LEN: u8 = 2;

/// CAs that may stand below an issuing CA: none, so that no leaf can become a CA.
const ISSUING_PATH_LEN: u8 = 0;

/// Octets of a serial number: 159 random bits, above what RFC 5280 §4.1.2.2 and public practice ask for.
const SERIAL_LEN: usize = 20;

/// Most names in one public certificate, as public CAs have it.
pub const PUBLIC_NAMES_MAX: usize = 100;

/// Names below this belong to nodes and are never given to a public certificate.
const INTERNAL_PARENT: &str = "mezu.internal";

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

/// Why a certificate is not issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request is refused.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The life asked for is out of bounds.
    #[error("a certificate lives from {} s to {} s, not {} s", .min.as_secs(), .max.as_secs(), .asked.as_secs())]
    Ttl {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
        /// What was asked for.
        asked: Duration,
    },
    /// The CA serves another trust domain.
    #[error("the CA issues for trust domain {0} only")]
    TrustDomain(TrustDomain),
    /// The CA ends before the shortest leaf would.
    #[error("the issuing CA ends at {0}: rotate it first")]
    IssuerEnds(Timestamp),
    /// A name that a public certificate cannot have.
    #[error("{0:?} cannot be in a public certificate")]
    PublicName(String),
    /// None, or more than [`PUBLIC_NAMES_MAX`].
    #[error("a public certificate has 1 to {PUBLIC_NAMES_MAX} names, not {0}")]
    PublicNameCount(usize),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate could not be made.
    #[error("the certificate could not be made: {0}")]
    Library(String),
}

/// A leaf, as issued.
#[derive(Clone, Debug)]
pub struct IssuedLeaf {
    /// Leaf and issuing CA; the root is left out, because trust in it comes by another way.
    pub chain: Vec<CertificateDer<'static>>,
    /// The moment of issue, less the skew allowance.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// Its serial number, lower-case hex; for the table of certificates issued.
    pub serial: String,
}

impl IssuedLeaf {
    /// The chain as PEM.
    pub fn chain_pem(&self) -> String {
        certificate::to_pem(&self.chain)
    }
}

/// A public certificate from the internal CA, for development.
#[derive(Clone)]
pub struct IssuedPublic {
    /// Names it is good for.
    pub names: Vec<String>,
    /// Leaf and issuing CA, PEM.
    pub chain_pem: String,
    /// Its key, PKCS #8 PEM.
    pub key_pem: Zeroizing<String>,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

impl fmt::Debug for IssuedPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedPublic").field("names", &self.names).finish_non_exhaustive()
    }
}

/// A CA's certificate and key.
struct Authority {
    certificate: CertificateDer<'static>,
    facts: Facts,
    key: NodeKey,
}

/// The root of an installation's trust.
pub struct Root(Authority);

/// A CA below the root, whose key works every day.
pub struct Issuing {
    authority: Authority,
    trust_domain: TrustDomain,
    entropy: Entropy,
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
        Ok(Self { authority, trust_domain, entropy: entropy.clone() })
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.authority.certificate
    }

    /// When it ends; no leaf outlives it.
    pub fn not_after(&self) -> Timestamp {
        self.authority.facts.not_after
    }

    /// For whose nodes it issues.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Certificate and key, sealed.
    pub fn sealed(&self, seal: &dyn Seal) -> Vec<u8> {
        self.authority.sealed(ISSUING_CONTEXT, seal)
    }

    /// Reads what [`Issuing::sealed`] gave. Serial numbers are drawn from `entropy`.
    pub fn open(sealed: &[u8], seal: &dyn Seal, entropy: &Entropy) -> Result<Self, AuthorityError> {
        let authority = Authority::open(ISSUING_CONTEXT, sealed, seal)?;
        let trust_domain = authority.facts.ca_trust_domain().ok_or(AuthorityError::Malformed)?;
        Ok(Self { authority, trust_domain, entropy: entropy.clone() })
    }

    /// Certifies the key of `csr_der` under `name`, with the uses of the name's role, from `now` for `ttl`.
    ///
    /// The leaf is dated back by [`skew_allowance`] and never outlives this CA.
    pub fn issue(
        &self,
        csr_der: &[u8],
        name: &SpiffeName,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<IssuedLeaf, IssueError> {
        if name.trust_domain != self.trust_domain {
            return Err(IssueError::TrustDomain(self.trust_domain.clone()));
        }
        let public_key = proven_key(csr_der)?;
        let (not_before, not_after) = self.dates(now, ttl, LEAF_TTL_MAX)?;
        let (serial, serial_hex) = serial(&self.entropy);
        let mut params = leaf_params(not_before, not_after, serial).map_err(|error| unissued(&error))?;
        let common_name = match &name.role {
            Role::Edge(id) => id.to_string(),
            Role::Control(id) => id.to_string(),
            Role::Warpgate { id, .. } => id.to_string(),
        };
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = vec![SanType::URI(ia5(&name.to_string())?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let dns_name = match &name.role {
            Role::Edge(_) => Some(EDGE_DNS_NAME),
            Role::Control(_) => Some(CONTROL_DNS_NAME),
            Role::Warpgate { .. } => None,
        };
        if let Some(dns_name) = dns_name {
            params.subject_alt_names.push(SanType::DnsName(ia5(dns_name)?));
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let issuer = self.authority.issuer().map_err(|error| IssueError::Library(error.to_string()))?;
        let leaf = params.signed_by(&public_key, &issuer).map_err(|error| unissued(&error))?;
        Ok(IssuedLeaf {
            chain: vec![leaf.der().clone(), self.authority.certificate.clone()],
            not_before,
            not_after,
            serial: serial_hex,
        })
    }

    /// A public certificate with a new key for development, where no public CA can be reached.
    ///
    /// Each name is a host, or `*.` and a host. Clients trust it only if they were told to trust the root. It
    /// carries no SPIFFE name, so it opens nothing inside. `ttl` is at most [`PUBLIC_TTL_MAX`].
    pub fn issue_public(
        &self,
        names: &[String],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<IssuedPublic, IssueError> {
        if names.is_empty() || names.len() > PUBLIC_NAMES_MAX {
            return Err(IssueError::PublicNameCount(names.len()));
        }
        let names = names.iter().map(|name| public_name(name)).collect::<Result<Vec<_>, _>>()?;
        let (not_before, not_after) = self.dates(now, ttl, PUBLIC_TTL_MAX)?;
        let (serial, _) = serial(&self.entropy);
        let mut params = leaf_params(not_before, not_after, serial).map_err(|error| unissued(&error))?;
        params.distinguished_name.push(DnType::CommonName, "Mezusphere development certificate");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names =
            names.iter().map(|name| ia5(name).map(SanType::DnsName)).collect::<Result<_, _>>()?;
        let key = NodeKey::generate()?;
        let issuer = self.authority.issuer().map_err(|error| IssueError::Library(error.to_string()))?;
        let leaf = params.signed_by(&key.pair, &issuer).map_err(|error| unissued(&error))?;
        Ok(IssuedPublic {
            names,
            chain_pem: certificate::to_pem([leaf.der(), &self.authority.certificate]),
            key_pem: Zeroizing::new(certificate::pem_block("PRIVATE KEY", key.pkcs8_der())),
            not_before,
            not_after,
        })
    }

    fn dates(
        &self,
        now: Timestamp,
        ttl: Duration,
        max: Duration,
    ) -> Result<(Timestamp, Timestamp), IssueError> {
        if ttl < LEAF_TTL_MIN || ttl > max {
            return Err(IssueError::Ttl { min: LEAF_TTL_MIN, max, asked: ttl });
        }
        let end = self.not_after();
        if now.after(LEAF_TTL_MIN) > end {
            return Err(IssueError::IssuerEnds(end));
        }
        Ok((now.before(skew_allowance(ttl)), now.after(ttl).min(end)))
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
    fn new(certificate: CertificateDer<'static>, key: NodeKey) -> Result<Self, AuthorityError> {
        let facts = certificate::facts(&certificate).map_err(|_| AuthorityError::Malformed)?;
        if !facts.is_ca {
            return Err(AuthorityError::Malformed);
        }
        Ok(Self { certificate, facts, key })
    }

    fn issuer(&self) -> Result<Issuer<'static, &rcgen::KeyPair>, AuthorityError> {
        Issuer::from_ca_cert_der(&self.certificate, &self.key.pair).map_err(|error| library(&error))
    }

    fn sealed(&self, context: &str, seal: &dyn Seal) -> Vec<u8> {
        let mut pem = Zeroizing::new(certificate::to_pem([&self.certificate]));
        pem.push_str(&Zeroizing::new(certificate::pem_block("PRIVATE KEY", self.key.pkcs8_der())));
        seal.seal(context, pem.as_bytes())
    }

    fn open(context: &str, sealed: &[u8], seal: &dyn Seal) -> Result<Self, AuthorityError> {
        let pem = Zeroizing::new(seal.open(context, sealed).map_err(|_| AuthorityError::Sealed)?);
        let (chain, key) = certificate::pair_from_pem(&pem).map_err(|_| AuthorityError::Malformed)?;
        let certificate = chain.into_iter().next().ok_or(AuthorityError::Malformed)?;
        Self::new(certificate, NodeKey::from_pkcs8_der(&key)?)
    }
}

fn ca_params(
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

fn leaf_params(
    not_before: Timestamp,
    not_after: Timestamp,
    serial: SerialNumber,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.not_before = date(not_before)?;
    params.not_after = date(not_after)?;
    params.serial_number = Some(serial);
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn date(at: Timestamp) -> Result<time::OffsetDateTime, rcgen::Error> {
    time::OffsetDateTime::from_unix_timestamp(at.as_seconds()).map_err(|_| rcgen::Error::Time)
}

fn serial(entropy: &Entropy) -> (SerialNumber, String) {
    let mut bytes: [u8; SERIAL_LEN] = entropy.bytes();
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40; // positive, and of one length
    }
    let hex = bytes.iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    });
    (SerialNumber::from_slice(&bytes), hex)
}

fn public_name(name: &str) -> Result<String, IssueError> {
    let refused = || IssueError::PublicName(name.to_owned());
    let (star, rest) = name.strip_prefix("*.").map_or(("", name), |rest| ("*.", rest));
    let host = Host::parse(rest).map_err(|_| refused())?;
    let internal = host.as_str() == INTERNAL_PARENT
        || host.as_str().strip_suffix(INTERNAL_PARENT).is_some_and(|rest| rest.ends_with('.'));
    if internal { Err(refused()) } else { Ok(format!("{star}{host}")) }
}

fn ia5(text: &str) -> Result<Ia5String, IssueError> {
    Ia5String::try_from(text).map_err(|error| unissued(&error))
}

fn library(error: &rcgen::Error) -> AuthorityError {
    AuthorityError::Library(error.to_string())
}

fn unissued(error: &rcgen::Error) -> IssueError {
    IssueError::Library(error.to_string())
}
