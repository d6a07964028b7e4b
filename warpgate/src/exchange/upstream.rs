//! HTTP/1.1 to one upstream: connections, one request on one of them, and what went wrong in stable codes.
//!
//! What may be sent twice is decided here and nowhere else: a request of which nothing was sent; and, once, one
//! without a body whose method is idempotent, when a kept connection closed before the response's head, because
//! the upstream may have been closing it at that very moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tunnel_proto::exchange::{Failure, FailureCode, ResponseHead};
use tunnel_proto::limits::INFORMATIONAL_MAX;

use super::body::RequestBody;
use super::pool::{Lease, Pool};
use super::validate::Validated;
use crate::limits::{POOL_FRESH_FOR, POOL_IDLE_FOR, UPSTREAM_BUFFER_LEN_MAX, UPSTREAM_HEAD_LEN_MAX};
use crate::resolve::{ResolveError, resolve};
use crate::upstream::{Place, Target};

/// One declared upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    target: Target,
    pool: Pool,
    /// Why it cannot be reached just now, if it cannot.
    trouble: watch::Sender<Option<Trouble>>,
}

/// Why an upstream cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) code: FailureCode,
    pub(crate) detail: String,
}

/// Informational heads that came and were not passed on yet.
#[derive(Default)]
pub(super) struct Informational {
    heads: Mutex<Vec<ResponseHead>>,
    more: Notify,
}

impl Informational {
    /// Resolves with what came since the last call, at least one. Cancel safe.
    pub(super) async fn next(&self) -> Vec<ResponseHead> {
        loop {
            let heads = self.take();
            if !heads.is_empty() {
                return heads;
            }
            self.more.notified().await;
        }
    }

    /// What came since the last call.
    pub(super) fn take(&self) -> Vec<ResponseHead> {
        std::mem::take(&mut *self.heads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, head: ResponseHead) {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() < usize::try_from(INFORMATIONAL_MAX).unwrap_or(usize::MAX) {
            heads.push(head);
            self.more.notify_one();
        }
    }
}

impl Upstream {
    pub(crate) fn new(target: Target) -> Self {
        Self { target, pool: Pool::default(), trouble: watch::Sender::new(None) }
    }

