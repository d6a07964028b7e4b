//! One join: a message in, a message out, and the connection ends. The peer has shown no certificate.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::accept::Accept;
use crate::frame::{self, FrameError};
use crate::join::Answered;
use crate::join::{JoinRefused, refusal};
use crate::limits::JOIN_MESSAGE_LEN_MAX;

pub(super) async fn serve(port: &Accept, mut stream: TlsStream<TcpStream>, remote: SocketAddr) {
    match timeout(port.limits.join, answer(port, &mut stream, remote)).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => debug!(%why, %remote, "A join was not answered"),
        Err(_) => debug!(%remote, "A join took too long"),
    }
}

async fn answer(
    port: &Accept,
    stream: &mut TlsStream<TcpStream>,
    remote: SocketAddr,
) -> Result<(), FrameError> {
    let answered = match frame::read(stream, JOIN_MESSAGE_LEN_MAX).await {
        Ok(request) => match port.joining.try_acquire() {
            Ok(_turn) => match port.joins.join(request, remote).await {
                Ok(reply) => Answered::Joined(Box::new(reply)),
                Err(refused) => Answered::Refused(refused),
            },
            Err(_) => Answered::Refused(JoinRefused::new(
                refusal::BUSY,
                "This control node answers as many joins as it can at once.",
                "Try again in a moment, with the same token.",
            )),
        },
        Err(FrameError::Malformed(why)) => Answered::Refused(JoinRefused::new(
            refusal::MALFORMED,
            format!("Control cannot read the request to join: {why}."),
            "Run the same version of the program here and on the control node.",
        )),
        Err(why) => return Err(why),
    };
    frame::write(stream, &answered, JOIN_MESSAGE_LEN_MAX).await?;
    stream.shutdown().await?;
    Ok(())
}
