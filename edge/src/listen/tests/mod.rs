//! The whole port on real sockets with real TLS, in front of a stand-in for the request path.
//!
//! The stand-in answers by path (see [`upstream`]) and counts what reached it; what a listener refuses
//! must never be counted.

mod edge;
mod floods;
mod front;
mod ground;
mod h1;
mod h2;
mod h3;
mod heads;
mod hellos;
mod interim;
mod raw;
mod resume;
mod splice;
mod switching;
mod tls;
mod upstream;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Request, Response};
use bytes::{Bytes, BytesMut};
use mezusphere_model::document::CertificateDoc;
use mezusphere_model::id::{ControlId, EdgeId, EnvironmentId, ProjectId, WarpgateId};
use mezusphere_model::link::{
    AboutEdge, Activity, Answer, ClientAddress, ControlLink, Credential, DenialCount, FoundSession,
    IssuedAssertion, LinkError, RedeemCode, Redeemed, TunnelReport,
};
use mezusphere_model::token::Token;
use mezusphere_model::{Clock, Entropy, Platform};
use mezusphere_pki::lifetime::LEAF_TTL;
use mezusphere_pki::public::PublicTls;
use mezusphere_pki::tls::tunnel_server_config;
use mezusphere_pki::{
    CurrentIdentity, CurrentTrust, Issuing, NodeIdentity, NodeKey, Role, Root, SpiffeName, Trust, TrustDomain,
};
use mezusphere_telemetry::Metrics;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::upstream::Upstream;
use super::admission::Admission;
use super::cid::{Place, PlacedCids};
use super::counters::Counters;
use super::crowd::Crowd;
use super::decide::{ALPN_H1, ALPN_H2, ALPN_H3, Scope};
use super::door::{Door, DoorTls};
use super::drain::Drain;
use super::quic::{self, QuicPort};
use super::select::{QuicConfigs, SelectingServerConfig};
use super::socket::PublicSockets;
use super::splice::Splicer;
use super::tcp::TcpPort;
use super::turns::Turns;
use crate::config::{Limits, PlatformService, Splice, SpliceStream};
use crate::front::{FrontParts, PlatformFront};
use crate::http::{Body, BodyError, ConnectionInfo, Handle as _, Protocol, Service, no_body};
use crate::tls::{Challenges, PublicCertificates};

/// The host of an application.
const HOST: &str = "shop.localhost";

/// A host of the platform.
const LOGIN: &str = "login.mezu.localhost";

/// Longest any test waits for something that must come.
const SOON: Duration = Duration::from_secs(20);

/// A running port.
struct Rig {
    address: SocketAddr,
    /// What requests are for: an application, or behind a split edge the platform.
    host: &'static str,
    drain: Drain,
    upstream: Arc<Upstream>,
    trust: TestTrust,
    endpoint: quinn::Endpoint,
    counters: Arc<Counters>,
    certificates: PublicCertificates,
    /// Octets that the task of a connection on TCP holds before its handshake.
    arriving_len: usize,
}

/// The authorities of a test.
struct TestTrust {
    root: Root,
    issuing: Issuing,
    domain: TrustDomain,
}

impl TestTrust {
    fn new(clock: &Clock) -> Self {
        // One for all, so that two authorities never share a serial number and with it a name.
        static ENTROPY: std::sync::LazyLock<Entropy> = std::sync::LazyLock::new(Entropy::counting);
        let domain = TrustDomain::parse("test.internal").unwrap();
        let root = Root::create(&domain, clock.now(), &ENTROPY).unwrap();
        let issuing = Issuing::create(&root, clock.now(), &ENTROPY).unwrap();
        Self { root, issuing, domain }
    }

    fn identity(&self, role: Role) -> NodeIdentity {
        let key = NodeKey::generate().unwrap();
        let name = SpiffeName { trust_domain: self.domain.clone(), role };
        let leaf = self.issuing.issue(&key.csr_der().unwrap(), &name, now().now(), LEAF_TTL).unwrap();
        NodeIdentity::new(leaf.chain, key).unwrap()
    }

    fn warpgate(&self) -> NodeIdentity {
        self.identity(Role::Warpgate {
            project: ProjectId::from_bits(1),
            environment: EnvironmentId::from_bits(2),
            id: WarpgateId::from_bits(3),
        })
    }

    fn current(&self) -> CurrentTrust {
        CurrentTrust::new(Trust::new(self.domain.clone(), vec![self.root.certificate().clone()], []).unwrap())
    }

    fn public(&self, names: &[&str]) -> CertificateDoc {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let issued = self.issuing.issue_public(&names, now().now(), LEAF_TTL).unwrap();
        CertificateDoc {
            names: issued.names,
            chain_pem: issued.chain_pem,
            key_pem: issued.key_pem.to_string(),
            not_after: issued.not_after,
        }
    }

    fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.certificate().clone()).unwrap();
        roots
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates made here are checked against the real time by rustls"
)]
fn now() -> Clock {
    Clock::new(std::time::SystemTime::now)
}

/// Short waits, so that a test of one ends soon.
fn short() -> Limits {
    Limits {
        client_hello: Duration::from_millis(300),
        handshake: Duration::from_millis(600),
        request_head: Duration::from_millis(300),
        stall: Duration::from_millis(300),
        ..Limits::default()
    }
}

impl Rig {
    fn start() -> Self {
        Self::with(&Limits::default())
    }

    fn with(limits: &Limits) -> Self {
        Self::build(limits, HOST, |_, _| None)
    }

    /// A split edge that passes the platform's connections on to a front.
    fn fronted() -> Self {
        Self::build(&Limits::default(), LOGIN, |trust, upstream| {
            let front = front(trust, upstream, Limits::default(), &[LOGIN]);
            Some(Arc::new(ToFront(front)))
        })
    }

    /// A split edge that passes them on to `splice`.
    fn split(limits: &Limits, splice: impl Splice) -> Self {
        Self::build(limits, LOGIN, |_, _| Some(Arc::new(splice)))
    }

    fn build(
        limits: &Limits,
        host: &'static str,
        splice: impl FnOnce(&TestTrust, &Arc<Upstream>) -> Option<Arc<dyn Splice>>,
    ) -> Self {
        let clock = now();
        let trust = TestTrust::new(&clock);
        let upstream = Arc::new(Upstream::default());
        let splice = splice(&trust, &upstream);
        let scope = if splice.is_some() { Scope::Sites } else { Scope::Whole };
        let platform = Platform::development(8443).unwrap();
        let sockets = PublicSockets::open("127.0.0.1:0".parse().unwrap(), NonZeroUsize::MIN).unwrap();
        let drain = Drain::new();
        let certificates = PublicCertificates::default();
        // The platform's host too where a split edge must not serve it: it would not for want of a certificate.
        certificates.replace(&[trust.public(&[HOST, LOGIN])], clock.now());
        let edge = EdgeId::from_bits(1);
        let identity = CurrentIdentity::new(trust.identity(Role::Edge(edge)));
        let enroll = (scope == Scope::Whole)
            .then(|| CurrentIdentity::new(trust.identity(Role::Control(ControlId::from_bits(1)))));
        let mut tls = DoorTls::new(enroll.as_ref(), &trust.current(), &clock, &Entropy::counting()).unwrap();
        let tunnel =
            tunnel_server_config(&identity, &trust.current(), &clock, &[tunnel_proto::ALPN]).unwrap();
        let tunnel = Arc::new(tunnel);
        tls.tunnel = Some(Arc::clone(&tunnel));
        let configs = QuicConfigs {
            public: PublicTls::new(&clock, &Entropy::counting(), &[ALPN_H3]).unwrap(),
            tunnel: Arc::new(QuicServerConfig::try_from(tunnel).unwrap()),
            connect: tls.connect.clone().map(|tls| Arc::new(QuicServerConfig::try_from(tls).unwrap())),
        };
        let service = Arc::new(Service::new(
            Arc::clone(&upstream),
            limits.clone(),
            Some(platform.port),
            clock.clone(),
            drain.clone(),
        ));
        let counters = Arc::new(Counters::new(&Metrics::new("test")));
        let select = SelectingServerConfig::new(
            configs,
            certificates.clone(),
            platform.clone(),
            scope,
            Arc::clone(&counters),
        );
        let endpoint = quic::endpoint(sockets.udp, select, &[7; 32], || {
            PlacedCids::new(Place::default(), Entropy::counting())
        })
        .unwrap();
        let link: Arc<dyn ControlLink> = Arc::new(EchoLink);
        let quic = Arc::new(QuicPort {
            service: Arc::clone(&service),
            tunnels: ClosesTunnels,
            link: Arc::clone(&link),
            certificates: certificates.clone(),
            admission: Admission::new(limits),
            counters: Arc::clone(&counters),
            limits: limits.clone(),
            drain: drain.clone(),
            waiting: Crowd::new(quic::WAITING_MAX),
            handshakes: Crowd::new(limits.handshakes),
            turns: Turns::new(),
        });
        drain.spawn(quic.accept(endpoint.clone()));
        let splicer =
            splice.map(|splice| Arc::new(Splicer::new(splice, Arc::clone(&counters), limits.clone())));
        let door = Door {
            service,
            scope,
            link,
            certificates: certificates.clone(),
            challenges: Challenges::default(),
            platform,
            tls,
            tunnels: None,
            counters: Arc::clone(&counters),
            clock,
            arriving: Crowd::new(limits.arriving),
            handshakes: Crowd::new(limits.handshakes),
            admission: Admission::new(limits),
            turns: Turns::new(),
            limits: limits.clone(),
        };
        let tcp = Arc::new(TcpPort { door, splicer, drain: drain.clone() });
        let client = sockets.address;
        let arriving_len = future_len(|stream: TcpStream| {
            let port = Arc::clone(&tcp);
            async move { port.serve(stream, client).await }
        }) + future_len(|stream: TcpStream| tcp.door.open(stream, client, Instant::now()));
        for listener in sockets.tcp {
            drain.spawn(Arc::clone(&tcp).accept(listener));
        }
        let address = sockets.address;
        Self { address, host, drain, upstream, trust, endpoint, counters, certificates, arriving_len }
    }

