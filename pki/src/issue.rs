//! What an issuing CA certifies: keys of nodes under SPIFFE names, and for development public names.
//!
//! The uses of a leaf follow from the role in its name; there is no way to ask for others.

use std::fmt;
use std::time::Duration;

use mezusphere_model::{Host, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{DnType, ExtendedKeyUsagePurpose, SanType};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::authority::{Issuing, leaf_params, serial};
use crate::certificate;
use crate::csr::{CsrError, proven_key};
use crate::key::{KeyError, NodeKey};
use crate::lifetime::{LEAF_TTL_MAX, LEAF_TTL_MIN, PUBLIC_TTL_MAX, skew_allowance};
use crate::name::{CONTROL_DNS_NAME, EDGE_DNS_NAME, Role, SpiffeName, TrustDomain};

/// Most names in one public certificate, as public CAs have it.
pub const PUBLIC_NAMES_MAX: usize = 100;

/// Names below this belong to nodes and are never given to a public certificate.
const INTERNAL_PARENT: &str = "mezu.internal";

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
    /// Leaf and issuing CA, and crosses while the root is changed; the root is left out, because trust in it comes by
    /// another way.
    pub chain: Vec<CertificateDer<'static>>,
    /// The moment of issue, less the skew allowance.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// Its serial number, lower-case hex; for the table of certificates issued.
    pub serial: String,
    /// The CA that issued it, as [`Issuing::digest`] has it.
    pub issuer: [u8; 32],
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

impl Issuing {
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
        let mut chain = vec![leaf.der().clone(), self.authority.certificate.clone()];
        chain.extend(self.crosses.iter().cloned());
        Ok(IssuedLeaf { chain, not_before, not_after, serial: serial_hex, issuer: self.digest() })
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

fn unissued(error: &rcgen::Error) -> IssueError {
    IssueError::Library(error.to_string())
}
