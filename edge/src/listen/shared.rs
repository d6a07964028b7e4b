//! What an edge's workers share, and what each begins with.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use mezusphere_model::link::ControlLink;
use mezusphere_model::{Clock, Entropy};
use mezusphere_pki::public::PublicTls;
use mezusphere_pki::tls::tunnel_server_config;
use mezusphere_telemetry::Metrics;
use quinn::Endpoint;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::ServerConfig;
use tokio::task::JoinSet;

use super::admission::Admission;
use super::certificates;
use super::cid::{Place, PlacedCids};
use super::counters::Counters;
use super::crowd::Crowd;
use super::decide::{ALPN_H3, Scope};
use super::door::{Door, DoorTls};
use super::drain::Drain;
use super::plain::{self, PlainPort};
use super::quic::{self, QuicPort};
use super::select::{QuicConfigs, SelectingServerConfig};
use super::splice::Splicer;
use super::tcp::TcpPort;
use super::turns::Turns;
use super::worker::End;
use crate::config::{EdgeConfig, EdgeParts, PlatformHosts, StartError};
use crate::fair::Fair;
use crate::http::Service;
use crate::request::{self, ServerParts};
use crate::tls::{Challenges, PublicCertificates};
use crate::tunnel::{self, AcceptorParts, Registry};
use crate::view::View;

/// What all workers share.
pub(super) struct Shared {
    config: EdgeConfig,
    public_port: u16,
    drain: Drain,
    admission: Arc<Admission>,
    /// Connections on TCP whose handshake has not begun.
    arriving: Arc<Crowd>,
    /// Handshakes under way on TCP, and on QUIC: a flood on one leaves the other open.
    handshakes: Arc<Crowd>,
    quic_handshakes: Arc<Crowd>,
    counters: Arc<Counters>,
    certificates: PublicCertificates,
    challenges: Challenges,
    /// How much of the installation ends here.
    scope: Scope,
    /// The way to control for what does not.
    splicer: Option<Arc<Splicer>>,
    tls: Tls,
    link: Arc<dyn ControlLink>,
    clock: Clock,
    entropy: Entropy,
    server: request::Server,
    view: Arc<View>,
    pub(super) tunnels: Arc<Registry>,
    acceptor: tunnel::Acceptor,
}

/// The TLS configurations, each with its own ALPN, certificates and verifier.
struct Tls {
    tcp: DoorTls,
    public_quic: PublicTls,
    connect_quic: Option<Arc<QuicServerConfig>>,
    tunnel_quic: Arc<QuicServerConfig>,
}

impl Tls {
    fn new(parts: &EdgeParts) -> Result<Self, StartError> {
        let EdgeParts { identity, trust, clock, entropy, enroll, .. } = parts;
        let mut tcp = DoorTls::new(enroll.as_ref(), trust, clock, entropy)?;
        let public_quic =
            PublicTls::new(clock, entropy, &[ALPN_H3]).map_err(|error| StartError::tls("public", &error))?;
        let tunnel = tunnel_server_config(identity, trust, clock, &[tunnel_proto::ALPN])
            .map_err(|error| StartError::tls("tunnel", &error))?;
        let tunnel = Arc::new(tunnel);
        tcp.tunnel = Some(Arc::clone(&tunnel));
        Ok(Self {
            public_quic,
            tunnel_quic: quic_config("tunnel", tunnel)?,
            connect_quic: tcp.connect.clone().map(|config| quic_config("connect", config)).transpose()?,
            tcp,
        })
    }
}

fn quic_config(which: &'static str, config: Arc<ServerConfig>) -> Result<Arc<QuicServerConfig>, StartError> {
    QuicServerConfig::try_from(config).map(Arc::new).map_err(|error| StartError::tls(which, &error))
}

impl Shared {
    /// Builds the edge's parts around `parts`. Reads the replica's disk.
    pub(super) fn new(
        config: EdgeConfig,
        parts: EdgeParts,
        public_port: u16,
        drain: Drain,
    ) -> Result<(Arc<Self>, certificates::Follower), StartError> {
        let certificates = PublicCertificates::default();
        let tls = Tls::new(&parts)?;
        let EdgeParts { replica, identity, trust, link, platform, clock, entropy, metrics, enroll: _ } =
            parts;
        let challenges = Challenges::default();
        let followed = certificates::Follower::new(
            Arc::clone(&replica),
            certificates.clone(),
            challenges.clone(),
            clock.clone(),
        );
        let view = View::open(replica, Arc::clone(&link), clock.clone(), config.limits.view.clone());
        let tunnels = Arc::new(Registry::new());
        let acceptor = tunnel::Acceptor::new(AcceptorParts {
            edge: config.id,
            region: config.region.clone(),
            identity,
            trust,
            view: Arc::clone(&view),
            tunnels: Arc::clone(&tunnels),
            clock: clock.clone(),
            drain: drain.clone(),
        });
        let counters = Arc::new(Counters::new(&metrics));
        let arriving = Crowd::new(config.limits.arriving);
        let handshakes = Crowd::new(config.limits.handshakes);
        let quic_handshakes = Crowd::new(config.limits.handshakes);
        measure(&metrics, &arriving, &handshakes, &quic_handshakes);
        let (scope, platform, splicer) = match platform {
            PlatformHosts::Service(service) => (Scope::Whole, Some(service), None),
            PlatformHosts::Splice(splice) => {
                let splicer = Splicer::new(splice, Arc::clone(&counters), config.limits.clone());
                (Scope::Sites, None, Some(Arc::new(splicer)))
            }
        };
        let server = request::Server::new(ServerParts {
            hosts: config.platform.clone(),
            view: Arc::clone(&view),
            tunnels: Arc::clone(&tunnels),
            link: Arc::clone(&link),
            platform,
            clock: clock.clone(),
            entropy: entropy.clone(),
            fair: Arc::new(Fair::new(&config.limits.fair, clock.clone(), &metrics)),
            metrics,
        });
        let shared = Self {
            public_port,
            admission: Admission::new(&config.limits),
            arriving,
            handshakes,
            quic_handshakes,
            counters,
            config,
            drain,
            certificates,
            challenges,
            scope,
            splicer,
            tls,
            link,
            clock,
            entropy,
            server,
            view,
            tunnels,
            acceptor,
        };
        Ok((Arc::new(shared), followed))
    }

