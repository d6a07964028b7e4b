//! Sessions that go on: where a client saves a handshake, and where it must not.

use std::sync::atomic::AtomicUsize;

use rustls::HandshakeKind;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue, WebPkiServerVerifier,
};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, NamedGroup, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::h3::connect_quic;
use super::tls::{alert, quic_end, tls};
use super::*;

/// A client's tickets, all in one place whatever name they came from, as no browser keeps them.
#[derive(Debug)]
struct Drawer {
    cache: ClientSessionMemoryCache,
    tickets: watch::Sender<usize>,
}

impl Drawer {
    fn new() -> Arc<Self> {
        Arc::new(Self { cache: ClientSessionMemoryCache::new(8), tickets: watch::Sender::new(0) })
    }

    fn name() -> ServerName<'static> {
        ServerName::try_from("one.name.for.all").unwrap()
    }

    /// Waits until so many tickets have come in all.
    async fn has(&self, count: usize) {
        let mut tickets = self.tickets.subscribe();
        timeout(SOON, tickets.wait_for(|there| *there >= count)).await.expect("no ticket came").unwrap();
    }
}

impl ClientSessionStore for Drawer {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.cache.set_kx_hint(Self::name(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.cache.kx_hint(&Self::name())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.tickets.send_modify(|count| *count += 1);
        self.cache.set_tls12_session(Self::name(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.cache.tls12_session(&Self::name())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.cache.remove_tls12_session(&Self::name());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tickets.send_modify(|count| *count += 1);
        self.cache.insert_tls13_ticket(Self::name(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.cache.take_tls13_ticket(&Self::name())
    }
}

/// Counts the certificates it was shown: a client whose session goes on is shown none.
#[derive(Debug)]
struct Counting {
    inner: Arc<WebPkiServerVerifier>,
    shown: Arc<AtomicUsize>,
}

impl ServerCertVerifier for Counting {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.shown.fetch_add(1, Ordering::Relaxed);
        self.inner.verify_server_cert(leaf, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A client with a drawer.
struct Visitor {
    config: ClientConfig,
    drawer: Arc<Drawer>,
    shown: Arc<AtomicUsize>,
}

impl Visitor {
    fn new(rig: &Rig, version: &'static SupportedProtocolVersion, alpn: &[u8]) -> Self {
        let (drawer, shown) = (Drawer::new(), Arc::new(AtomicUsize::new(0)));
        let inner = WebPkiServerVerifier::builder(Arc::new(rig.trust.roots())).build().unwrap();
        let verifier = Counting { inner, shown: Arc::clone(&shown) };
        let mut config = ClientConfig::builder_with_protocol_versions(&[version])
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::store(Arc::clone(&drawer) as _);
        Self { config, drawer, shown }
    }

    /// One request over TCP for `host`; whether the session went on.
    async fn visit(&self, rig: &Rig, host: &'static str) -> Result<bool, u8> {
        let stream = TcpStream::connect(rig.address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        let name = ServerName::try_from(host).unwrap();
        let mut stream = connector.connect(name, stream).await.map_err(|error| alert(&error))?;
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(kind == HandshakeKind::Resumed)
    }

    /// One connection over QUIC for `host`; whether the session went on.
    async fn call(&self, rig: &Rig, host: &str) -> bool {
        let (shown, tickets) = (self.shown.load(Ordering::Relaxed), *self.drawer.tickets.borrow());
        let connection = connect_quic(rig, self.config.clone(), host).await.unwrap();
        self.drawer.has(tickets + 1).await;
        connection.close(quinn::VarInt::from_u32(0x100), b"");
        self.shown.load(Ordering::Relaxed) == shown
    }
}

/// A new certificate for the names of the one in use.
fn change_certificate(rig: &Rig) {
    rig.certificates.replace(&[rig.trust.public(&[HOST, LOGIN])], now().now());
}

#[tokio::test]
async fn a_client_that_was_here_before_saves_a_handshake_until_the_certificate_changes() {
    let rig = Rig::start();
    for version in [&TLS12, &TLS13] {
        let visitor = Visitor::new(&rig, version, ALPN_H1);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            kinds.push(visitor.visit(&rig, HOST).await.unwrap());
        }
        assert_eq!(kinds, [false, true, true], "{version:?}");
        change_certificate(&rig);
        assert!(!visitor.visit(&rig, HOST).await.unwrap(), "{version:?}: it has not seen the new one");
        assert!(visitor.visit(&rig, HOST).await.unwrap(), "{version:?}");
        assert_eq!(visitor.shown.load(Ordering::Relaxed), 2, "{version:?}");
    }
    assert_eq!((rig.counters.full.get(), rig.counters.resumed.get()), (4, 6));
    rig.end().await;
}

#[tokio::test]
async fn over_quic_too() {
    let rig = Rig::start();
    let visitor = Visitor::new(&rig, &TLS13, ALPN_H3);
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(visitor.call(&rig, HOST).await);
    }
    assert_eq!(kinds, [false, true, true]);
    change_certificate(&rig);
    assert!(!visitor.call(&rig, HOST).await, "it has not seen the new one");
    assert!(visitor.call(&rig, HOST).await);
    rig.end().await;
}

#[tokio::test]
async fn r03_a_ticket_opens_no_other_door_than_the_name_it_was_given_at() {
    let rig = Rig::start();
    for version in [&TLS12, &TLS13] {
        let visitor = Visitor::new(&rig, version, ALPN_H1);
        assert!(!visitor.visit(&rig, HOST).await.unwrap());
        // The same certificate covers it.
        assert!(!visitor.visit(&rig, LOGIN).await.unwrap(), "{version:?}");
        assert!(visitor.visit(&rig, LOGIN).await.unwrap(), "{version:?}");
        assert_eq!(visitor.visit(&rig, "other.localhost").await, Err(112), "{version:?}");
        // Nor where its own certificate is gone.
        rig.certificates.replace(&[rig.trust.public(&[HOST])], now().now());
        assert_eq!(visitor.visit(&rig, LOGIN).await, Err(112), "{version:?}");
        change_certificate(&rig);
    }
    let visitor = Visitor::new(&rig, &TLS13, ALPN_H3);
    assert!(!visitor.call(&rig, HOST).await);
    assert!(!visitor.call(&rig, LOGIN).await, "over QUIC");
    rig.end().await;
}

#[tokio::test]
async fn r03_a_ticket_of_one_carrier_is_none_on_the_other() {
    let rig = Rig::start();
    let by_tcp = Visitor::new(&rig, &TLS13, ALPN_H1);
    assert!(!by_tcp.visit(&rig, HOST).await.unwrap());
    let mut by_quic = Visitor::new(&rig, &TLS13, ALPN_H3);
    by_quic.drawer = Arc::clone(&by_tcp.drawer);
    by_quic.config.resumption = Resumption::store(Arc::clone(&by_tcp.drawer) as _);
    assert!(!by_quic.call(&rig, HOST).await);
    rig.end().await;
}

#[tokio::test]
async fn r20_no_session_of_a_tunnel_goes_on() {
    let rig = Rig::start();
    let warpgate = rig.trust.warpgate();
    let drawer = Drawer::new();
    let mut config = tls(&[tunnel_proto::ALPN], Some(&warpgate));
    config.resumption = Resumption::store(Arc::clone(&drawer) as _);
    for _ in 0..2 {
        // The stand-in closes with the length of the chain that was shown: each time anew.
        assert_eq!(quic_end(&rig, config.clone(), mezusphere_pki::EDGE_DNS_NAME).await, Ok(2));
        let stream = TcpStream::connect(rig.address).await.unwrap();
        let name = ServerName::try_from(mezusphere_pki::EDGE_DNS_NAME).unwrap();
        let connector = TlsConnector::from(Arc::new(config.clone()));
        let mut stream = connector.connect(name, stream).await.unwrap();
        assert_ne!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        // Its end, with or without a word of TLS's own; tickets would have come before.
        drop(timeout(SOON, stream.read_to_end(&mut Vec::new())).await.expect("it was kept"));
    }
    assert_eq!(*drawer.tickets.borrow(), 0);
    rig.end().await;
}
