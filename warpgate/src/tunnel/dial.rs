//! Makes a tunnel: address, QUIC handshake, Hello, Welcome. Only Welcome means connected, because with TLS 1.3 the
//! dialling side is done before the other has judged its certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mezusphere_model::Timestamp;
use mezusphere_model::bundle::EdgeAddress;
use mezusphere_model::id::WarpgateId;
use mezusphere_pki::tls::tunnel_client_config;
use mezusphere_pki::{EDGE_DNS_NAME, ExpectedRole, Peer, PeerError, Trust, verify_peer};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::time::{sleep, timeout};
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::{Hello, SessionEnd, VERSIONS, WarpgateEvent, Welcome};

use super::Shared;
use super::control::Control;
use super::endpoint::transport;
use super::failure::Failure;
use crate::limits::{CLOSE_REASON_WAIT_MAX, DIAL_MAX, DIAL_SILENCE_MAX, DIAL_STAGGER};
use crate::resolve::resolve;

/// A tunnel that an edge has welcomed.
pub(super) struct Tunnel {
    pub(super) connection: Connection,
    pub(super) control: Control,
    pub(super) welcome: Welcome,
    /// The earlier end of both sides' certificates: the tunnel does not outlive it.
    pub(super) ends_at: Timestamp,
    chain: Vec<CertificateDer<'static>>,
    edge: EdgeAddress,
}

impl Tunnel {
    /// Whether the edge is still trusted, by its certificate.
    pub(super) fn judge(&self, trust: &Trust, now: Timestamp) -> Result<Peer, PeerError> {
        verify_peer(&self.chain, trust, now, ExpectedRole::Edge(self.edge.id))
    }
}

/// Dials `edge` at all of its addresses, each a little after the one before, and takes the first that answers.
pub(super) async fn dial(shared: &Shared, edge: &EdgeAddress) -> Result<Tunnel, Failure> {
    let config = client_config(shared, edge)?;
    // Read before the handshake, so that a renewal in between only makes the tunnel end early.
    let own_end = shared.identity.get().not_after();
    let instance = shared.instance().ok_or_else(|| Failure::setup(&"our certificate is no warpgate's"))?;
    let addresses = resolve(&edge.host, edge.port).await?;
    let mut attempts: FuturesUnordered<_> = (0_u32..)
        .zip(addresses)
        .map(|(nth, address)| {
            let config = &config;
            async move {
                sleep(DIAL_STAGGER.saturating_mul(nth)).await;
                connect(shared, config, address).await
            }
        })
        .collect();
    let mut told = None;
    while let Some(attempt) = attempts.next().await {
        match attempt {
            // The other attempts are dropped with this, and their connections closed.
            Ok(connection) => return greet(shared, edge, connection, (own_end, instance)).await,
            // An answer tells more than silence.
            Err(failure) => told = told.or(failure),
        }
    }
    Err(told.unwrap_or_else(|| Failure::no_answer(edge)))
}

fn client_config(shared: &Shared, edge: &EdgeAddress) -> Result<ClientConfig, Failure> {
    let trust = shared.gate.bundles.trust();
    let tls = tunnel_client_config(&shared.identity, trust, edge.id, &shared.clock, &[tunnel_proto::ALPN])
        .map_err(|why| Failure::setup(&why))?;
    let tls = QuicClientConfig::try_from(tls).map_err(|why| Failure::setup(&why))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(transport());
    Ok(config)
}

/// The handshake; `None` if nobody answers.
async fn connect(
    shared: &Shared,
    config: &ClientConfig,
    address: SocketAddr,
) -> Result<Connection, Option<Failure>> {
    let mut connecting = shared
        .network
        .endpoint
        .connect_with(config.clone(), address, EDGE_DNS_NAME)
        .map_err(|why| Some(Failure::not_dialled(&why)))?;
    // Silence ends the attempt soon; whoever answers gets the time that a slow link needs.
    let answered = timeout(DIAL_SILENCE_MAX, connecting.handshake_data()).await.map(|data| data.map(drop));
    answered.map_err(|_| None)?.map_err(|why| Failure::of_dial(&why))?;
    let connected = timeout(DIAL_MAX, connecting).await.map_err(|_| None)?;
    connected.map_err(|why| Failure::of_dial(&why))
}

/// Opens the control stream and waits for Welcome; the session limits the time.
async fn greet(
    shared: &Shared,
    edge: &EdgeAddress,
    connection: Connection,
    (own_end, instance): (Timestamp, WarpgateId),
) -> Result<Tunnel, Failure> {
    let chain = peer_chain(&connection);
    let peer = Peer::read(&chain).map_err(|why| Failure::setup(&why))?;
    let (send, receive) = connection.open_bi().await.map_err(|why| Failure::from(&why))?;
    let mut control = Control::new(hello(shared, instance), send, receive);
    let welcome = loop {
        match control.next().await {
            WarpgateEvent::Welcomed(welcome) => break welcome,
            WarpgateEvent::Ended(end) => {
                let failure = why_ended(&connection, &end).await;
                connection.close(VarInt::from_u32(end.close_code().number()), b"");
                return Err(failure);
            }
            WarpgateEvent::Bundle(_) | WarpgateEvent::ProbeDone { .. } | WarpgateEvent::Draining { .. } => {}
        }
    };
    if welcome.edge != edge.id {
        connection.close(VarInt::from_u32(CloseCode::Protocol.number()), b"");
        return Err(Failure::other_edge());
    }
    let ends_at = own_end.min(peer.not_after);
    Ok(Tunnel { connection, control, welcome, ends_at, chain, edge: edge.clone() })
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

fn hello(shared: &Shared, instance: WarpgateId) -> Hello {
    Hello {
        versions: VERSIONS,
        agent: crate::AGENT.to_owned(),
        instance,
        index: 0,
        count: 1,
        upstreams: shared.upstream_names.clone(),
        bundle_revision: shared.gate.bundles.current().revision(),
        features: 0,
    }
}

fn peer_chain(connection: &Connection) -> Vec<CertificateDer<'static>> {
    let identity = connection.peer_identity();
    identity
        .and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok())
        .map(|chain| *chain)
        .unwrap_or_default()
}
