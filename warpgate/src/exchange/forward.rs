//! Runs a validated exchange: request to the upstream, response to the edge, both at once, until one of them
//! ends it.

use std::sync::Arc;
use std::time::Duration;

use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::{Failure, FailureCode};

use super::body::RequestBody;
use super::respond::respond;
use super::stream::{FromEdge, StreamEnd, ToEdge};
use super::upload::{Activity, upload};
use super::validate::{BodyLength, Validated};
use mezusphere_model::route::RouteTimeouts;

/// How an exchange ended that did not end well.
#[derive(Debug)]
pub(super) enum Ended {
    /// Nothing of a response was sent: a failure can be.
    Failed(Failure),
    /// A part of the response was sent: only a reset tells that it is not whole.
    Cut(ResetCode),
    /// The edge gave up, or broke the protocol.
    Edge(StreamEnd),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Forwards the exchange to its upstream and the answer to the edge.
///
/// The two directions run side by side, so that a side that only sends and one that only reads cannot block each
/// other. Cancel safe in the sense that the upstream's connection is closed.
pub(super) async fn forward(
    mut validated: Validated,
    from: &mut FromEdge,
    to: &mut ToEdge,
) -> Result<(), Ended> {
    let activity = Activity::new();
    let timeouts = validated.timeouts();
    let length = validated.length();
    let head_max = Duration::from_millis(timeouts.head_ms.into());
    let idle_max = Duration::from_millis(timeouts.idle_ms.into());
    let (parts, body) = match length {
        BodyLength::None => (None, RequestBody::Empty),
        BodyLength::Exactly(_) | BodyLength::Unknown => {
            let (parts, body) = RequestBody::streaming();
            (Some(parts), body)
        }
    };
    let upstream = Arc::clone(validated.upstream());
    let stopped = to.stopped();
    let lease = tokio::select! {
        biased;
        ended = respond(&mut validated, body, to, &activity) => ended?,
        why = upload(from, parts, length, &activity) => return Err(Ended::Edge(why)),
        () = activity.timed_out(head_max, idle_max, total(timeouts)) => return Err(timed_out(&activity, timeouts)),
        why = stopped => return Err(Ended::Edge(why)),
    };
    if length != BodyLength::None {
        // The response is complete. If the request is not, nobody wants the rest of it.
        from.stop(ResetCode::NotNeeded);
    }
    upstream.give_back(lease).await;
    Ok(())
}

/// How long the whole exchange may take; a protocol that it switches to is not counted.
pub(super) fn total(timeouts: RouteTimeouts) -> Option<Duration> {
    (timeouts.total_ms > 0).then(|| Duration::from_millis(timeouts.total_ms.into()))
}

/// The end of an exchange whose time is up.
pub(super) fn timed_out(activity: &Activity, timeouts: RouteTimeouts) -> Ended {
    if activity.is_answered() {
        return Ended::Cut(ResetCode::Timeout);
    }
    let detail = match total(timeouts) {
        Some(total) if activity.elapsed() >= total => format!("not complete within {} ms", total.as_millis()),
        _ => format!("no response head within {} ms", timeouts.head_ms),
    };
    Ended::Failed(Failure { code: FailureCode::UpstreamTimeout, detail, started: true })
}
