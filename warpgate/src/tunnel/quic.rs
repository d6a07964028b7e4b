//! The way to an edge over QUIC: the handshake at one of its addresses, and whether the network refuses UDP aloud.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use mezusphere_model::bundle::EdgeAddress;
use mezusphere_pki::EDGE_DNS_NAME;
use mezusphere_pki::tls::tunnel_client_config;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::endpoint::transport;
use super::failure::Failure;
use crate::limits::{DIAL_MAX, DIAL_SILENCE_MAX, DIAL_STAGGER};

/// Dials `edge` at all of `addresses`, each a little after the one before, and takes the first that answers; `answered` is
/// called as soon as anybody does, with how long that one took.
pub(super) async fn open(
    shared: &Shared,
    edge: &EdgeAddress,
    addresses: &[SocketAddr],
    answered: &(dyn Fn(Duration) + Sync),
) -> Result<Connection, Failure> {
    let config = client_config(shared, edge)?;
    let mut attempts: FuturesUnordered<_> = (0_u32..)
        .zip(addresses)
        .map(|(nth, address)| {
            let config = &config;
            async move {
                sleep(DIAL_STAGGER.saturating_mul(nth)).await;
                connect(shared, config, *address, answered).await
            }
        })
        .collect();
    let mut told = None;
    while let Some(attempt) = attempts.next().await {
        match attempt {
            // The other attempts are dropped with this, and their connections closed.
            Ok(connection) => return Ok(connection),
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
    answered: &(dyn Fn(Duration) + Sync),
) -> Result<Connection, Option<Failure>> {
    let begun = Instant::now();
    let mut connecting = shared
        .network
        .endpoint
        .connect_with(config.clone(), address, EDGE_DNS_NAME)
        .map_err(|why| Some(Failure::not_dialled(&why)))?;
    // Silence ends the attempt soon; whoever answers gets the time that a slow link needs.
    let heard = timeout(DIAL_SILENCE_MAX, connecting.handshake_data()).await.map(|data| data.map(drop));
    heard.map_err(|_| None)?.map_err(|why| Failure::of_dial(&why))?;
    answered(begun.elapsed());
    let connected = timeout(DIAL_MAX, connecting).await.map_err(|_| None)?;
    connected.map_err(|why| Failure::of_dial(&why))
}

/// Resolves when the network refuses UDP to every one of `addresses` aloud (ICMP, or a rule of this machine's own); never
/// otherwise. QUIC itself must not believe such words, since anybody can send them (RFC 9000 §14.2.1); here they only let
/// TCP be tried sooner.
pub(super) async fn refused(addresses: &[SocketAddr]) {
    join_all(addresses.iter().map(|address| refused_at(*address))).await;
}

async fn refused_at(address: SocketAddr) {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Without a socket nothing can be learnt.
    let Ok(socket) = UdpSocket::bind(any).await else { return std::future::pending().await };
    let asked = async {
        socket.connect(address).await?;
        // No QUIC packet is this short: nobody answers it.
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 1]).await
    };
    if asked.await.is_ok() {
        std::future::pending::<()>().await;
    }
}
