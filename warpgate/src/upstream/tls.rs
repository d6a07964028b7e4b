//! How an https upstream proves who it is: to the system's authorities, to those of a file, or by its public key.
//!
//! The system's own store is used (`rustls-native-certs`), not a list that came with this program: workloads inside a
//! company are certified by the company's authority, and an administrator may distrust one without a new warpgate.

use std::fmt;
use std::sync::Arc;

use ::aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::settings::{Pin, Protocol, Settings};
use super::target::{Scheme, Target};

/// ALPN of HTTP/2 (RFC 9113 §3.1).
pub(crate) const ALPN_H2: &[u8] = b"h2";

/// ALPN of HTTP/1.1 (RFC 7301 §6).
const ALPN_H1: &[u8] = b"http/1.1";

/// What a connection to an https upstream begins with.
#[derive(Clone)]
pub(crate) struct Tls {
    /// Offers what the settings say.
    pub(crate) usual: Arc<ClientConfig>,
    /// Offers HTTP/1.1 alone, for upgrades; `None` if the settings want HTTP/2 alone.
    pub(crate) h1: Option<Arc<ClientConfig>>,
    pub(crate) name: ServerName<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.name)
    }
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum TlsError {
    /// Of the CA file.
    Ca(String),
    /// Of the system.
    NoRoots,
    /// The host is no name that a certificate could hold.
    Name,
}

/// What an upstream there needs; `None` without TLS.
pub(super) fn configure(
    target: &Target,
    settings: &Settings,
    ca_pem: Option<&[u8]>,
) -> Result<Option<Tls>, TlsError> {
    let (Scheme::Https, Some(host)) = (target.scheme(), target.host()) else { return Ok(None) };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let name = settings.server_name.as_deref().unwrap_or(bare).to_owned();
    let name = ServerName::try_from(name).map_err(|_| TlsError::Name)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    // The versions are rustls' own and the provider speaks both, so this does not fail.
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| TlsError::Ca(why.to_string()))?;
    let config = match (settings.pin, ca_pem) {
        (Some(pin), _) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { pin, provider }))
        }
        (None, Some(pem)) => builder.with_root_certificates(file_roots(pem)?),
        (None, None) => builder.with_root_certificates(system_roots()?),
    };
    let mut config = config.with_no_client_auth();
    let offering = |config: &ClientConfig, protocols: &[&[u8]]| {
        let mut config = config.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    };
    // A resumed session of the one must not begin the other, which may end in another protocol.
    let h1 = offering(&config, &[ALPN_H1]);
    config.resumption = rustls::client::Resumption::default();
    Ok(Some(match settings.protocol.unwrap_or_default() {
        Protocol::Auto => Tls { usual: offering(&config, &[ALPN_H2, ALPN_H1]), h1: Some(h1), name },
        Protocol::H1 => Tls { usual: Arc::clone(&h1), h1: Some(h1), name },
        Protocol::H2 => Tls { usual: offering(&config, &[ALPN_H2]), h1: None, name },
    }))
}

fn file_roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|why| TlsError::Ca(format!("it is not PEM: {why}")))?;
        roots.add(certificate).map_err(|why| TlsError::Ca(why.to_string()))?;
    }
    if roots.is_empty() { Err(TlsError::Ca("there is no certificate in it".to_owned())) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read judges nobody; the others do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

/// Accepts whoever holds one public key, whatever its certificate says of names, dates and issuers.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = webpki::EndEntityCert::try_from(end_entity)
            .map_err(|why| rustls::Error::General(format!("the certificate cannot be read: {why}")))?;
        let shown = digest(&SHA256, certificate.subject_public_key_info().as_ref());
        if shown.as_ref() == self.pin.digest() {
            return Ok(ServerCertVerified::assertion());
        }
        let shown = Pin::from_digest(shown.as_ref());
        Err(rustls::Error::General(format!("its public key is {shown}, but {} is pinned", self.pin)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
