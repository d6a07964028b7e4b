//! The fifth stage: a permitted request goes through a tunnel, and its response comes back.
//!
//! Here is what is decided about it: which tunnel, with which identity, and whether a failed attempt may be made again.
//! [`exchange`] makes one attempt; [`source`] and [`upload`] carry the request's body, [`reader`] and [`download`] the
//! response's, and [`traffic`] lets both go on at once; [`guard`] ends an exchange whose caller may not have it any more.
//! A switch of protocols is an exchange whose bodies begin with the 101.

mod download;
mod exchange;
mod guard;
mod reader;
mod source;
mod traffic;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ALT_SVC, CONTENT_LENGTH, EXPECT, SET_COOKIE};
use ::http::{HeaderMap, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use mezusphere_model::Platform;
use mezusphere_model::id::WarpgateId;
use mezusphere_model::route::RouteTimeouts;
use tokio::time::Instant;
use tunnel_proto::codes::FailureCode;
use tunnel_proto::exchange::{Encoder, IdentityRef, RequestHead, ResponseHead, Scheme};

use self::exchange::{Answered, Failed, Terms};
use self::guard::{CLOSE_WITHIN, Guard, Stalled};
use self::source::Source;
use super::ServerParts;
use super::authenticate::Authenticated;
use super::authorize::Permitted;
use super::cookie;
use super::inbound::{self, Inbound};
use super::limits::Afforded;
use super::refusal::Refusal;
use crate::http::{Interim, Leash, Upgrade};
use crate::tunnel::{Affinity, Chosen, NoTunnel, Tunnel, Wanted};
use crate::view::assertion::NoAssertion;

pub(crate) use self::download::Download;

/// Attempts at one request, at most: a fleet of which most is about to stop must not be tried one by one.
const ATTEMPTS_MAX: usize = 3;

/// A response on its way back.
pub(crate) struct Forwarded {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its end-to-end fields, stripped.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Download,
    /// The warpgate it came through.
    pub(crate) warpgate: WarpgateId,
    /// Ends it while its client does not read; `None`: all of it is at hand.
    pub(crate) leash: Option<Leash>,
}

/// Sends a permitted request to a warpgate of its environment.
///
/// Cancel safe: dropping the future, or the body it returns, resets the stream, and the upstream's request is cancelled.
pub(crate) async fn send(
    Afforded(permitted): Afforded<'_>,
    parts: &ServerParts,
) -> Result<Forwarded, Refusal> {
    let Permitted { inbound, site, route, sender, .. } = permitted;
    let Inbound { ask, address, mut headers, length, body, extensions, .. } = inbound;
    let (interim, upgrade) = (extensions.get::<Interim>(), extensions.get::<Upgrade>());
    // What a client sends after a switch of protocols is no body: nothing of it leaves before the switch.
    let (mut source, mut switched) = match (body, upgrade) {
        (Some(body), Some(_)) => (None, Some(Box::new(Source::raw(body)))),
        (Some(body), None) => (Some(Box::new(Source::new(body, length))), None),
        (None, _) => (None, None),
    };
    if let Some(interim) = interim.filter(|interim| interim.expects_continue()) {
        source = source.map(|source| Box::new(source.waiting(interim.clone())));
        headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    let has_body = source.is_some();
    let is_websocket = upgrade.is_some_and(Upgrade::is_websocket);
    let mut head = RequestHead {
        request: ask.id,
        route: route.id,
        revision: site.doc.revision,
        client: ask.client,
        scheme: Scheme::Https,
        authority: address.authority.to_string(),
        method: ask.method.clone(),
        target: ask.target().to_owned(),
        headers,
        identity: IdentityRef::None,
        upgrade: upgrade.map(|upgrade| upgrade.protocol().to_owned()),
    };
    let mut guard = Guard::new(
        (&parts.view, &parts.clock),
        sender.as_ref().map(|somebody| &somebody.caller),
        (&site, &route),
        (address.authority.host, address.path),
        (&ask.method, ask.client),
    );
    let until = until(&route.timeouts);
    let mut again = Again::new(ask.method.is_idempotent());
    let affinity = route.affinity.then(|| match &sender {
        Some(somebody) => Affinity::of(&somebody.caller.key()),
        None => Affinity::of(&ask.client),
    });
    loop {
        let chosen = again.choose(parts, &site.doc, &route.upstream, affinity, ask.id.bits()).await?;
        // An upload cannot be sent again once it has gone by, so it does not rely on what the warpgate remembers.
        let in_full = again.in_full || source.as_ref().is_some_and(|source| !source.is_small());
        head.identity = identity(sender.as_ref(), &chosen, &site.doc, in_full, parts).await?;
        let encoded = encode(&head, !has_body && upgrade.is_none())?;
        let terms = Terms {
            timeouts: &route.timeouts,
            until,
            guard: &mut guard,
            interim,
            upgrade: upgrade.is_some(),
            hosts: &parts.hosts,
        };
        match exchange::attempt(&chosen, encoded, source, terms).await {
            Ok(answered) => {
                chosen.answered(!has_body);
                let idle = Duration::from_millis(route.timeouts.idle_ms.into());
                let terms = download::Terms { idle, until, guard: Some(guard), is_websocket };
                return receive(answered, &ask.method, terms, chosen, switched.take(), &parts.hosts);
            }
            Err((failed, rest)) => {
                if failed.blames_the_way() {
                    chosen.failed();
                }
                source = rest;
                let replayable = source.as_mut().map_or(!has_body, |source| source.rewind());
                again.judge(failed, replayable, &chosen, sender.as_ref())?;
            }
        }
    }
}

/// When an exchange that begins now must have ended, if its route says so.
fn until(timeouts: &RouteTimeouts) -> Option<Instant> {
    (timeouts.total_ms > 0).then(|| Instant::now() + Duration::from_millis(timeouts.total_ms.into()))
}

/// What is known of the attempts so far.
struct Again {
    idempotent: bool,
    attempts: usize,
    tried: Vec<Arc<Tunnel>>,
    /// The identity goes in full from now on.
    in_full: bool,
    /// Why the last attempt failed: what is told if there is no other tunnel.
    last: Option<Refusal>,
    /// A tunnel was waited for; once is enough.
    waited: bool,
}

impl Again {
    fn new(idempotent: bool) -> Self {
        Self { idempotent, attempts: 0, tried: Vec::new(), in_full: false, last: None, waited: false }
    }

    async fn choose(
        &mut self,
        parts: &ServerParts,
        site: &mezusphere_model::route::SiteDoc,
        upstream: &mezusphere_model::slug::Slug,
        affinity: Option<Affinity>,
        dice: u128,
    ) -> Result<Chosen, Refusal> {
        // The request's id is random already.
        let dice = u64::try_from(dice & u128::from(u64::MAX)).unwrap_or(0);
        let (project, environment) = (site.project, site.environment);
        let wanted = Wanted { project, environment, upstream, dice, affinity };
        loop {
            let none = match parts.tunnels.choose(&wanted, &self.tried) {
                Ok(chosen) => return Ok(chosen),
                Err(none) => none,
            };
            // Boxed, as all that is rare: the future of an ordinary request stays small.
            if none == NoTunnel::None
                && !std::mem::replace(&mut self.waited, true)
                && Box::pin(parts.tunnels.comes(environment)).await
            {
                continue;
            }
            return Err(self.last.take().unwrap_or(match none {
                NoTunnel::None => Refusal::NoTunnel,
                NoTunnel::OtherUpstreams => Refusal::NoUpstream,
            }));
        }
    }

    /// Decides whether a failed attempt may be followed by another; if not, says what the client is told.
    fn judge(
        &mut self,
        failed: Failed,
        replayable: bool,
        chosen: &Chosen,
        sender: Option<&Authenticated>,
    ) -> Result<(), Refusal> {
        self.attempts += 1;
        let may_try = replayable && self.attempts < ATTEMPTS_MAX;
        match (failed, sender) {
            (Failed::Identity(code), Some(somebody)) => {
                chosen.principals().forget(&somebody.caller.key());
                if code == FailureCode::AssertionInvalid {
                    somebody.caller.assertion.discard();
                }
                if !may_try || std::mem::replace(&mut self.in_full, true) {
                    return Err(Refusal::Warpgate(code));
                }
                Ok(())
            }
            (Failed::Identity(code), None) => Err(Refusal::Warpgate(code)),
            (Failed::NotStarted(refusal), _) if may_try => {
                self.tried.push(Arc::clone(chosen));
                self.last = Some(refusal);
                Ok(())
            }
            (Failed::Unknown(refusal), _) if may_try && self.idempotent => {
                self.tried.push(Arc::clone(chosen));
                self.last = Some(refusal);
                Ok(())
            }
            (Failed::NotStarted(refusal) | Failed::Unknown(refusal) | Failed::Final(refusal), _) => {
                Err(refusal)
            }
        }
    }
}

/// How the request names its sender on this tunnel.
async fn identity(
    sender: Option<&Authenticated>,
    tunnel: &Tunnel,
    site: &mezusphere_model::route::SiteDoc,
    in_full: bool,
    parts: &ServerParts,
) -> Result<IdentityRef, Refusal> {
    let Some(Authenticated { caller, credential }) = sender else { return Ok(IdentityRef::None) };
    let assertion = parts.view.assertions().of(caller, credential, site.environment).await;
    let assertion = assertion.map_err(|why| match why {
        NoAssertion::Away => Refusal::ControlAway,
        NoAssertion::Refused => Refusal::ControlRefused,
    })?;
    Ok(match tunnel.principals().refer(&caller.key(), &assertion.jws) {
        IdentityRef::Known(slot) if in_full => IdentityRef::Full { slot, assertion: assertion.jws.clone() },
        reference => reference,
    })
}

fn encode(head: &RequestHead, end: bool) -> Result<Bytes, Refusal> {
    let mut encoder = Encoder::new();
    encoder.request(head, end).map_err(|_| Refusal::TooLarge)?;
    Ok(encoder.take())
}

/// Makes a response of what the warpgate sent: strips it, and decides whether it has a body. After a 101, that is what
/// the upstream says from then on, and `switched` what the client does.
fn receive(
    answered: Answered,
    method: &Method,
    terms: download::Terms,
    chosen: Chosen,
    switched: Option<Box<Source>>,
    hosts: &Platform,
) -> Result<Forwarded, Refusal> {
    let Answered { head: ResponseHead { status, mut headers }, end, reader, mut upload } = answered;
    strip(&mut headers, hosts);
    let warpgate = chosen.warpgate;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        headers.remove(CONTENT_LENGTH);
        upload.grant(switched);
        // What is switched to may take as long as it likes, so long as something moves.
        let terms = download::Terms { until: None, ..terms };
        let grace = if terms.is_websocket { CLOSE_WITHIN } else { Duration::ZERO };
        let leash = terms.guard.clone().map(|guard| Leash::new(Stalled::new(guard, grace)));
        let body = Download::raw(reader, upload, terms, chosen)?;
        return Ok(Forwarded { status, headers, body, warpgate, leash });
    }
    upload.decline();
    let length = inbound::length(&headers).map_err(|_| Refusal::TunnelProtocol)?;
    let bodyless = *method == Method::HEAD || matches!(status.as_u16(), 204 | 205 | 304);
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
    // A head that promises a body and ends at once would leave the client waiting.
    if end && !bodyless && length.is_some_and(|length| length > 0) {
        return Err(Refusal::TunnelProtocol);
    }
    let body = if end || bodyless {
        Download::none(reader, upload, end, terms)
    } else {
        Download::new(reader, upload, length, terms, chosen)?
    };
    let leash = body.guard().map(|guard| Leash::new(Stalled::new(guard.clone(), Duration::ZERO)));
    Ok(Forwarded { status, headers, body, warpgate, leash })
}

/// Removes from a response what only we may say (R9): hop-by-hop fields, ours in every spelling, cookies that
/// reach beyond the application, and where else the host is served.
fn strip(headers: &mut HeaderMap, hosts: &Platform) {
    tunnel_proto::headers::strip_response(headers);
    headers.remove(ALT_SVC);
    let fine =
        |headers: &HeaderMap| headers.get_all(SET_COOKIE).iter().all(|value| cookie::may_set(value, hosts));
    if headers.contains_key(SET_COOKIE) && !fine(headers) {
        let kept: Vec<_> = headers
            .get_all(SET_COOKIE)
            .iter()
            .filter(|value| cookie::may_set(value, hosts))
            .cloned()
            .collect();
        headers.remove(SET_COOKIE);
        for value in kept {
            headers.append(SET_COOKIE, value);
        }
    }
}
