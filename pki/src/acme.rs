//! What speaks with a certificate authority: the certificate that answers a tls-alpn-01 challenge (RFC 8737 §3),
//! self-signed and good for nothing but to be looked at once; the request for a certificate; and the look at what was
//! issued before anybody serves with it.
//!
//! What a challenge says, how long it is answered, and the conversation itself are the caller's.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use mezusphere_model::{Clock, Host, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, SanType};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use crate::authority::plain_leaf_params;
use crate::certificate::{self, Facts, pem_block};
use crate::key::{KeyError, NodeKey};
use crate::provider::{RustlsClock, provider};
use crate::public::{PublicCertificate, PublicCertificateError};
use crate::tls::{TlsSetupError, owned};

/// ALPN of the challenge (RFC 8737 §6.2). Nothing is said on such a connection after its handshake.
pub const ACME_TLS_ALPN: &[u8] = b"acme-tls/1";

/// How far the certificate is dated back and ahead: an authority looks within minutes, and its clock may differ.
const VALIDITY: Duration = Duration::from_hours(24);

/// Why there is no certificate for a challenge.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChallengeError {
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No certificate.
    #[error("the certificate could not be made: {0}")]
    Library(String),
    /// No configuration.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

/// A configuration that answers the challenge for `host`: one self-signed certificate with a new key, whose critical
/// `acmeIdentifier` is the SHA-256 of `key_authorization`; one ALPN, no resumption.
pub fn tls_alpn_server_config(
    host: &Host,
    key_authorization: &str,
    clock: &Clock,
) -> Result<ServerConfig, ChallengeError> {
    let certified = Arc::new(certify(host, key_authorization, clock)?);
    let mut config = ServerConfig::builder_with_details(provider(), RustlsClock::shared(clock))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsSetupError)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(certified)));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = owned(&[ACME_TLS_ALPN]);
    Ok(config)
}

fn certify(host: &Host, key_authorization: &str, clock: &Clock) -> Result<CertifiedKey, ChallengeError> {
    let now = clock.now();
    let mut params = plain_leaf_params(now.before(VALIDITY), now.after(VALIDITY)).map_err(unmade)?;
    params.distinguished_name.push(DnType::CommonName, "Mezusphere ACME challenge");
    // The one name, and nothing beside it.
    let name = Ia5String::try_from(host.as_str()).map_err(unmade)?;
    params.subject_alt_names = vec![SanType::DnsName(name)];
    let digest = digest(&SHA256, key_authorization.as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = NodeKey::generate()?;
    let certificate = params.self_signed(&key.pair).map_err(unmade)?;
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.pkcs8_der().to_vec()));
    let signer = provider()
        .key_provider
        .load_private_key(private)
        .map_err(|error| ChallengeError::Key(KeyError::Library(error.to_string())))?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signer))
}

/// How an authority's own server is spoken to: TLS 1.2 and 1.3, h1, known by `roots`; those that cannot be used are left
/// out, because a system's bundle may hold some. Says how many are trusted.
pub fn authority_client_config<'a>(
    roots: impl IntoIterator<Item = CertificateDer<'a>>,
    clock: &Clock,
) -> Result<(ClientConfig, usize), TlsSetupError> {
    let mut store = RootCertStore::empty();
    let (trusted, _) = store.add_parsable_certificates(roots);
    let mut config = ClientConfig::builder_with_details(provider(), RustlsClock::shared(clock))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsSetupError)?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = owned(&[b"http/1.1"]);
    Ok((config, trusted))
}

/// A request (PKCS #10) for a certificate of these names; `*.` may stand in front of one.
pub fn certificate_request(key: &NodeKey, names: &[String]) -> Result<Vec<u8>, ChallengeError> {
    let mut params = CertificateParams::new(names).map_err(unmade)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key.pair).map_err(unmade)?;
    Ok(request.der().to_vec())
}

