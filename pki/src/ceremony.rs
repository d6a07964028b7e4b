//! What a root does besides signing the first issuing CA: it signs the request of an issuing CA whose key it never sees,
//! and the root that replaces it.
//!
//! A root may live offline. Then the issuing CA's key is made where it works and only a request (PKCS #10) travels, the
//! certificate comes back, and nothing secret moves. Who signs what, and when, is the caller's; this module checks only
//! that what it is given fits together.
//!
//! ```text
//!  control: IssuingRequest::create ──csr_pem──▶ root: Root::sign_request ──PEM──▶ control: IssuingRequest::install
//!  R1: Root::cross_sign(R2) ──▶ a certificate of R2's name and key, signed by R1: R1 → cross → issuing CA → leaf
//! ```

use std::fmt;

use mezusphere_model::seal::Seal;
use mezusphere_model::{Entropy, Timestamp};
use rcgen::string::PrintableString;
use rcgen::{DistinguishedName, DnType, DnValue, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use crate::authority::{Authority, AuthorityError, ISSUING_PATH_LEN, Issuing, Root, ca_params, library};
use crate::certificate;
use crate::csr::{CsrError, proven_key};
use crate::issue::IssueError;
use crate::key::{KeyError, NodeKey};
use crate::lifetime::{ISSUING_TTL, LEAF_TTL_MIN};
use crate::name::{Role, SpiffeName, TrustDomain};
use crate::peer::{ExpectedRole, PeerError, verify_peer};
use crate::trust::Trust;

const REQUEST_CONTEXT: &str = "pki/issuing-request";

/// Label of a request's PEM block (RFC 7468 §7).
const REQUEST_LABEL: &str = "CERTIFICATE REQUEST";

/// Why a ceremony came to nothing. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CeremonyError {
    /// The CA itself cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The request is refused.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// What was given is no CA certificate, or not one whose names can be written again.
    #[error("what was given is not a root certificate of Mezusphere's kind")]
    NotARoot,
    /// A CA of another installation.
    #[error("the certificate was made for another trust domain than {0}")]
    OtherDomain(TrustDomain),
    /// A root would sign itself.
    #[error("a root does not replace itself")]
    Same,
    /// The root has ended.
    #[error("the root ended at {0} and signs nothing any more")]
    Ended(Timestamp),
    /// The certificate that came back was made for another request.
    #[error("the certificate was made for another request than the one that waits")]
    OtherRequest,
    /// It cannot issue.
    #[error("the certificate cannot issue: {0}")]
    Issue(#[from] IssueError),
    /// What it issues would not be accepted.
    #[error("what this CA issues would not be accepted: {0}")]
    NotAccepted(PeerError),
}

impl From<KeyError> for CeremonyError {
    fn from(why: KeyError) -> Self {
        Self::Authority(why.into())
    }
}

impl Root {
    /// When it ends.
    pub fn not_after(&self) -> Timestamp {
        self.0.facts.not_after
    }

    /// For whose installation it was made.
    pub fn trust_domain(&self) -> Result<TrustDomain, AuthorityError> {
        self.0.facts.ca_trust_domain().ok_or(AuthorityError::Malformed)
    }

    /// Signs the root that replaces this one: a CA certificate with the name and the key of `new`, so that a chain leads
    /// from here to what `new` signs. It lives as long as both do.
    pub fn cross_sign(
        &self,
        new: &CertificateDer<'_>,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<CertificateDer<'static>, CeremonyError> {
        let facts = certificate::facts(new).map_err(|_| CeremonyError::NotARoot)?;
        let own = self.trust_domain()?;
        if !facts.is_ca || facts.is_cross() {
            return Err(CeremonyError::NotARoot);
        }
        if facts.ca_trust_domain().as_ref() != Some(&own) {
            return Err(CeremonyError::OtherDomain(own));
        }
        if facts.subject == self.0.facts.subject {
            return Err(CeremonyError::Same);
        }
        let not_after = self.life(now)?.min(facts.not_after);
        let (_, parsed) = X509Certificate::from_der(new).map_err(|_| CeremonyError::NotARoot)?;
        let key =
            SubjectPublicKeyInfo::from_der(parsed.public_key().raw).map_err(|_| CeremonyError::NotARoot)?;
        let mut params = ca_params(&own, "root", self.below(), now, not_after, entropy)?;
        params.distinguished_name = name(&parsed)?;
        let issuer = self.0.issuer()?;
        let cross = params.signed_by(&key, &issuer).map_err(|error| library(&error))?;
        let cross = cross.der().clone();
        // Chains are found by comparing names octet by octet.
        match certificate::facts(&cross) {
            Ok(made) if made.subject == facts.subject => Ok(cross),
            _ => Err(CeremonyError::NotARoot),
        }
    }

    /// Certifies an issuing CA's key by its request ([`IssuingRequest::csr_der`]) for [`ISSUING_TTL`], but not longer than
    /// this root. What the request asks for beside its key is ignored.
    pub fn sign_request(
        &self,
        csr_der: &[u8],
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<CertificateDer<'static>, CeremonyError> {
        let key = proven_key(csr_der)?;
        let not_after = self.life(now)?.min(now.after(ISSUING_TTL));
        let params = ca_params(&self.trust_domain()?, "issuing", ISSUING_PATH_LEN, now, not_after, entropy)?;
        let issuer = self.0.issuer()?;
        let issuing = params.signed_by(&key, &issuer).map_err(|error| library(&error))?;
        Ok(issuing.der().clone())
    }

    /// Until when it may sign.
    fn life(&self, now: Timestamp) -> Result<Timestamp, CeremonyError> {
        let end = self.not_after();
        if now >= end { Err(CeremonyError::Ended(end)) } else { Ok(end) }
    }

    /// CAs that may stand below a cross: one less than below this root.
    fn below(&self) -> u8 {
        self.0.facts.path_len.map_or(u8::MAX, |len| u8::try_from(len).unwrap_or(u8::MAX)).saturating_sub(1)
    }
}

/// A certificate's subject as it can be written again.
fn name(certificate: &X509Certificate<'_>) -> Result<DistinguishedName, CeremonyError> {
    let mut name = DistinguishedName::new();
    for attribute in certificate.subject().iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter().ok_or(CeremonyError::NotARoot)?.collect();
        let value = attribute.attr_value();
        let text = std::str::from_utf8(value.data).map_err(|_| CeremonyError::NotARoot)?;
        let value = match value.header.tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(
                PrintableString::try_from(text).map_err(|_| CeremonyError::NotARoot)?,
            ),
            _ => return Err(CeremonyError::NotARoot),
        };
        name.push(DnType::from_oid(&oid), value);
    }
    Ok(name)
}

