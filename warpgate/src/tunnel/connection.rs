//! A tunnel's connection, whichever transport carries it.

use std::net::SocketAddr;
use std::time::Duration;

use quinn::{ConnectionError, VarInt};
use rustls_pki_types::CertificateDer;
use tunnel_proto::codes::CloseCode;

use super::http2::Http2;
use super::stream::{QuicSend, RecvHalf, SendHalf};
use super::transport::Transport;

/// A tunnel's connection. Cheap to clone.
#[derive(Clone)]
pub(super) enum Connection {
    Quic(quinn::Connection),
    Http2(Http2),
}

impl Connection {
    pub(super) const fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Quic,
            Self::Http2(_) => Transport::Tcp,
        }
    }

    pub(super) fn remote(&self) -> SocketAddr {
        match self {
            Self::Quic(connection) => connection.remote_address(),
            Self::Http2(connection) => connection.remote(),
        }
    }

    /// What the edge showed.
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        match self {
            Self::Quic(connection) => {
                let identity = connection.peer_identity();
                let chain = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
                chain.map(|chain| *chain).unwrap_or_default()
            }
            Self::Http2(connection) => connection.chain().to_vec(),
        }
    }

    /// The control stream: opened by whoever may open streams. `None` if the connection has ended.
    pub(super) async fn control(&self) -> Option<(SendHalf, RecvHalf)> {
        let (mut send, receive) = match self {
            Self::Quic(connection) => {
                let (send, receive) = connection.open_bi().await.ok()?;
                (SendHalf::Quic(QuicSend::new(send)), RecvHalf::Quic(receive))
            }
            Self::Http2(connection) => connection.accept().await?,
        };
        send.prefer();
        Some((send, receive))
    }

    /// The next stream that the edge opens for an exchange; `None` at the end. Cancel safe.
    pub(super) async fn accept(&self) -> Option<(SendHalf, RecvHalf)> {
        match self {
            Self::Quic(connection) => {
                let (send, receive) = connection.accept_bi().await.ok()?;
                Some((SendHalf::Quic(QuicSend::new(send)), RecvHalf::Quic(receive)))
            }
            Self::Http2(connection) => connection.accept().await,
        }
    }

    /// Allows this many exchanges at once from now on.
    pub(super) fn allow(&self, exchanges: u32) {
        // HTTP/2 allows the most from the start: a stream costs nothing there until it is opened.
        if let Self::Quic(connection) = self {
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(exchanges));
        }
    }

    /// Round-trip time, if the transport measures it.
    pub(super) fn rtt(&self) -> Option<Duration> {
        match self {
            Self::Quic(connection) => Some(connection.rtt()),
            Self::Http2(_) => None,
        }
    }

    /// Grows while the edge is there, whatever it has to say: with every packet that came, proven to be from it.
    pub(super) fn heard(&self) -> u64 {
        match self {
            Self::Quic(connection) => connection.stats().udp_rx.datagrams,
            Self::Http2(connection) => connection.progress(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Quic(connection) => connection.close_reason().is_some(),
            Self::Http2(connection) => connection.has_ended(),
        }
    }

    /// Why it is over, where the transport can say so.
    pub(super) fn close_reason(&self) -> Option<ConnectionError> {
        match self {
            Self::Quic(connection) => connection.close_reason(),
            Self::Http2(_) => None,
        }
    }

    /// Resolves when it is over. Cancel safe.
    pub(super) async fn closed(&self) {
        match self {
            Self::Quic(connection) => drop(connection.closed().await),
            Self::Http2(connection) => connection.ended().await,
        }
    }

    /// Ends it. Over TCP the reason was said on the control stream, and what was written leaves first.
    pub(super) async fn close(&self, code: CloseCode) {
        match self {
            Self::Quic(connection) => connection.close(VarInt::from_u32(code.number()), b""),
            Self::Http2(connection) => connection.leave().await,
        }
    }
}