/// A certificate that an authority issued, good to serve with.
#[derive(Clone)]
pub struct Issued {
    /// The chain, leaf first, PEM; nothing else that came with it.
    pub chain_pem: String,
    /// The private key, PKCS #8 PEM.
    pub key_pem: Zeroizing<String>,
    /// SHA-256 of the leaf.
    pub fingerprint: [u8; 32],
    /// From when it is good.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// How the authority knows it when asked about its renewal (RFC 9773 §4.1).
    pub renewal_id: Option<String>,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// Why what an authority issued is not served with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuedError {
    /// It cannot be read, is for another key, or is not valid now.
    #[error(transparent)]
    Unusable(#[from] PublicCertificateError),
    /// It lacks a name that was asked for.
    #[error("the certificate does not name {0}")]
    Name(String),
    /// It has a name that was not asked for: whoever holds its key could serve with it there.
    #[error("the certificate names {0}, which was not asked for")]
    Surplus(String),
    /// It comes from nobody else: no browser would trust it.
    #[error("the certificate was issued by this installation itself")]
    OwnIssue,
    /// A certificate of the chain did not sign the one before it.
    #[error("the chain is broken after certificate {0}")]
    Chain(usize),
}

/// Looks at a chain that was issued for `key` and `names`, before anybody serves with it: it parses, each certificate is
/// followed by the CA that signed it, the key is ours, it has these names and no other, it is valid at `now`, and it is not
/// from one of `own`, the CAs of this installation.
///
/// Whether the last of the chain is trusted is the clients' business: a private authority's root is not known here.
pub fn check_issued(
    chain_pem: &str,
    key: &NodeKey,
    names: &[String],
    own: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<Issued, IssuedError> {
    let key_pem = Zeroizing::new(pem_block("PRIVATE KEY", key.pkcs8_der()));
    let public = PublicCertificate::from_pem(chain_pem, &key_pem, now)?;
    let lacks = |names: &[String], name: &str| !names.iter().any(|one| one.eq_ignore_ascii_case(name));
    if let Some(name) = names.iter().find(|name| lacks(public.names(), name)) {
        return Err(IssuedError::Name(name.clone()));
    }
    if let Some(name) = public.names().iter().find(|name| lacks(names, name)) {
        return Err(IssuedError::Surplus(name.clone()));
    }
    let certified = public.certified_key();
    let unreadable = |_| IssuedError::Unusable(PublicCertificateError::NoCertificate);
    let chain: Vec<Facts> = certified
        .cert
        .iter()
        .map(|der| certificate::facts(der))
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    for (number, (der, pair)) in (1..).zip(certified.cert.iter().zip(chain.windows(2))) {
        if let [subject, issuer] = pair
            && (subject.issuer != issuer.subject || !issuer.is_ca || !is_signed_by(der, issuer))
        {
            return Err(IssuedError::Chain(number));
        }
    }
    let own: Vec<Facts> =
        own.iter().map(|der| certificate::facts(der)).collect::<Result<_, _>>().map_err(unreadable)?;
    let is_own = |facts: &Facts| own.iter().any(|own| own.subject == facts.issuer);
    if chain.iter().any(is_own) || chain.first().is_some_and(|leaf| leaf.issuer == leaf.subject) {
        return Err(IssuedError::OwnIssue);
    }
    let leaf = certified.cert.first().ok_or(PublicCertificateError::NoCertificate)?;
    Ok(Issued {
        chain_pem: certificate::to_pem(&certified.cert),
        key_pem,
        fingerprint: certificate::fingerprint(leaf),
        not_before: public.not_before(),
        not_after: public.not_after(),
        renewal_id: renewal_id(leaf),
    })
}

/// Whether a certificate's signature is by this key, in any way that TLS knows.
fn is_signed_by(der: &CertificateDer<'_>, issuer: &Facts) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let (content, signature) = (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
    let algorithms = provider().signature_verification_algorithms.all;
    algorithms.iter().any(|one| one.verify_signature(&issuer.public_key, content, signature).is_ok())
}

/// The authority's key and its serial number for it: the name under which renewal information is asked for.
fn renewal_id(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    let authority = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref(),
        _ => None,
    })?;
    Some(format!("{}.{}", BASE64URL.encode(authority.0), BASE64URL.encode(leaf.raw_serial())))
}

