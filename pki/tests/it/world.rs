//! An installation for tests: its CA, its nodes, a clock that stands still, and a way to run TLS handshakes
//! between two configurations without sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mezusphere_model::clock::ManualClock;
use mezusphere_model::id::{ControlId, EdgeId, EnvironmentId, ProjectId, WarpgateId};
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_model::{Clock, Entropy, Timestamp};
use mezusphere_pki::lifetime::LEAF_TTL;
use mezusphere_pki::{
    CurrentIdentity, CurrentTrust, EDGE_DNS_NAME, Issuing, NodeIdentity, NodeKey, Role, Root, SpiffeName,
    Trust, TrustDomain,
};
use rcgen::{Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection, ServerConfig, ServerConnection};

pub(crate) const ALPN: &[&[u8]] = &[b"test/1"];

/// When every test begins.
pub(crate) const BEGIN: Timestamp = Timestamp::from_seconds(1_800_000_000);

pub(crate) struct World {
    pub(crate) entropy: Entropy,
    pub(crate) hand: ManualClock,
    pub(crate) domain: TrustDomain,
    pub(crate) root: Root,
    pub(crate) issuing: Issuing,
}

/// Bits of the ids that [`World`]'s nodes have.
pub(crate) const EDGE: EdgeId = EdgeId::from_bits(1);
pub(crate) const OTHER_EDGE: EdgeId = EdgeId::from_bits(2);

impl World {
    pub(crate) fn new() -> Self {
        Self::named("mezu.example")
    }

    pub(crate) fn named(domain: &str) -> Self {
        // Installations draw different numbers, as real ones do.
        static WORLDS: AtomicU64 = AtomicU64::new(0);
        let entropy = Entropy::counting();
        for _ in 0..WORLDS.fetch_add(1, Ordering::Relaxed) {
            entropy.below(1);
        }
        let domain = TrustDomain::parse(domain).unwrap();
        let root = Root::create(&domain, BEGIN, &entropy).unwrap();
        let issuing = Issuing::create(&root, BEGIN, &entropy).unwrap();
        Self { entropy, hand: ManualClock::at(BEGIN), domain, root, issuing }
    }

    /// The same installation after its root was replaced.
    pub(crate) fn with_new_root(&self) -> Self {
        let root = Root::create(&self.domain, BEGIN, &self.entropy).unwrap();
        let issuing = Issuing::create(&root, BEGIN, &self.entropy).unwrap();
        let (entropy, domain) = (self.entropy.clone(), self.domain.clone());
        Self { entropy, hand: self.hand.clone(), domain, root, issuing }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.hand.clock()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock().now()
    }

    pub(crate) fn edge(&self) -> SpiffeName {
        SpiffeName::new(self.domain.clone(), Role::Edge(EDGE))
    }

    pub(crate) fn other_edge(&self) -> SpiffeName {
        SpiffeName::new(self.domain.clone(), Role::Edge(OTHER_EDGE))
    }

    pub(crate) fn control(&self) -> SpiffeName {
        SpiffeName::new(self.domain.clone(), Role::Control(ControlId::from_bits(3)))
    }

    pub(crate) fn warpgate(&self) -> SpiffeName {
        let role = Role::Warpgate {
            project: ProjectId::from_bits(4),
            environment: EnvironmentId::from_bits(5),
            id: WarpgateId::from_bits(6),
        };
        SpiffeName::new(self.domain.clone(), role)
    }

    pub(crate) fn identity_for(&self, name: &SpiffeName, ttl: Duration) -> NodeIdentity {
        let key = NodeKey::generate().unwrap();
        let leaf = self.issuing.issue(&key.csr_der().unwrap(), name, self.now(), ttl).unwrap();
        NodeIdentity::new(leaf.chain, key).unwrap()
    }

    pub(crate) fn identity(&self, name: &SpiffeName) -> CurrentIdentity {
        CurrentIdentity::new(self.identity_for(name, LEAF_TTL))
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::new(self.domain.clone(), vec![self.root.certificate().clone()], []).unwrap()
    }

    pub(crate) fn current_trust(&self) -> CurrentTrust {
        CurrentTrust::new(self.trust())
    }

    /// The issuing CA as rcgen uses it, to make what [`Issuing`] never would.
    pub(crate) fn forger(&self) -> Issuer<'static, KeyPair> {
        let pem = String::from_utf8(self.issuing.sealed(&Unsealed)).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        Issuer::from_ca_cert_pem(&pem, KeyPair::try_from(&key).unwrap()).unwrap()
    }
}

/// A seal that hides nothing, so that a test can take a CA's key.
pub(crate) struct Unsealed;

impl Seal for Unsealed {
    fn seal(&self, _context: &str, secret: &[u8]) -> Vec<u8> {
        secret.to_vec()
    }

    fn open(&self, _context: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        Ok(sealed.to_vec())
    }
}

