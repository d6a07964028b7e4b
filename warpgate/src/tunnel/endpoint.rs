//! The one UDP socket of the process, and the transport settings of what runs over it (design §4 and §5).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mezusphere_udp::Packets;
use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TokioRuntime, TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Instant;
use tracing::info;
use tunnel_proto::limits::{EXCHANGES_FIRST, STREAM_WINDOW};

use super::proxy::ProxySettings;
use crate::limits::{
    INITIAL_RTT, REBIND_AFTER, REBIND_PAUSE, SOCKET_BUFFER_LEN, TUNNEL_IDLE_MAX, TUNNEL_KEEP_ALIVE,
    TUNNEL_SEND_WINDOW, TUNNEL_WINDOW,
};

/// The socket, and what the system granted it.
#[derive(Clone, Debug)]
pub struct Network {
    /// What everything is dialled from.
    pub endpoint: Endpoint,
    /// Its receive buffer, in octets.
    pub receive_buffer: usize,
    /// Its send buffer, in octets.
    pub send_buffer: usize,
    /// How TCP gets out of this network.
    pub proxy: ProxySettings,
    /// What was learnt of UDP here.
    pub air: Air,
}

/// What is known of UDP on this machine, from all that is done over it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Air(Arc<Mutex<Learnt>>);

#[derive(Debug, Default)]
struct Learnt {
    /// When any tunnel last got a packet.
    heard: Option<Instant>,
    /// When the socket was last replaced.
    rebound: Option<Instant>,
    /// Somebody dialled and got no answer, and nobody has since.
    is_silent: bool,
}

impl Network {
    /// Opens the socket, for both IPv6 and IPv4 where the system has both.
    ///
    /// # Errors
    /// What the system says; there is nothing to fall back to.
    pub fn open() -> io::Result<Self> {
        let socket = socket()?;
        // Linux counts its own bookkeeping too and reports twice what it granted (socket(7)).
        let granted = |reported: usize| if cfg!(target_os = "linux") { reported / 2 } else { reported };
        let receive_buffer = granted(socket.recv_buffer_size()?);
        let send_buffer = granted(socket.send_buffer_size()?);
        let (packets, runtime) = (Arc::new(Packets::new(socket.into())?), Arc::new(TokioRuntime));
        let endpoint = Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, packets, runtime)?;
        let (proxy, air) = (ProxySettings::default(), Air::default());
        Ok(Self { endpoint, receive_buffer, send_buffer, proxy, air })
    }

    /// A packet came over UDP just now.
    pub(crate) fn heard(&self, now: Instant) {
        let mut air = self.air();
        air.heard = Some(now);
        air.is_silent = false;
    }

    /// Nobody answered over UDP.
    pub(crate) fn unheard(&self) {
        self.air().is_silent = true;
    }

    /// Whether the last dial over UDP got no answer, so that the next one should not wait long for one.
    pub(super) fn is_udp_silent(&self) -> bool {
        self.air().is_silent
    }

    /// Moves all connections to a fresh socket, if no tunnel at all hears anything: a NAT that forgot this socket's port, or
    /// a network that was left, answers nothing there ever again, and QUIC's connections outlive a change of address.
    /// Where others are heard it is their edge that is silent, and they are left in peace.
    pub(super) fn rebind_if_silent(&self, now: Instant) {
        let mut air = self.air();
        let lately = |time: Option<Instant>, pause| time.is_some_and(|time| now.duration_since(time) < pause);
        if lately(air.heard, REBIND_AFTER) || lately(air.rebound, REBIND_PAUSE) {
            return;
        }
        air.rebound = Some(now);
        let fresh = || Ok::<_, io::Error>(Arc::new(Packets::new(socket()?.into())?));
        match fresh().and_then(|packets| self.endpoint.rebind_abstract(packets)) {
            Ok(()) => info!("Nothing is heard over UDP; going on from a fresh socket"),
            Err(error) => info!(%error, "Nothing is heard over UDP, and there is no fresh socket"),
        }
    }

    fn air(&self) -> MutexGuard<'_, Learnt> {
        self.air.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do if the buffers are smaller than asked for.
    pub fn advice(&self) -> Option<String> {
        let small = self.receive_buffer < SOCKET_BUFFER_LEN || self.send_buffer < SOCKET_BUFFER_LEN;
        small.then(|| {
            format!(
                "Run: sysctl -w net.core.rmem_max={SOCKET_BUFFER_LEN} net.core.wmem_max={SOCKET_BUFFER_LEN}"
            )
        })
    }
}

/// A UDP socket of any port, for both IPv6 and IPv4 where the system has both.
fn socket() -> io::Result<Socket> {
    bind(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into())
        .or_else(|_| bind(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into()))
}

fn bind(domain: Domain, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    // The system grants what it allows; `advice` tells if that is less.
    socket.set_recv_buffer_size(SOCKET_BUFFER_LEN)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_LEN)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// How a tunnel's connection behaves. QUIC takes the shorter idle time of both sides, and this is it.
pub(super) fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(TUNNEL_IDLE_MAX).ok())
        .initial_rtt(INITIAL_RTT)
        .keep_alive_interval(Some(TUNNEL_KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(EXCHANGES_FIRST))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(TUNNEL_WINDOW))
        .send_window(TUNNEL_SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(Some(MtuDiscoveryConfig::default()));
    Arc::new(transport)
}
