//! How much a request may ask for: its body's length, its route's rate, its project's share of the edge.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use mezusphere_model::id::RouteId;
use mezusphere_model::rules::{Rate, RateKey};

use super::ServerParts;
use super::authorize::Permitted;
use super::inbound::{Ask, Inbound};
use super::record::Line;
use super::refusal::Refusal;
use crate::fair::memory::{self, Metered};
use crate::fair::rate::Who;
use crate::fair::share::Full;
use crate::fair::{Fair, network};
use crate::http::{Body, BodyError, BoxError, Upgrade};

/// A permitted request for which there is room.
pub(crate) struct Afforded<'a>(pub(super) Permitted<'a>);

/// Counts a request for its client's network.
pub(crate) fn by_network(ask: &Ask, route: RouteId, rate: Rate, parts: &ServerParts) -> Result<(), Refusal> {
    take(route, Who::Network(network(ask.client)), rate, parts)
}

/// Finds room for a permitted request: within its route's body limit and rate, and its project's share. The place it takes is
/// given back with `line`.
pub(crate) fn afford<'a>(
    mut permitted: Permitted<'a>,
    parts: &ServerParts,
    line: &mut Line,
) -> Result<Afforded<'a>, Refusal> {
    let Permitted { inbound, site, route, sender, .. } = &mut permitted;
    let limits = &route.limits;
    if let Some(max) = limits.body_max
        && inbound.length.is_some_and(|length| length > max)
    {
        return Err(Refusal::BodyTooLarge(max));
    }
    if let Some(rate) = limits.rate {
        match (rate.by, sender) {
            (RateKey::Address, _) => {} // counted before anybody was asked who they are
            (RateKey::Route, _) => take(route.id, Who::Everybody, rate, parts)?,
            (RateKey::Caller, Some(sender)) => {
                take(route.id, Who::Caller(sender.caller.identity.subject), rate, parts)?;
            }
            (RateKey::Caller, None) => by_network(inbound.ask, route.id, rate, parts)?,
        }
    }
    let doc = &site.doc;
    let share = parts.fair.shares.take(doc.project, &doc.quota, inbound.ask.client, parts.clock.now());
    line.hold(share?);
    measure(inbound, limits.body_max, &parts.fair);
    Ok(Afforded(permitted))
}

fn take(route: RouteId, who: Who, rate: Rate, parts: &ServerParts) -> Result<(), Refusal> {
    let taken = parts.fair.rates.take(route, who, rate, parts.clock.now());
    taken.map_err(|wait| Refusal::RateLimited { by: rate.by.as_str(), wait })
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        match full {
            Full::Address => Self::AddressBusy,
            Full::Project(why, wait) => Self::ProjectBusy(why, wait),
            Full::Edge => Self::Overloaded,
        }
    }
}

/// Counts the octets of a body whose length nobody said, and watches a long one. What is sent after a switch of protocols is
/// no body of a request, and has no length.
fn measure(inbound: &mut Inbound<'_>, max: Option<u64>, fair: &Fair) {
    if inbound.length.is_some_and(|length| length <= memory::SMALL_LEN_MAX) {
        return;
    }
    let window = memory::request_held_max(inbound.ask.protocol);
    let is_switch = inbound.extensions.get::<Upgrade>().is_some();
    let max = max.filter(|_| inbound.length.is_none() && !is_switch);
    inbound.body = inbound.body.take().map(|body| {
        let body = match max {
            Some(max) => Body::new(Bounded { body, left: max, max }),
            None => body,
        };
        Body::new(Metered::new(body, window, &fair.ledger))
    });
}

/// A body that breaks off where it becomes too long.
struct Bounded {
    body: Body,
    left: u64,
    max: u64,
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let Some(left) = self.left.checked_sub(len) else {
                return Poll::Ready(Some(Err(BodyError::TooLarge(self.max).into())));
            };
            self.left = left;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