    /// What the connections of one worker share.
    fn service(&self) -> Arc<Service<request::Server>> {
        Arc::new(Service::new(
            self.server.clone(),
            self.config.limits.clone(),
            Some(self.public_port),
            self.clock.clone(),
            self.drain.clone(),
        ))
    }

    /// Begins a worker's part: TCP on `listener`, and what `first` adds on worker 0.
    pub(super) fn begin(
        self: Arc<Self>,
        listener: TcpListener,
        first: Option<First>,
    ) -> Result<End, StartError> {
        let (service, turns) = (self.service(), Turns::new());
        let endpoint = first.map(|first| first.begin(&self, &service, &turns)).transpose()?;
        let door = Door {
            service,
            scope: self.scope,
            link: Arc::clone(&self.link),
            certificates: self.certificates.clone(),
            challenges: self.challenges.clone(),
            platform: self.config.platform.clone(),
            tls: self.tls.tcp.clone(),
            tunnels: Some(self.acceptor.clone()),
            counters: Arc::clone(&self.counters),
            clock: self.clock.clone(),
            limits: self.config.limits.clone(),
            arriving: Arc::clone(&self.arriving),
            handshakes: Arc::clone(&self.handshakes),
            admission: Arc::clone(&self.admission),
            turns,
        };
        let port = Arc::new(TcpPort { door, splicer: self.splicer.clone(), drain: self.drain.clone() });
        self.drain.spawn(port.accept(listener));
        Ok(Box::pin(async move {
            if let Some(endpoint) = endpoint {
                quic::close(&endpoint).await;
            }
        }))
    }

    /// Begins the tasks that keep the edge's knowledge fresh and report what it saw.
    pub(super) fn follow(&self, certificates: certificates::Follower) -> End {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.view.follow());
        tasks.spawn(self.server.background());
        tasks.spawn(certificates.run());
        Box::pin(async move { tasks.shutdown().await })
    }
}

/// Shows what is counted anyway. Weak, so that a process's registry keeps no edge alive.
fn measure(metrics: &Metrics, arriving: &Arc<Crowd>, tcp: &Arc<Crowd>, quic: &Arc<Crowd>) {
    let read = |crowd: &Arc<Crowd>| {
        let crowd = Arc::downgrade(crowd);
        move || i64::try_from(crowd.upgrade().map_or(0, |crowd| crowd.held())).unwrap_or(i64::MAX)
    };
    let octets = "Octets that connections on TCP hold whose handshake has not begun";
    metrics.gauge_from("edge_tcp_arriving_octets", octets, read(arriving));
    metrics.gauge_from("edge_tcp_handshakes_under_way", "TLS handshakes on TCP under way", read(tcp));
    metrics.gauge_from("edge_quic_handshakes_under_way", "QUIC handshakes under way", read(quic));
}

/// What only worker 0 is given.
pub(super) struct First {
    pub(super) udp: UdpSocket,
    pub(super) plain: Option<TcpListener>,
}

impl First {
    fn begin(
        self,
        shared: &Shared,
        service: &Arc<Service<request::Server>>,
        turns: &Arc<Turns>,
    ) -> Result<Endpoint, StartError> {
        let configs = QuicConfigs {
            public: shared.tls.public_quic.clone(),
            tunnel: Arc::clone(&shared.tls.tunnel_quic),
            connect: shared.tls.connect_quic.clone(),
        };
        let select = SelectingServerConfig::new(
            configs,
            shared.certificates.clone(),
            shared.config.platform.clone(),
            shared.scope,
            Arc::clone(&shared.counters),
        );
        let entropy = shared.entropy.clone();
        let cids = move || PlacedCids::new(Place::default(), entropy.clone());
        let endpoint = quic::endpoint(self.udp, select, &shared.config.reset_key, cids)?;
        let quic = Arc::new(QuicPort {
            service: Arc::clone(service),
            tunnels: shared.acceptor.clone(),
            link: Arc::clone(&shared.link),
            certificates: shared.certificates.clone(),
            // The two halves of the port count for themselves: a flood on one leaves the other open.
            admission: Admission::new(&shared.config.limits),
            counters: Arc::clone(&shared.counters),
            limits: shared.config.limits.clone(),
            drain: shared.drain.clone(),
            waiting: Crowd::new(quic::WAITING_MAX),
            handshakes: Arc::clone(&shared.quic_handshakes),
            turns: Arc::clone(turns),
        });
        shared.drain.spawn(quic.accept(endpoint.clone()));
        if let Some(listener) = self.plain {
            let plain = Arc::new(PlainPort {
                certificates: shared.certificates.clone(),
                challenges: shared.challenges.clone(),
                platform: shared.config.platform.clone(),
                scope: shared.scope,
                clock: shared.clock.clone(),
                port: shared.public_port,
                connections: Crowd::new(plain::CONNECTIONS_MAX),
                drain: shared.drain.clone(),
            });
            shared.drain.spawn(plain.accept(listener));
        }
        Ok(endpoint)
    }
}
