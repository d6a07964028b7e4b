//! The way of one exchange through the warpgate.
//!
//! ```text
//! stream      frames in and out of one stream of a tunnel
//! validate    head → Validated: bundle, route, policy, caller, upstream, all decided again
//! principal   who the caller is: assertions verified once per slot
//! rules       what the route's rules change
//! forward     Validated → upstream → response, both bodies streaming, each at its own pace
//! upload      the request body's way        respond   the response's way
//! upgrade     exchanges that switch to another protocol
//! upstream    one upstream                  dial      connections to it
//! h1, h2      what is spoken on them        pool      idle ones of HTTP/1.1
//! gate        all upstreams                 health    which of them are well
//! ```
//!
//! Nothing is buffered beyond named windows; nothing that was cut looks complete; when the client goes,
//! the upstream's connection is closed. An exchange is one task: a panic in it ends this one only.

mod answer;
mod body;
mod counts;
mod dial;
mod forward;
mod gate;
mod h1;
mod h2;
mod health;
mod informational;
mod pool;
mod principal;
mod probe;
mod propagate;
mod respond;
mod rules;
mod running;
mod stream;
mod upgrade;
mod upload;
mod upstream;
mod validate;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::debug;
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::{Encoder, Event, Failure, FailureCode, RequestHead};

pub use gate::{Gate, HealthTable, Redeclared};
pub(crate) use health::keep_checking;
pub(crate) use probe::probe;
pub use probe::{Probed, Reached, reach_all};
pub(crate) use running::{Counted, Running};
pub(crate) use upstream::{Trouble, Upstream};

use crate::limits::{DRAIN_FLUSH_MAX, HEAD_MAX};
use crate::tunnel::{RecvHalf, SendHalf};
use forward::Ended;
use principal::Principals;
use stream::{FromEdge, StreamEnd, ToEdge};

/// What the exchanges of one tunnel share. Dies with it.
pub(crate) struct TunnelExchanges {
    pub(crate) running: Running,
    principals: Principals,
}

impl TunnelExchanges {
    /// For a new tunnel; slots to acknowledge go to `acknowledge`.
    pub(crate) fn new(acknowledge: mpsc::Sender<u64>) -> Self {
        Self { running: Running::default(), principals: Principals::new(acknowledge) }
    }
}

/// Why an exchange does not reach an upstream. Nothing was sent there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: FailureCode,
    pub(crate) detail: String,
}

impl Refused {
    pub(crate) fn new(code: FailureCode, detail: String) -> Self {
        Self { code, detail }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self { code: refused.code, detail: refused.detail, started: false }
    }
}

/// Serves one stream that an edge opened, from its first frame to its end.
pub(crate) async fn serve(
    gate: Arc<Gate>,
    tunnel: Arc<TunnelExchanges>,
    counted: Counted,
    (send, receive): (SendHalf, RecvHalf),
) {
    let mut from = FromEdge::new(receive);
    let mut to = ToEdge::new(send);
    let _counted = (gate.running.enter(), counted);
    let first = match timeout(HEAD_MAX, from.next()).await {
        Ok(Ok(first)) => first,
        Ok(Err(why)) => {
            debug!(%why, "Exchange did not begin");
            return abort(&mut from, &mut to, ResetCode::Protocol);
        }
        Err(_) => return abort(&mut from, &mut to, ResetCode::Timeout),
    };
    match first {
        Some(Event::Request { head, end }) => {
            exchange(&gate, &tunnel.principals, *head, end, &mut from, &mut to).await;
        }
        Some(Event::Probe { nonce }) => {
            to.encoder.probe_reply(nonce);
            if to.finish().await.is_err() {
                debug!("A probe was not answered: the edge is gone");
            }
        }
        _ => return abort(&mut from, &mut to, ResetCode::Protocol),
    }
    if tunnel.running.is_draining() {
        // The connection is about to be closed, which would throw away what is not acknowledged yet.
        to.delivered(DRAIN_FLUSH_MAX).await;
    }
}

async fn exchange(
    gate: &Gate,
    principals: &Principals,
    head: RequestHead,
    end: bool,
    from: &mut FromEdge,
    to: &mut ToEdge,
) {
    let id = head.request;
    gate.counts.came();
    let validated = if gate.is_closed() {
        Err(Refused::new(FailureCode::Draining, "this warpgate is stopping".to_owned()))
    } else {
        validate::validate(head, end, gate, principals).await
    };
    let ended = match validated {
        Ok(validated) => {
            let upstream = Arc::clone(validated.upstream());
            let ended = match validated.upgrade() {
                None => forward::forward(validated, from, to).await,
                Some(protocol) => {
                    let protocol = protocol.to_owned();
                    // Apart, so that an ordinary exchange's task is no larger for it.
                    Box::pin(upgrade::forward(validated, &protocol, &gate.entropy, from, to)).await
                }
            };
            if let Err(Ended::Failed(failure)) = &ended
                && failure.code == FailureCode::UpstreamMalformed
            {
                upstream.complain(failure);
            }
            ended
        }
        Err(refused) => Err(Ended::Failed(refused.into())),
    };
    match ended {
        Ok(()) => {}
        Err(Ended::Failed(failure)) => {
            debug!(request = %id, code = %failure.code, detail = failure.detail, "Exchange failed");
            gate.counts.failed_one();
            from.stop(ResetCode::NotNeeded);
            to.encoder = Encoder::new();
            to.encoder.failure(&failure);
            if to.finish().await.is_err() {
                debug!(request = %id, "The failure reached nobody");
            }
        }
        Err(Ended::Cut(code)) => {
            debug!(request = %id, %code, "Exchange cut");
            gate.counts.failed_one();
            abort(from, to, code);
        }
        Err(Ended::Edge(why)) => {
            debug!(request = %id, %why, "Exchange given up");
            let code = match why {
                StreamEnd::Stopped(_) | StreamEnd::Lost => ResetCode::NotNeeded,
                StreamEnd::Malformed(_) | StreamEnd::Truncated => ResetCode::Protocol,
            };
            abort(from, to, code);
        }
    }
}

fn abort(from: &mut FromEdge, to: &mut ToEdge, code: ResetCode) {
    from.stop(code);
    to.reset(code);
}

/// No more bytes: what [`ToEdge::flush`] takes when only frames are to go out.
const NOTHING: Bytes = Bytes::new();
