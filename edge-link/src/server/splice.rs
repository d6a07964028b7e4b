//! One splice: the PROXY header, one octet to say that it was taken, then the client's TLS to whoever serves it.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::accept::Accept;
use crate::proxy::{self, ProxyHeader};

/// What control answers a header with. Without it an edge could not tell a control node that took the client from one
/// that refused the edge, and could not try the next one.
pub(crate) const TAKEN: u8 = b'1';

pub(super) async fn serve(port: &Accept, mut stream: TlsStream<TcpStream>, remote: SocketAddr) {
    let begin = async {
        let header = proxy::read(&mut stream).await?;
        stream.write_all(&[TAKEN]).await?;
        stream.flush().await?;
        std::io::Result::Ok(header)
    };
    let client = match timeout(port.limits.proxy_header, begin).await {
        Ok(Ok(ProxyHeader::Proxied { source, .. })) => source,
        Ok(Ok(ProxyHeader::Local)) => remote,
        Ok(Err(why)) => return debug!(%why, %remote, "A splice did not begin"),
        Err(_) => return debug!(%remote, "A splice sent no header in time"),
    };
    port.splices.spliced(Box::new(stream), client).await;
}
