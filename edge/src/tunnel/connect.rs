//! Relays messages of the connect protocol (enrollment, bundle) to control, unread.
//!
//! One request, one reply, each `u32 length | JSON`. Whoever speaks it has no certificate yet, so everything is
//! bounded: size, time, and how many at once.

use std::net::SocketAddr;
use std::time::Duration;

use mezusphere_model::link::{CONNECT_MESSAGE_LEN_MAX, ControlLink, LinkError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;

/// From the stream's first octet to the request's last.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Largest request, in octets: a certificate request and a key. Replies may be as large as a bundle.
const REQUEST_LEN_MAX: usize = 64 * 1024;

/// How long control may take; issuing a certificate is the slowest it does here.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// How long the client may take to read the reply.
const REPLY_MAX: Duration = Duration::from_secs(30);

/// Relays at once: each is one strangers' question to control.
const RELAYS_MAX: usize = 128;

static RELAYS: Semaphore = Semaphore::const_new(RELAYS_MAX);

/// Why a message was not relayed.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Too many at once.
    #[error("too many messages are being relayed")]
    Busy,
    /// The request did not come whole in time, or the reply was not read in time.
    #[error("the client took too long")]
    Slow,
    /// The request is longer than any can be.
    #[error("a request of {0} octets is too long")]
    TooLong(usize),
    /// Control gave no answer.
    #[error(transparent)]
    Control(#[from] LinkError),
    /// The stream broke.
    #[error("the stream broke: {0}")]
    Stream(#[from] std::io::Error),
}

/// Relays one request that arrives on `recv` to control, and its reply to `send`, which is shut down after it.
///
/// The reply is control's, as it came; on an error nothing is written, and the caller closes the stream.
pub async fn serve_stream<R, W>(
    link: &dyn ControlLink,
    from: SocketAddr,
    mut recv: R,
    mut send: W,
) -> Result<(), RelayError>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let Ok(_place) = RELAYS.try_acquire() else { return Err(RelayError::Busy) };
    let request =
        tokio::time::timeout(REQUEST_MAX, read(&mut recv)).await.map_err(|_| RelayError::Slow)??;
    let answered = tokio::time::timeout(ANSWER_MAX, link.connect(request, from)).await;
    let reply = answered.map_err(|_| LinkError::Away)??;
    let len = u32::try_from(reply.len()).ok().filter(|_| reply.len() <= CONNECT_MESSAGE_LEN_MAX);
    let Some(len) = len else { return Err(RelayError::Control(LinkError::Away)) };
    let written = async {
        send.write_all(&len.to_be_bytes()).await?;
        send.write_all(&reply).await?;
        send.shutdown().await
    };
    Ok(tokio::time::timeout(REPLY_MAX, written).await.map_err(|_| RelayError::Slow)??)
}

async fn read<R: AsyncRead + Unpin + Send>(recv: &mut R) -> Result<Vec<u8>, RelayError> {
    let len = usize::try_from(recv.read_u32().await?).unwrap_or(usize::MAX);
    if len > REQUEST_LEN_MAX {
        return Err(RelayError::TooLong(len));
    }
    let mut request = vec![0; len];
    recv.read_exact(&mut request).await?;
    Ok(request)
}
