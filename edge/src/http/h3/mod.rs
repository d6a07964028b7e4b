//! HTTP/3 (RFC 9114), on the `h3` crate over our own adapter (`quic`) and behind a [`gate`].
//!
//! h3 0.0.8 knows no WebSocket over HTTP/3, so extended CONNECT is not advertised: browsers use h1 or h2 for
//! those. Requests of a connection run inside the connection's task, as on h2.

pub mod gate;

mod body;
mod quic;
mod stream;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h3::error::ConnectionError;
use tokio::time::{Sleep, sleep, timeout};
use tracing::{debug, error};

use self::stream::Ended;
use super::flood::Flood;
use super::{ConnectionInfo, Handle, Service};
use crate::config::REQUEST_HEAD_READ_MAX;

/// Round trips between telling a client that the edge leaves and leaving: requests already on their way arrive,
/// and are told to go elsewhere.
const LEAVE_ROUND_TRIPS: u32 = 3;

/// `H3_EXCESSIVE_LOAD` (RFC 9114 §8.1).
const EXCESSIVE_LOAD: quinn::VarInt = quinn::VarInt::from_u32(0x107);

/// Serves one connection until it ends; on drain, until its open requests are answered.
pub async fn serve<H: Handle>(connection: quinn::Connection, service: Arc<Service<H>>, info: ConnectionInfo) {
    let _client = service.drain.client();
    if let Err(error) = drive(&connection, &service, &info).await
        && !error.is_h3_no_error()
    {
        debug!(%error, "An HTTP/3 connection broke");
    }
}

async fn drive<H: Handle>(
    connection: &quinn::Connection,
    service: &Service<H>,
    info: &ConnectionInfo,
) -> Result<(), ConnectionError> {
    let flood = Arc::new(Flood::new());
    let (adapter, accepted) = quic::Connection::new(connection.clone(), Arc::clone(&flood));
    let mut builder = h3::server::builder();
    builder.max_field_section_size(REQUEST_HEAD_READ_MAX as u64);
    let Ok(h3) = timeout(service.limits.handshake, builder.build(adapter)).await else { return Ok(()) };
    let mut h3 = h3?;
    let begin =
        |(resolver, handle)| AssertUnwindSafe(stream::serve(resolver, handle, service, info)).catch_unwind();
    let mut exchanges: FuturesUnordered<_> = std::iter::empty().map(&begin).collect();
    let mut draining = service.drain.draining();
    // Set when the client was told that the edge leaves.
    let mut leave_at: Option<Pin<Box<Sleep>>> = None;
    loop {
        tokio::select! {
            biased;
            Some(end) = exchanges.next() => {
                match end {
                    Ok(Ended::Answered) => flood.useful(1),
                    Ok(Ended::GivenUp) => flood.given_up(),
                    Err(_) => error!("A request's task panicked"),
                }
                if flood.is_over() {
                    debug!("An HTTP/3 client floods");
                    connection.close(EXCESSIVE_LOAD, b"flood");
                    break;
                }
            }
            resolver = h3.accept() => {
                let Some(resolver) = resolver? else { break };
                let Some(handle) = accepted.take() else { continue };
                exchanges.push(begin((resolver, handle)));
            }
            () = &mut draining, if leave_at.is_none() => {
                // The first stream that is not served: all that were accepted are.
                h3.shutdown(1).await?;
                leave_at = Some(Box::pin(sleep(connection.rtt() * LEAVE_ROUND_TRIPS)));
            }
            () = maybe(leave_at.as_mut()), if exchanges.is_empty() => break,
        }
    }
    // The client has left with answers outstanding.
    while exchanges.next().await.is_some() {}
    Ok(())
}

async fn maybe(timer: Option<&mut Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.as_mut().await,
        None => std::future::pending().await,
    }
}
