//! The fourth stage: may they. `model::policy::decide` says; nothing else makes a [`Permitted`] (R1).

use std::sync::Arc;

use ::http::header::ORIGIN;
use mezusphere_model::link::Credential;
use mezusphere_model::policy::{Circumstances, Denial, Permit, decide};
use mezusphere_model::route::{AuthMode, RouteDoc, Site};
use mezusphere_model::{Clock, Entropy, Platform};

use super::authenticate::{Authenticated, Identified};
use super::inbound::Inbound;
use super::refusal::{Refusal, SignInWay, SignInWhy, StepUpWay};
use super::route::Routed;
use super::sign_in;
use crate::http::Upgrade;

/// A request that may be forwarded.
pub(crate) struct Permitted<'a> {
    /// The request.
    pub(crate) inbound: Inbound<'a>,
    /// What is published under its host.
    pub(crate) site: Arc<Site>,
    /// Its route.
    pub(crate) route: Arc<RouteDoc>,
    /// Who sends it, if the route lets identities through.
    pub(crate) sender: Option<Authenticated>,
    /// The policy's word. Private: a `Permitted` is made here and nowhere else.
    permit: Permit,
}

impl Permitted<'_> {
    /// What the route's dry run would have refused it for.
    pub(crate) fn would_deny(&self) -> Option<&Denial> {
        self.permit.would_deny()
    }
}

/// Asks the policy.
pub(crate) fn permit<'a>(
    identified: Identified<'a>,
    hosts: &Platform,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Permitted<'a>, Refusal> {
    let Identified { routed: Routed { inbound, site, route }, sender } = identified;
    let identity = sender.as_ref().ok().map(|somebody| &somebody.caller.identity);
    let circumstances = Circumstances { client: inbound.ask.client, now: clock.now() };
    match (decide(&route, identity, &circumstances), sender) {
        (Ok(permit), sender) => {
            may_switch(&inbound, &route, sender.as_ref().ok())?;
            let sender = sender.ok().filter(|_| permit.forwards_identity());
            Ok(Permitted { inbound, site, route, sender, permit })
        }
        (Err(Denial::SignInRequired), sender) => Err(sign_in_first(inbound, sender.err(), hosts, entropy)),
        (Err(Denial::TooNew), _) => Err(Refusal::TooNew),
        (Err(denial), Ok(somebody)) => Err(match somebody.caller.identity.session {
            // Whoever has no session has nowhere to sign in: a key is as strong as it will ever be.
            Some(session) if denial.is_of_sign_in() => {
                let is_again = inbound.cookies.step_up.as_ref().is_some_and(|before| **before != session);
                let account = somebody.caller.account().into();
                let way = sign_in::again(way(inbound, hosts, entropy), route.step_up);
                let way = StepUpWay { way, needs: route.step_up, account, session, is_again };
                Refusal::StepUp(denial, Box::new(way))
            }
            _ => Refusal::Denied(denial, Some(somebody.caller.account().into())),
        }),
        (Err(denial @ Denial::Network), Err(_)) => Err(Refusal::Denied(denial, None)),
        // Other demands are made of identities only; a policy that makes one of nobody means: sign in.
        (Err(_), Err(why)) => Err(sign_in_first(inbound, Some(why), hosts, entropy)),
    }
}

/// Refuses a switch of protocols that a page of another site asked for (R16): browsers send cookies with a WebSocket's handshake
/// whoever asks for it, and let any page read it. A request without an origin comes from no browser; a session, which only a
/// browser has, does not come along with it.
fn may_switch(
    inbound: &Inbound<'_>,
    route: &RouteDoc,
    sender: Option<&Authenticated>,
) -> Result<(), Refusal> {
    if inbound.extensions.get::<Upgrade>().is_none() || route.auth_in_force() == AuthMode::Public {
        return Ok(());
    }
    let has_session = sender.is_some_and(|sender| matches!(sender.credential, Credential::Session(_)));
    // A rule without credentials lets pages read what anybody may read, and not act as whoever is signed in.
    let rule = route.rules.cors.as_ref().filter(|rule| rule.credentials || !has_session);
    let mut origins = inbound.headers.get_all(ORIGIN).iter();
    let is_allowed = match (origins.next(), origins.next()) {
        (None, _) => !has_session,
        (Some(origin), None) => {
            let named = |text| rule.is_some_and(|rule| rule.allows(text));
            *origin == inbound.address.authority.origin() || origin.to_str().is_ok_and(named)
        }
        (Some(_), Some(_)) => false,
    };
    if is_allowed { Ok(()) } else { Err(Refusal::OriginRefused) }
}

fn sign_in_first(
    inbound: Inbound<'_>,
    why: Option<SignInWhy>,
    hosts: &Platform,
    entropy: &Entropy,
) -> Refusal {
    Refusal::SignIn(why.unwrap_or(SignInWhy::None), Box::new(way(inbound, hosts, entropy)))
}

fn way(inbound: Inbound<'_>, hosts: &Platform, entropy: &Entropy) -> SignInWay {
    let Inbound { ask, address, cookies, headers, .. } = inbound;
    sign_in::way(ask, &address.authority, &headers, cookies.state, hosts, entropy)
}