// By value, so that it can be named in `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` needs")]
fn unmade(error: rcgen::Error) -> ChallengeError {
    ChallengeError::Library(error.to_string())
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use mezusphere_model::Entropy;
    use mezusphere_model::clock::ManualClock;
    use rcgen::{BasicConstraints, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
    use rustls_pki_types::pem::PemObject as _;
    use x509_parser::oid_registry::Oid;

    use super::*;
    use crate::{Issuing, Root, TrustDomain};

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    /// An authority of the world outside, and a chain it issued for a request.
    struct Outside {
        issuer: Issuer<'static, KeyPair>,
        certificate: rcgen::Certificate,
    }

    impl Outside {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            Self { issuer: Issuer::new(params, key), certificate }
        }

        fn issue(&self, request: &[u8]) -> String {
            let mut csr = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
            let at = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            csr.params.not_before = at(NOW.as_seconds() - 3600);
            csr.params.not_after = at(NOW.as_seconds() + 90 * 86_400);
            csr.params.use_authority_key_identifier_extension = true;
            let leaf = csr.signed_by(&self.issuer).unwrap();
            leaf.pem() + &self.certificate.pem()
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_was_issued_for_our_request_can_be_served_with() {
        let key = NodeKey::generate().unwrap();
        let asked = names(&["shop.example", "*.apps.example"]);
        let chain = Outside::new("outside").issue(&certificate_request(&key, &asked).unwrap());
        let issued = check_issued(&chain, &key, &asked, &[], NOW).unwrap();
        assert_eq!(issued.not_after, NOW.after(Duration::from_hours(90 * 24)));
        let (authority, serial) = issued.renewal_id.as_deref().unwrap().split_once('.').unwrap();
        assert!(!authority.is_empty() && BASE64URL.decode(serial).is_ok());
        let again = PublicCertificate::from_pem(&issued.chain_pem, &issued.key_pem, NOW).unwrap();
        assert_eq!(again.names().len(), 2);
    }

    #[test]
    fn what_cannot_be_served_with_is_refused_by_what_is_wrong() {
        use PublicCertificateError as E;
        let (key, other) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
        let asked = names(&["shop.example"]);
        let outside = Outside::new("outside");
        let chain = outside.issue(&certificate_request(&key, &asked).unwrap());
        let check = |chain: &str, key: &NodeKey, asked: &[&str], now| {
            check_issued(chain, key, &names(asked), &[], now).unwrap_err()
        };
        assert_eq!(check(&chain, &other, &["shop.example"], NOW), IssuedError::Unusable(E::NotAPair));
        assert_eq!(
            check(&chain, &key, &["shop.example", "blog.example"], NOW),
            IssuedError::Name("blog.example".to_owned())
        );
        assert_eq!(check("<html>", &key, &["shop.example"], NOW), IssuedError::Unusable(E::NoCertificate));
        let late = NOW.after(Duration::from_hours(91 * 24));
        let why = check(&chain, &key, &["shop.example"], late);
        assert!(matches!(why, IssuedError::Unusable(E::Expired { .. })), "{why}");
        let early = NOW.before(Duration::from_hours(2));
        let why = check(&chain, &key, &["shop.example"], early);
        assert!(matches!(why, IssuedError::Unusable(E::NotYetValid { .. })), "{why}");
        let two =
            outside.issue(&certificate_request(&key, &names(&["shop.example", "login.example"])).unwrap());
        assert_eq!(
            check(&two, &key, &["shop.example"], NOW),
            IssuedError::Surplus("login.example".to_owned())
        );
        let wildcard = outside.issue(&certificate_request(&key, &names(&["*.example"])).unwrap());
        assert_eq!(
            check(&wildcard, &key, &["shop.example"], NOW),
            IssuedError::Name("shop.example".to_owned()),
            "more than was asked for"
        );
    }

    #[test]
    fn each_certificate_of_a_chain_must_have_signed_the_one_before() {
        let key = NodeKey::generate().unwrap();
        let asked = names(&["shop.example"]);
        let outside = Outside::new("outside");
        let chain = outside.issue(&certificate_request(&key, &asked).unwrap());
        let leaf = chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
        let check = |after: &str| check_issued(&(leaf.to_owned() + after), &key, &asked, &[], NOW);
        // Of another name; of the same name with another key; and further up.
        assert_eq!(check(&Outside::new("another").certificate.pem()).unwrap_err(), IssuedError::Chain(1));
        let namesake = Outside::new("outside").certificate.pem();
        assert_eq!(check(&namesake).unwrap_err(), IssuedError::Chain(1));
        let own = outside.certificate.pem();
        assert_eq!(check(&(own.clone() + &namesake)).unwrap_err(), IssuedError::Chain(2));
        assert!(check(&(own.clone() + &own)).is_ok(), "a root signs itself");
        assert!(check("").is_ok(), "clients may know the issuer");
    }

    #[test]
    fn a_certificate_of_our_own_ca_is_not_taken_for_an_authoritys() {
        let domain = TrustDomain::parse("mezu.example").unwrap();
        let entropy = Entropy::counting();
        let root = Root::create(&domain, NOW, &entropy).unwrap();
        let issuing = Issuing::create(&root, NOW, &entropy).unwrap();
        let asked = names(&["shop.example"]);
        let own = issuing.issue_public(&asked, NOW, Duration::from_hours(24)).unwrap();
        let key = PrivatePkcs8KeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap();
        let key = NodeKey::from_pkcs8_der(key.secret_pkcs8_der()).unwrap();
        let cas = [issuing.certificate().clone()];
        let why = check_issued(&own.chain_pem, &key, &asked, &cas, NOW).unwrap_err();
        assert_eq!(why, IssuedError::OwnIssue);
    }

    #[test]
    fn the_certificate_is_what_rfc_8737_asks_for() {
        let now = Timestamp::from_seconds(1_800_000_000);
        let clock = ManualClock::at(now).clock();
        let host = Host::parse("shop.example").unwrap();
        let certified = certify(&host, "token.thumbprint", &clock).unwrap();
        let [der] = certified.cert.as_slice() else { panic!("one certificate, by itself") };
        let (_, certificate) = X509Certificate::from_der(der).unwrap();
        assert_eq!(certificate.subject().as_raw(), certificate.issuer().as_raw(), "self-signed");
        let facts = certificate::facts(der).unwrap();
        assert_eq!((facts.dns_names.as_slice(), facts.uris.len()), (&["shop.example".to_owned()][..], 0));
        assert!(facts.not_before < now && now < facts.not_after && !facts.is_ca);
        // id-pe 31 (RFC 8737 §6.1): an OCTET STRING of 32 octets.
        let oid = Oid::from(&[1, 3, 6, 1, 5, 5, 7, 1, 31]).unwrap();
        let extension = certificate.get_extension_unique(&oid).unwrap().expect("acmeIdentifier");
        assert!(extension.critical);
        let digest = digest(&SHA256, b"token.thumbprint");
        assert_eq!(extension.value, [&[4, 32], digest.as_ref()].concat());
    }
}
