//! The certificate that answers a tls-alpn-01 challenge (RFC 8737 §3): self-signed, good for nothing but to be looked
//! at once by a certificate authority.
//!
//! What a challenge says, and how long it is answered, is the caller's.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use mezusphere_model::{Clock, Host};
use rcgen::string::Ia5String;
use rcgen::{CustomExtension, DnType, SanType};
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::authority::plain_leaf_params;
use crate::key::{KeyError, NodeKey};
use crate::provider::{RustlsClock, provider};
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
    use mezusphere_model::Timestamp;
    use mezusphere_model::clock::ManualClock;
    use x509_parser::certificate::X509Certificate;
    use x509_parser::oid_registry::Oid;
    use x509_parser::prelude::FromDer as _;

    use super::*;

    #[test]
    fn the_certificate_is_what_rfc_8737_asks_for() {
        let now = Timestamp::from_seconds(1_800_000_000);
        let clock = ManualClock::at(now).clock();
        let host = Host::parse("shop.example").unwrap();
        let certified = certify(&host, "token.thumbprint", &clock).unwrap();
        let [der] = certified.cert.as_slice() else { panic!("one certificate, by itself") };
        let (_, certificate) = X509Certificate::from_der(der).unwrap();
        assert_eq!(certificate.subject().as_raw(), certificate.issuer().as_raw(), "self-signed");
        let facts = crate::certificate::facts(der).unwrap();
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
