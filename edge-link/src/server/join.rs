//! One join, of an edge that is new or was in before: a message in, a message out, and the connection ends. The peer has
//! shown no certificate.

use std::net::SocketAddr;

use mezusphere_model::link::Answer;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::accept::Accept;
use crate::frame::{self, FrameError};
use crate::join::Answered;
use crate::join::{JoinRefused, JoinReply, JoinRequest, RejoinRequest, refusal};
use crate::limits::JOIN_MESSAGE_LEN_MAX;

/// Serves a new edge.
pub(super) async fn new(port: &Accept, stream: TlsStream<TcpStream>, remote: SocketAddr) {
    serve(port, stream, remote, |request: JoinRequest| port.joins.join(request, remote)).await;
}

/// Serves one that was in before.
pub(super) async fn again(port: &Accept, stream: TlsStream<TcpStream>, remote: SocketAddr) {
    serve(port, stream, remote, |request: RejoinRequest| port.joins.rejoin(request, remote)).await;
}

async fn serve<'a, T: DeserializeOwned>(
    port: &'a Accept,
    mut stream: TlsStream<TcpStream>,
    remote: SocketAddr,
    judge: impl FnOnce(T) -> Answer<'a, Result<JoinReply, JoinRefused>>,
) {
    match timeout(port.limits.join, answer(port, &mut stream, judge)).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => debug!(%why, %remote, "A join was not answered"),
        Err(_) => debug!(%remote, "A join took too long"),
    }
}

async fn answer<'a, T: DeserializeOwned>(
    port: &'a Accept,
    stream: &mut TlsStream<TcpStream>,
    judge: impl FnOnce(T) -> Answer<'a, Result<JoinReply, JoinRefused>>,
) -> Result<(), FrameError> {
    let answered = match frame::read(stream, JOIN_MESSAGE_LEN_MAX).await {
        Ok(request) => match port.joining.try_acquire() {
            Ok(_turn) => match judge(request).await {
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
