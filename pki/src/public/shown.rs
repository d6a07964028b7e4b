//! The TLS a browser meets, for one certificate at a time.
//!
//! Which certificate a client is shown is decided before, from its ClientHello. Each gets a configuration that knows this
//! certificate and no other, so that its tickets can be bound to it.

use std::fmt;
use std::sync::Arc;

use mezusphere_model::{Clock, Entropy};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ResolvesServerCertUsingSni};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ServerConfig};

use super::PublicCertificate;
use super::suites;
use super::tickets::TicketKeys;
use crate::provider::RustlsClock;
use crate::tls::{TlsSetupError, owned};

/// Session tickets sent after a full TLS 1.3 handshake: one for each of the two connections a browser opens.
pub const TICKETS_PER_HANDSHAKE: usize = 2;

/// The TLS strangers meet: 1.2 (ECDHE with AEAD only) and 1.3, X25519MLKEM768 preferred, no client
/// certificate asked, no 0-RTT. Cheap to clone; all clones share their ticket keys.
///
/// Resumption is stateless ([`TicketKeys`]): nothing is kept per client, and a restart costs each client one full
/// handshake.
#[derive(Clone)]
pub struct PublicTls {
    /// Everything but the certificate and its tickets.
    base: Arc<ServerConfig>,
    tickets: TicketKeys,
}

impl PublicTls {
    /// Speaks `alpn` and nothing else. Its ticket keys are its own: what carries another [`PublicTls`] opens none of
    /// its tickets.
    ///
    /// # Errors
    /// [`TlsSetupError`] if the provider cannot speak these versions.
    pub fn new(clock: &Clock, entropy: &Entropy, alpn: &[&[u8]]) -> Result<Self, TlsSetupError> {
        let mut base = ServerConfig::builder_with_details(suites::ordered(), RustlsClock::shared(clock))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            // Knows no name: only what `showing` makes of it is ever used.
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        base.session_storage = Arc::new(NoServerSessionStorage {});
        base.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        base.max_early_data_size = 0;
        base.alpn_protocols = owned(alpn);
        let tickets = TicketKeys::new(clock.clone(), entropy.clone())
            .ok_or_else(|| rustls::Error::General("no key for session tickets".to_owned()))?;
        Ok(Self { base: Arc::new(base), tickets })
    }

    /// What shows this certificate to clients that ask for one of its names, and fails the handshake of others.
    ///
    /// A session is resumed only where it began: under the same name, with the same certificate, while that lives. The
    /// order of cipher suites is ours, unless the client, of which these are `offered`, names `ChaCha20` first.
    pub fn showing(
        &self,
        certificate: &Arc<PublicCertificate>,
        offered: &[CipherSuite],
    ) -> Arc<ServerConfig> {
        let mut config = (*self.base).clone();
        config.ignore_client_order = !suites::is_chacha_first(offered);
        config.ticketer = Arc::new(self.tickets.bound_to(certificate.digest, certificate.not_after));
        config.cert_resolver = Arc::new(Shown(Arc::clone(certificate)));
        Arc::new(config)
    }
}

impl fmt::Debug for PublicTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicTls").field("alpn", &self.base.alpn_protocols).finish_non_exhaustive()
    }
}

/// One certificate, for its own names. Whoever chose it read the hello with other code than rustls: the two must agree.
#[derive(Debug)]
struct Shown(Arc<PublicCertificate>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name()?.trim_end_matches('.');
        super::covers_name(&self.0.names, asked).then(|| self.0.certified_key())
    }
}