/// A chain with its key that a peer shows, rightly or wrongly.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Clone for Shown {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Shown {
    pub(crate) fn of(identity: &NodeIdentity) -> Self {
        let key = PrivateKeyDer::try_from(identity.key().pkcs8_der().to_vec()).unwrap();
        Self { chain: identity.chain().to_vec(), key }
    }

    pub(crate) fn from_pem(chain_pem: &str, key_pem: &str) -> Self {
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
        Self { chain, key: PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap() }
    }

    pub(crate) fn forged(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        Self { chain, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }
}

/// A peer that shows what it was given and believes everybody: stock rustls, not our configuration.
pub(crate) mod believer {
    use super::{ALPN, Arc, ClientConfig, ServerConfig, Shown};
    use rustls::DigitallySignedStruct;
    use rustls::DistinguishedName;
    use rustls::SignatureScheme;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};

    #[derive(Debug)]
    struct Anybody;

    macro_rules! signatures_are_believed {
        () => {
            fn verify_tls12_signature(
                &self,
                _: &[u8],
                _: &CertificateDer<'_>,
                _: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                Ok(HandshakeSignatureValid::assertion())
            }

            fn verify_tls13_signature(
                &self,
                _: &[u8],
                _: &CertificateDer<'_>,
                _: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                Ok(HandshakeSignatureValid::assertion())
            }

            fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
                aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
            }
        };
    }

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        signatures_are_believed!();
    }

    impl ClientCertVerifier for Anybody {
        fn client_auth_mandatory(&self) -> bool {
            false
        }

        fn root_hint_subjects(&self) -> &[DistinguishedName] {
            &[]
        }

        fn verify_client_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: UnixTime,
        ) -> Result<ClientCertVerified, rustls::Error> {
            Ok(ClientCertVerified::assertion())
        }

        signatures_are_believed!();
    }

    fn client_builder() -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
    }

    fn with_alpn(mut config: ClientConfig) -> ClientConfig {
        config.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
        config
    }

    pub(crate) fn client(shown: Shown) -> ClientConfig {
        with_alpn(client_builder().with_client_auth_cert(shown.chain, shown.key).unwrap())
    }

    pub(crate) fn nameless_client() -> ClientConfig {
        with_alpn(client_builder().with_no_client_auth())
    }

    pub(crate) fn server(shown: Shown) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(Anybody))
            .with_single_cert(shown.chain, shown.key)
            .unwrap();
        config.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
        config
    }
}

/// How a handshake ended for each side.
pub(crate) struct Outcome {
    pub(crate) client: Result<(), rustls::Error>,
    pub(crate) server: Result<(), rustls::Error>,
    pub(crate) client_side: ClientConnection,
    pub(crate) server_side: ServerConnection,
}

impl Outcome {
    pub(crate) fn is_up(&self) -> bool {
        self.client.is_ok()
            && self.server.is_ok()
            && !self.client_side.is_handshaking()
            && !self.server_side.is_handshaking()
    }

    /// The alert with which the server refused the client.
    pub(crate) fn server_refused_with(&self) -> AlertDescription {
        assert!(self.server.is_err(), "the server refused nothing");
        match &self.client {
            Err(rustls::Error::AlertReceived(alert)) => *alert,
            other => panic!("the client got {other:?}"),
        }
    }

    /// The alert with which the client refused the server.
    pub(crate) fn client_refused_with(&self) -> AlertDescription {
        assert!(self.client.is_err(), "the client refused nothing");
        match &self.server {
            Err(rustls::Error::AlertReceived(alert)) => *alert,
            other => panic!("the server got {other:?}"),
        }
    }
}

/// Runs a handshake in memory until neither side has anything to say.
pub(crate) fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Outcome {
    shake_as(EDGE_DNS_NAME, client, server)
}

pub(crate) fn shake_as(name: &str, client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Outcome {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client_side = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server_side = ServerConnection::new(Arc::clone(server)).unwrap();
    let (mut client_result, mut server_result) = (Ok(()), Ok(()));
    loop {
        let mut to_server = Vec::new();
        while client_side.wants_write() {
            client_side.write_tls(&mut to_server).unwrap();
        }
        let mut to_client = Vec::new();
        while server_side.wants_write() {
            server_side.write_tls(&mut to_client).unwrap();
        }
        if to_server.is_empty() && to_client.is_empty() {
            return Outcome { client: client_result, server: server_result, client_side, server_side };
        }
        if server_result.is_ok() {
            server_result = feed(&to_server, |mut bytes| {
                server_side.read_tls(&mut bytes).unwrap();
                server_side.process_new_packets().map(|_| ())
            });
        }
        if client_result.is_ok() {
            client_result = feed(&to_client, |mut bytes| {
                client_side.read_tls(&mut bytes).unwrap();
                client_side.process_new_packets().map(|_| ())
            });
        }
    }
}

/// In pieces, as a network would: rustls reads a bounded amount at a time.
fn feed(bytes: &[u8], mut take: impl FnMut(&[u8]) -> Result<(), rustls::Error>) -> Result<(), rustls::Error> {
    bytes.chunks(1024).try_for_each(&mut take)
}
