//! What carries a tunnel: a QUIC connection, or HTTP/2 over TCP where UDP does not pass.
//!
//! Everything above speaks in streams ([`super::stream`]) and does not ask which it is, but for one thing: how the end of
//! the tunnel is told.

use std::net::SocketAddr;

use mezusphere_model::link::TunnelTransport;
use quinn::VarInt;
use tunnel_proto::codes::CloseCode;

use super::stream::{RecvHalf, SendEnd, SendHalf};
use super::tcp::TcpTransport;

/// Octets that may be on their way to the edge on one tunnel. Never to be reached: what bounds memory is each
/// stream's own window and the stall limit, so that one stalled reader does not hold up the others.
const RECEIVE_WINDOW: u32 = 1024 * 1024 * 1024;

/// Octets sent and not acknowledged on one tunnel.
const SEND_WINDOW: u64 = 64 * 1024 * 1024;

/// Streams a warpgate may have open towards the edge over QUIC: the control stream.
const WARPGATE_STREAMS_MAX: u32 = 1;

/// Priority of the control stream over QUIC; exchanges have 0.
const CONTROL_PRIORITY: i32 = 1;

/// The connection of one tunnel. Clones are the same one.
#[derive(Clone)]
pub(crate) enum Transport {
    /// QUIC, the rule.
    Quic(quinn::Connection),
    /// HTTP/2 over TLS over TCP.
    Tcp(TcpTransport),
}

impl Transport {
    /// Which of the two.
    pub(super) const fn kind(&self) -> TunnelTransport {
        match self {
            Self::Quic(_) => TunnelTransport::Quic,
            Self::Tcp(_) => TunnelTransport::Tcp,
        }
    }

    /// From where the warpgate dialled.
    pub(super) fn remote_address(&self) -> SocketAddr {
        match self {
            Self::Quic(connection) => connection.remote_address(),
            Self::Tcp(tcp) => tcp.remote_address(),
        }
    }

    /// The control stream. To be asked for once, before all others.
    pub(super) async fn control(&self) -> Result<(SendHalf, RecvHalf), SendEnd> {
        match self {
            Self::Quic(connection) => {
                let (send, recv) = connection.accept_bi().await.map_err(|_| SendEnd::Lost)?;
                // What is said of the tunnel does not wait behind bodies. Fails if the stream is over already.
                drop(send.set_priority(CONTROL_PRIORITY));
                Ok((SendHalf::Quic(send), RecvHalf::Quic(recv)))
            }
            Self::Tcp(tcp) => tcp.control().await,
        }
    }

    /// Resolves when the warpgate opens a stream beside its control stream, which it has no business to. A stranger's
    /// handshake was granted as many as a browser's, so [`Transport::admit`] comes too late for them. Over TCP it has
    /// no means to open any.
    pub(super) async fn uninvited(&self) {
        if let Self::Quic(connection) = self {
            let opened = tokio::select! {
                opened = connection.accept_bi() => opened.is_ok(),
                opened = connection.accept_uni() => opened.is_ok(),
            };
            if opened {
                return;
            }
        }
        // The end of the connection is seen on the control stream.
        std::future::pending::<()>().await;
    }

    /// A stream for an exchange; waits while the warpgate takes no more.
    pub(super) async fn open(&self) -> Result<(SendHalf, RecvHalf), SendEnd> {
        match self {
            Self::Quic(connection) => {
                let (send, recv) = connection.open_bi().await.map_err(|_| SendEnd::Lost)?;
                Ok((SendHalf::Quic(send), RecvHalf::Quic(recv)))
            }
            Self::Tcp(tcp) => tcp.open().await,
        }
    }

    /// A number that grows whenever something comes from the warpgate: packets, or octets over TCP.
    pub(super) fn heard(&self) -> u64 {
        match self {
            Self::Quic(connection) => connection.stats().udp_rx.datagrams,
            Self::Tcp(tcp) => tcp.heard(),
        }
    }

    /// The warpgate is known now: it may have what a stranger may not. Over TCP there are no strangers, and all of it was
    /// granted at the beginning.
    pub(super) fn admit(&self) {
        if let Self::Quic(connection) = self {
            connection.set_receive_window(VarInt::from_u32(RECEIVE_WINDOW));
            connection.set_send_window(SEND_WINDOW);
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(WARPGATE_STREAMS_MAX));
            connection.set_max_concurrent_uni_streams(VarInt::from_u32(0));
        }
    }

    /// Whether [`Transport::close`] tells the peer why. If not, the control stream has to.
    pub(super) const fn tells_why(&self) -> bool {
        matches!(self, Self::Quic(_))
    }

    /// Closes the connection; every stream of it is lost. A second call changes nothing.
    pub(super) fn close(&self, code: CloseCode) {
        match self {
            Self::Quic(connection) => {
                connection.close(VarInt::from_u32(code.number()), code.name().as_bytes());
            }
            Self::Tcp(tcp) => tcp.close(),
        }
    }
}