    /// Sends the request and waits for the head of the final response.
    ///
    /// Cancel safe in the sense that the connection is closed: the upstream sees that nobody waits.
    pub(super) async fn send(
        &self,
        validated: &mut Validated,
        mut body: RequestBody,
        informational: &Arc<Informational>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let may_repeat = validated.method().is_idempotent() && body.is_empty();
        let mut fresh = if may_repeat { POOL_IDLE_FOR } else { POOL_FRESH_FOR };
        let connect_max = Duration::from_millis(validated.timeouts().connect_ms.into());
        let mut headers = validated.take_headers();
        loop {
            let mut lease = match self.pool.take(fresh) {
                Some(lease) => lease,
                None => self.connect(connect_max).await?,
            };
            let repeatable = (lease.reused && may_repeat).then(|| headers.clone());
            let mut request = validated.request(headers, body);
            let sink = Arc::clone(informational);
            hyper::ext::on_informational(&mut request, move |head| {
                sink.push(ResponseHead { status: head.status(), headers: head.headers().clone() });
            });
            match lease.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, lease)),
                Err(mut error) => {
                    if let Some(unsent) = error.take_message() {
                        // A new connection that takes nothing is no stale one: do not dial for ever.
                        if !lease.reused {
                            return Err(failure(&error.into_error(), false));
                        }
                        let (parts, unsent_body) = unsent.into_parts();
                        (headers, body) = (parts.headers, unsent_body);
                        continue;
                    }
                    let error = error.into_error();
                    match repeatable {
                        Some(again) if is_close(&error) => {
                            (headers, body) = (again, RequestBody::Empty);
                            fresh = Duration::ZERO; // on a new connection
                        }
                        _ => return Err(failure(&error, true)),
                    }
                }
            }
        }
    }

    /// Takes back a connection whose response is complete.
    pub(super) async fn give_back(&self, lease: Lease) {
        self.pool.give_back(lease).await;
    }

    pub(super) fn sweep(&self) {
        self.pool.sweep();
    }

    /// Where it is.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Wakes when it can no longer be reached, and when it can again.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    async fn connect(&self, within: Duration) -> Result<Lease, Failure> {
        let opened = self.open(within).await;
        let trouble = match &opened {
            Ok(_) => None,
            Err(failure) => match failure.code {
                FailureCode::UpstreamRefused
                | FailureCode::UpstreamUnresolved
                | FailureCode::UpstreamConnectTimeout => {
                    Some(Trouble { code: failure.code, detail: failure.detail.clone() })
                }
                _ => return opened,
            },
        };
        // The same trouble in other words is no news.
        self.trouble.send_if_modified(|known| {
            let is_news = known.is_some() != trouble.is_some();
            if is_news {
                *known = trouble;
            }
            is_news
        });
        opened
    }

    async fn open(&self, within: Duration) -> Result<Lease, Failure> {
        let unreached = |code, detail: String| Failure { code, detail, started: false };
        let stream = match timeout(within, dial(&self.target)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(DialError::Resolve(why))) => {
                return Err(unreached(FailureCode::UpstreamUnresolved, why.to_string()));
            }
            // This process has as many connections as the system gives it.
            Ok(Err(DialError::Connect(why))) if matches!(why.raw_os_error(), Some(ENFILE | EMFILE)) => {
                return Err(unreached(FailureCode::Overloaded, why.to_string()));
            }
            Ok(Err(DialError::Connect(why))) => {
                return Err(unreached(FailureCode::UpstreamRefused, format!("{}: {why}", self.target)));
            }
            Err(_) => {
                let detail = format!("{}: no connection within {} ms", self.target, within.as_millis());
                return Err(unreached(FailureCode::UpstreamConnectTimeout, detail));
            }
        };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(UPSTREAM_BUFFER_LEN_MAX).max_header_size(UPSTREAM_HEAD_LEN_MAX);
        let (sender, connection) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|why| unreached(FailureCode::UpstreamClosed, why.to_string()))?;
        // Ended by the lease, or by itself when the upstream closes. What ended it is told to the exchange.
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "Upstream connection ended");
            }
        });
        Ok(Lease::new(sender, task.abort_handle()))
    }
}

/// The system, or this process, has no file descriptor left (errno(3)).
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("{0}")]
    Connect(std::io::Error),
}

/// Connects to the first of the target's addresses that answers. The caller limits the time.
pub(crate) async fn dial(target: &Target) -> Result<TcpStream, DialError> {
    let mut last = None;
    let Place::Tcp { host, port } = target.place() else {
        return Err(DialError::Connect(std::io::ErrorKind::Unsupported.into()));
    };
    for address in resolve(host, *port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Heads and small bodies go out at once; bulk fills segments anyway.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "The upstream's socket keeps its delay");
                }
                return Ok(stream);
            }
            Err(why) => last = last.or(Some(why)),
        }
    }
    Err(DialError::Connect(last.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())))
}

/// Whether the upstream closed the connection before a byte of the response.
fn is_close(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_reset(error)
}

fn is_reset(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| {
        matches!(
            io.kind(),
            std::io::ErrorKind::ConnectionReset
                | std::io::ErrorKind::BrokenPipe
                | std::io::ErrorKind::ConnectionAborted
        )
    })
}

fn failure(error: &hyper::Error, started: bool) -> Failure {
    let code = if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        FailureCode::UpstreamMalformed
    } else {
        FailureCode::UpstreamClosed
    };
    Failure { code, detail: describe(error), started }
}

/// An error with its causes: hyper's own words name only the outermost.
fn describe(error: &hyper::Error) -> String {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(why) = source {
        text.push_str(": ");
        text.push_str(&why.to_string());
        source = why.source();
    }
    text
}