    fn get(&self, path: &str) -> Request<()> {
        Request::get(format!("https://{}{path}", self.host)).body(()).unwrap()
    }

    fn post(&self, path: &str) -> Request<()> {
        Request::post(format!("https://{}{path}", self.host)).body(()).unwrap()
    }

    /// Ends the port and waits for every task of it.
    async fn end(self) {
        self.drain.close();
        self.drain.finished().await;
        quic::close(&self.endpoint).await;
    }
}

/// Octets of the future that `work` makes.
fn future_len<A, F>(_work: impl FnOnce(A) -> F) -> usize {
    size_of::<F>()
}

/// A front that hands requests to `upstream` and holds a certificate for `names`.
fn front(trust: &TestTrust, upstream: &Arc<Upstream>, limits: Limits, names: &[&str]) -> PlatformFront {
    let certificates = PublicCertificates::default();
    certificates.replace(&[trust.public(names)], now().now());
    let parts = FrontParts {
        platform: Platform::development(8443).unwrap(),
        certificates,
        service: platform_service(upstream),
        link: Arc::new(EchoLink),
        identity: CurrentIdentity::new(trust.identity(Role::Control(ControlId::from_bits(1)))),
        trust: trust.current(),
        clock: now(),
        entropy: Entropy::counting(),
        metrics: Metrics::new("test"),
        limits,
    };
    PlatformFront::new(parts).unwrap()
}

/// Control's service, as far as these tests ask it: the stand-in.
fn platform_service(upstream: &Arc<Upstream>) -> PlatformService {
    let upstream = Arc::clone(upstream);
    PlatformService::new(tower::service_fn(move |request: Request<Body>| {
        let upstream = Arc::clone(&upstream);
        async move {
            let ClientAddress(client) = *request.extensions().get().expect("the client's address");
            let info =
                ConnectionInfo { client, protocol: Protocol::H2, sni: None, certificate: Arc::default() };
            Ok(upstream.handle(request, &info).await)
        }
    }))
}

/// Passes connections on to a front in this process.
struct ToFront(PlatformFront);

impl Splice for ToFront {
    fn open(&self, client: SocketAddr, _: SocketAddr) -> Answer<'_, std::io::Result<SpliceStream>> {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let front = self.0.clone();
        tokio::spawn(async move { front.serve(far, client).await });
        Box::pin(async { Ok(Box::new(near) as SpliceStream) })
    }
}

/// Takes tunnels only to say how they got in: closes with what the peer's certificate chain is long.
struct ClosesTunnels;

impl quic::Tunnels for ClosesTunnels {
    async fn accept(&self, connection: quinn::Connection) {
        let chain = connection
            .peer_identity()
            .and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
        connection.close(
            quinn::VarInt::from_u32(u32::try_from(chain.map_or(0, |chain| chain.len())).unwrap()),
            b"",
        );
    }
}

/// Control, as far as the connect protocol needs it: every message comes back.
struct EchoLink;

impl ControlLink for EchoLink {
    fn certify(&self, _: Vec<u8>) -> Answer<'_, Result<Vec<Vec<u8>>, LinkError>> {
        Box::pin(async { Err(LinkError::Away) })
    }

    fn about(&self, _: AboutEdge) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn redeem(&self, _: RedeemCode) -> Answer<'_, Result<Redeemed, LinkError>> {
        Box::pin(async { Err(LinkError::Away) })
    }

    fn find_session(&self, _: Token) -> Answer<'_, Result<Option<FoundSession>, LinkError>> {
        Box::pin(async { Err(LinkError::Away) })
    }

    fn assertion(&self, _: Credential, _: EnvironmentId) -> Answer<'_, Result<IssuedAssertion, LinkError>> {
        Box::pin(async { Err(LinkError::Away) })
    }

    fn sign_out(&self, _: Token) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async { Err(LinkError::Away) })
    }

    fn activity(&self, _: Vec<Activity>) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn denials(&self, _: Vec<DenialCount>) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn tunnel(&self, _: TunnelReport) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn connect(&self, message: Vec<u8>, _: SocketAddr) -> Answer<'_, Result<Vec<u8>, LinkError>> {
        Box::pin(async move { Ok(message) })
    }
}

/// A TLS client configuration that trusts the test's root.
fn client_tls(trust: &TestTrust, alpn: &[&[u8]]) -> rustls::ClientConfig {
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(trust.roots()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

fn field(name: &'static str, value: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from_static(value));
    headers
}
