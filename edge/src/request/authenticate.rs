//! The third stage: who sends a request. Reads the credential the request brought; decides nothing about the route.

use std::net::IpAddr;
use std::sync::Arc;

use mezusphere_model::link::Credential;
use mezusphere_model::route::{AuthMode, Site};
use mezusphere_model::token::Token;
use mezusphere_model::{Clock, Host};

use super::cookie::SessionText;
use super::inbound::PresentedKey;
use super::refusal::{KeyWhy, Refusal, SignInWhy};
use super::route::Routed;
use super::rules::Open;
use crate::view::View;
use crate::view::caller::{Caller, NotGood};
use crate::view::lookup::{NoCaller, NoKey};

/// A request whose sender is known, or known to be nobody.
pub(crate) struct Identified<'a> {
    /// The request with its route.
    pub(crate) routed: Routed<'a>,
    /// Who, or why nobody.
    pub(crate) sender: Result<Authenticated, SignInWhy>,
}

/// Somebody, with what they proved it by.
pub(crate) struct Authenticated {
    /// Who.
    pub(crate) caller: Arc<Caller>,
    /// What they presented; control asks for it before it signs an assertion.
    pub(crate) credential: Credential,
}

/// Finds out who sends a request. On public routes nobody looks.
pub(crate) async fn identify<'a>(
    Open(routed): Open<'a>,
    view: &View,
    clock: &Clock,
) -> Result<Identified<'a>, Refusal> {
    let (auth, inbound) = (routed.route.auth_in_force(), &routed.inbound);
    if auth == AuthMode::Public {
        return Ok(Identified { routed, sender: Err(SignInWhy::None) });
    }
    if view.is_stale(routed.site.doc.project) {
        // It cannot tell who may pass, so it does not send people to sign in either. Where nobody has to be known, a
        // browser goes on as a stranger; a program that presents a key means to be known by it.
        return if auth == AuthMode::Required || inbound.key.is_some() {
            Err(Refusal::Stale)
        } else {
            Ok(Identified { routed, sender: Err(SignInWhy::None) })
        };
    }
    let host = &inbound.address.authority.host;
    let sender = if let Some(key) = &inbound.key {
        Ok(by_key(key, &routed.site, host, view, clock)?)
    } else if let Some(cookie) = &inbound.cookies.session {
        by_session(cookie, &routed.site, host, inbound.ask.client, view, clock).await?
    } else {
        Err(SignInWhy::None)
    };
    if let Ok(somebody) = &sender {
        view.touch(&somebody.caller, clock.now());
    }
    Ok(Identified { routed, sender })
}

/// The holder of a session. The inner answer says why there is none; the outer that nobody can tell.
pub(crate) async fn by_session(
    cookie: &SessionText,
    site: &Site,
    host: &Host,
    from: IpAddr,
    view: &View,
    clock: &Clock,
) -> Result<Result<Authenticated, SignInWhy>, Refusal> {
    let Some(token) = cookie.token() else { return Ok(Err(SignInWhy::Unknown)) };
    let doc = &site.doc;
    let caller = match view.session(cookie.as_str(), &token, doc.project, from).await {
        Ok(caller) => caller,
        Err(NoCaller::Unknown) => return Ok(Err(SignInWhy::Unknown)),
        Err(NoCaller::Ended) => return Ok(Err(SignInWhy::Ended)),
        Err(NoCaller::Starting) => return Err(Refusal::Starting),
        Err(NoCaller::Replica) => return Err(Refusal::Replica),
        Err(NoCaller::Away) => return Err(Refusal::ControlAway),
        Err(NoCaller::Wait(wait)) => return Err(Refusal::TooMany(wait)),
    };
    Ok(match caller.check(doc.project, doc.environment, host, clock.now()) {
        Ok(()) => Ok(Authenticated { caller, credential: session_credential(token) }),
        Err(NotGood::Elsewhere) => Err(SignInWhy::Elsewhere),
        Err(NotGood::Expired) => Err(SignInWhy::Expired),
        Err(NotGood::Idle) => Err(SignInWhy::Idle),
    })
}

fn session_credential(token: Token) -> Credential {
    Credential::Session(token)
}

/// The holder of an API key. A key that is no good is refused on every route that looks at it: whoever sends
/// one wants to be known by it.
pub(crate) fn by_key(
    key: &PresentedKey,
    site: &Site,
    host: &Host,
    view: &View,
    clock: &Clock,
) -> Result<Authenticated, Refusal> {
    let PresentedKey::Whole(key) = key else { return Err(Refusal::Key(KeyWhy::Malformed)) };
    let doc = &site.doc;
    let caller = view.api_key(key, doc.environment).map_err(|why| match why {
        NoKey::Unknown => Refusal::Key(KeyWhy::Unknown),
        NoKey::Scope => Refusal::Key(KeyWhy::Scope),
        NoKey::Inactive => Refusal::Key(KeyWhy::Inactive),
        NoKey::Replica => Refusal::Replica,
    })?;
    match caller.check(doc.project, doc.environment, host, clock.now()) {
        Ok(()) => Ok(Authenticated { caller, credential: Credential::ApiKey((**key).clone()) }),
        Err(NotGood::Elsewhere) => Err(Refusal::Key(KeyWhy::Elsewhere)),
        Err(NotGood::Expired | NotGood::Idle) => Err(Refusal::Key(KeyWhy::Expired)),
    }
}