/// The key of an issuing CA that has no certificate yet.
pub struct IssuingRequest {
    key: NodeKey,
}

impl IssuingRequest {
    /// A new key, which stays here.
    pub fn create() -> Result<Self, KeyError> {
        Ok(Self { key: NodeKey::generate()? })
    }

    /// What a root signs: the public key, and the proof that the private one is here (PKCS #10).
    pub fn csr_der(&self) -> Result<Vec<u8>, KeyError> {
        self.key.csr_der()
    }

    /// The same as PEM.
    pub fn csr_pem(&self) -> Result<String, KeyError> {
        Ok(certificate::pem_block(REQUEST_LABEL, &self.csr_der()?))
    }

    /// The key as PKCS #8, **in the clear**: for a store that seals by itself.
    pub fn secret_der(&self) -> &[u8] {
        self.key.pkcs8_der()
    }

    /// Reads what [`IssuingRequest::secret_der`] gave.
    pub fn from_secret_der(der: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { key: NodeKey::from_pkcs8_der(der)? })
    }

    /// The key, sealed, for a file.
    pub fn sealed(&self, seal: &dyn Seal) -> Vec<u8> {
        seal.seal(REQUEST_CONTEXT, self.key.pkcs8_der())
    }

    /// Reads what [`IssuingRequest::sealed`] gave.
    pub fn open(sealed: &[u8], seal: &dyn Seal) -> Result<Self, AuthorityError> {
        let der = seal.open(REQUEST_CONTEXT, sealed).map_err(|_| AuthorityError::Sealed)?;
        Ok(Self::from_secret_der(&Zeroizing::new(der))?)
    }

    /// The issuing CA, once a root has certified the key. Refused unless what it issues now would be accepted by whoever
    /// trusts as `trust` says: a certificate for another key, of another root, of another installation, one that has ended
    /// or may not issue.
    pub fn install(
        self,
        certificate: CertificateDer<'static>,
        trust: &Trust,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<Issuing, CeremonyError> {
        let facts = certificate::facts(&certificate).map_err(|_| AuthorityError::Malformed)?;
        if facts.public_key != self.key.public_key() {
            return Err(CeremonyError::OtherRequest);
        }
        let issuing = Issuing::of(Authority::new(certificate, self.key)?, entropy)?;
        if issuing.trust_domain() != trust.domain() {
            return Err(CeremonyError::OtherDomain(trust.domain().clone()));
        }
        issuing.prove(trust, now)?;
        Ok(issuing)
    }
}

impl fmt::Debug for IssuingRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IssuingRequest")
    }
}

impl Issuing {
    /// Issues a leaf for nobody and judges it, as every peer that trusts as `trust` says would judge a node's.
    pub fn prove(&self, trust: &Trust, now: Timestamp) -> Result<(), CeremonyError> {
        let nobody = Role::Control(mezusphere_model::id::ControlId::from_bits(0));
        let csr = NodeKey::generate()?.csr_der()?;
        let name = SpiffeName::new(self.trust_domain().clone(), nobody);
        let leaf = self.issue(&csr, &name, now, LEAF_TTL_MIN)?;
        verify_peer(&leaf.chain, trust, now, ExpectedRole::AnyControl)
            .map(drop)
            .map_err(CeremonyError::NotAccepted)
    }
}

/// The request in a PEM text.
pub fn request_from_pem(pem: &str) -> Result<Vec<u8>, CsrError> {
    use rustls_pki_types::CertificateSigningRequestDer;
    use rustls_pki_types::pem::PemObject as _;
    let csr =
        CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| CsrError::Malformed)?;
    Ok(csr.as_ref().to_vec())
}

/// The PEM text of one certificate.
pub fn certificate_to_pem(der: &CertificateDer<'_>) -> String {
    certificate::to_pem([der])
}
