//! Makes a tunnel of a connection: Hello, Welcome, and the proof that an exchange gets through.
//!
//! Only Welcome means connected, because with TLS 1.3 the dialling side is done before the other has judged its
//! certificate; and only a probe that came back means that it works.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::bundle::EdgeAddress;
use mezusphere_model::id::WarpgateId;
use mezusphere_model::slug::Slug;
use mezusphere_pki::{ExpectedRole, Peer, PeerError, Trust, verify_peer};
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::{Hello, SessionEnd, VERSIONS, WarpgateEvent, Welcome};

use super::Shared;
use super::connection::Connection;
use super::control::Control;
use super::failure::Failure;
use super::live::{Live, Notice};
use super::transport::Transport;
use crate::limits::{CLOSE_REASON_WAIT_MAX, INITIAL_RTT, PROOF_MAX};

/// A tunnel that an edge has welcomed.
pub(super) struct Tunnel {
    pub(super) connection: Connection,
    pub(super) control: Control,
    pub(super) welcome: Welcome,
    /// The upstreams that the Hello named.
    pub(super) declared: Arc<[Slug]>,
    /// The earlier end of both sides' certificates: the tunnel does not outlive it.
    pub(super) ends_at: Timestamp,
    chain: Vec<CertificateDer<'static>>,
    edge: EdgeAddress,
}

/// A tunnel through which a probe went.
pub(super) struct Proven {
    pub(super) live: Live,
    pub(super) round_trip: Duration,
}

/// Who dials, as it was before the first handshake: a renewal in between only makes the tunnel end early.
#[derive(Clone, Copy)]
pub(super) struct Caller {
    own_end: Timestamp,
    instance: WarpgateId,
}

impl Caller {
    pub(super) fn now(shared: &Shared) -> Result<Self, Failure> {
        let own_end = shared.identity.get().not_after();
        let instance =
            shared.instance().ok_or_else(|| Failure::setup(&"our certificate is no warpgate's"))?;
        Ok(Self { own_end, instance })
    }
}

impl Tunnel {
    /// Whether the edge is still trusted, by its certificate.
    pub(super) fn judge(&self, trust: &Trust, now: Timestamp) -> Result<Peer, PeerError> {
        verify_peer(&self.chain, trust, now, ExpectedRole::Edge(self.edge.id))
    }

    /// Round-trip time, as far as it is known.
    pub(super) fn rtt(&self) -> Duration {
        self.connection.rtt().or_else(|| self.control.session.rtt()).unwrap_or(INITIAL_RTT)
    }

    /// Ends it and says why.
    pub(super) async fn close(&mut self, code: CloseCode) {
        match (self.connection.transport(), code) {
            // Nobody listens.
            (Transport::Tcp, CloseCode::Silent) => {}
            (Transport::Tcp, code) => {
                self.control.say_close(code, CLOSE_REASON_WAIT_MAX).await;
                self.connection.close(code).await;
            }
            (Transport::Quic, code) => self.connection.close(code).await,
        }
    }
}

/// Opens the control stream and waits for Welcome; the session limits the time.
pub(super) async fn greet(
    shared: &Shared,
    edge: &EdgeAddress,
    caller: Caller,
    connection: Connection,
) -> Result<Tunnel, Failure> {
    let chain = connection.chain();
    let peer = Peer::read(&chain).map_err(|why| Failure::setup(&why))?;
    let Some((send, receive)) = connection.control().await else {
        return Err(Failure::of_session(&SessionEnd::Left, connection.close_reason().as_ref()));
    };
    let declared = Arc::clone(&shared.gate.offered().borrow());
    let control = Control::new(hello(shared, caller.instance, &declared), send, receive);
    let ends_at = caller.own_end.min(peer.not_after);
    let (welcome, mut control) = match welcomed(control).await {
        Ok(welcomed) => welcomed,
        Err(end) => {
            let failure = why_ended(&connection, &end).await;
            connection.close(end.close_code()).await;
            return Err(failure);
        }
    };
    if welcome.edge != edge.id {
        control.say_close(CloseCode::Protocol, Duration::ZERO).await;
        connection.close(CloseCode::Protocol).await;
        return Err(Failure::other_edge());
    }
    Ok(Tunnel { connection, control, welcome, declared, ends_at, chain, edge: edge.clone() })
}

async fn welcomed(mut control: Control) -> Result<(Welcome, Control), SessionEnd> {
    loop {
        match control.next().await {
            WarpgateEvent::Welcomed(welcome) => return Ok((welcome, control)),
            WarpgateEvent::Ended(end) => return Err(end),
            WarpgateEvent::Bundle(_) | WarpgateEvent::ProbeDone { .. } | WarpgateEvent::Draining { .. } => {}
        }
    }
}

/// Serves exchanges on the tunnel and waits for the first probe to come back through it.
pub(super) async fn prove(tunnel: Tunnel, shared: &Arc<Shared>) -> Result<Proven, Failure> {
    let mut live = Live::start(tunnel, Arc::clone(shared));
    let proving = async {
        loop {
            match live.next().await {
                Notice::Proven(round_trip) => return Ok(round_trip),
                Notice::Doubtful => {}
                Notice::EdgeDrains => return Err(Failure::edge_stops()),
                Notice::Unproven => return Err(Failure::unproven()),
                Notice::Ended(failure) => return Err(failure),
            }
        }
    };
    match timeout(PROOF_MAX, proving).await {
        Ok(Ok(round_trip)) => Ok(Proven { live, round_trip }),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::unproven()),
    }
}

/// Why a control session ended. An edge that has nothing more to say ends the stream first, and says why when it
/// closes the connection a moment later.
pub(super) async fn why_ended(connection: &Connection, end: &SessionEnd) -> Failure {
    if *end == SessionEnd::Left {
        // Without a reason in time, that it left is all there is to tell.
        drop(timeout(CLOSE_REASON_WAIT_MAX, connection.closed()).await);
    }
    Failure::of_session(end, connection.close_reason().as_ref())
}

fn hello(shared: &Shared, instance: WarpgateId, declared: &[Slug]) -> Hello {
    Hello {
        versions: VERSIONS,
        agent: crate::AGENT.to_owned(),
        instance,
        index: 0,
        count: 1,
        upstreams: declared.to_vec(),
        bundle_revision: shared.gate.bundles.current().revision(),
        features: 0,
    }
}
