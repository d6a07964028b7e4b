//! The edge's own addresses on every application host, under `/.mezu/`: signing in and out, who am I, and the keys that
//! assertions are verified with. On hosts whose routes are all public too; never forwarded.
//!
//! | address | methods | what |
//! |---|---|---|
//! | `/.mezu/callback` | GET | where the login host sends people back to |
//! | `/.mezu/session` | POST, DELETE | the same for programs, and its end; JSON |
//! | `/.mezu/sign-in` | GET | to the login host, and back to `return_to` |
//! | `/.mezu/sign-out` | GET, POST | asks; ends the sign-in |
//! | `/.mezu/whoami` | GET | who the caller is; JSON |
//! | `/.mezu/jwks.json` | GET | the keys of assertions |

mod form;
mod keys;
mod session;
mod sign_in;
mod sign_out;
mod whoami;

use ::http::Method;
use mezusphere_model::link::{Answer, LinkError};
use mezusphere_model::path::RequestPath;
use mezusphere_model::route::Site;

use super::ServerParts;
use super::authenticate::{self, Authenticated};
use super::authority::Authority;
use super::cookie::Cookies;
use super::inbound::{Ask, Inbound};
use super::refusal::Refusal;
use super::respond::Own;

pub(crate) use self::sign_in::SIGN_IN;
pub(crate) use self::sign_out::SIGN_OUT;

/// Where every address of the edge's own begins.
const PREFIX: &str = "/.mezu";

/// Which of the edge's own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Where the login host sends people back to.
    Callback,
    /// The session of a program that signs people in itself.
    Session,
    /// The way to sign in.
    SignIn,
    /// Signing out.
    SignOut,
    /// Who the caller is, as JSON.
    Whoami,
    /// The keys of assertions, as a JWK set.
    Jwks,
    /// Nothing, or a path that only some would read as ours.
    Nothing,
}

/// Whether a path is the edge's own under any reading, and what it is for. Such a path never reaches an upstream.
pub(crate) fn endpoint(path: &RequestPath) -> Option<Endpoint> {
    let is_own = |reading: &str| {
        reading.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if !path.readings().iter().any(|reading| is_own(reading.as_str())) {
        return None;
    }
    let [only] = path.readings() else { return Some(Endpoint::Nothing) };
    Some(match only.as_str() {
        "/.mezu/callback" => Endpoint::Callback,
        "/.mezu/session" => Endpoint::Session,
        SIGN_IN => Endpoint::SignIn,
        SIGN_OUT => Endpoint::SignOut,
        "/.mezu/whoami" => Endpoint::Whoami,
        "/.mezu/jwks.json" => Endpoint::Jwks,
        _ => Endpoint::Nothing,
    })
}

/// Answers a request for one of them.
pub(crate) async fn serve(
    endpoint: Endpoint,
    inbound: Inbound<'_>,
    site: &Site,
    parts: &ServerParts,
) -> Result<Own, Refusal> {
    let method = &inbound.ask.method;
    let reads = method == Method::GET || method == Method::HEAD;
    match endpoint {
        Endpoint::Callback if method == Method::GET => session::callback(inbound, site, parts).await,
        Endpoint::SignIn if method == Method::GET => sign_in::go(inbound, site, parts).await,
        Endpoint::Callback | Endpoint::SignIn => Err(Refusal::OwnMethod("GET")),
        Endpoint::Session if method == Method::POST => session::begin(inbound, parts).await,
        Endpoint::Session if method == Method::DELETE => session::end(inbound, parts).await,
        Endpoint::Session => Err(Refusal::OwnMethod("POST, DELETE")),
        Endpoint::SignOut if reads => sign_out::ask(inbound, site, parts).await,
        Endpoint::SignOut if method == Method::POST => sign_out::act(inbound, parts).await,
        Endpoint::SignOut => Err(Refusal::OwnMethod("GET, HEAD, POST")),
        Endpoint::Whoami if reads => whoami::tell(inbound, site, parts).await,
        Endpoint::Jwks if reads => keys::tell(&inbound, parts),
        Endpoint::Whoami | Endpoint::Jwks => Err(Refusal::OwnMethod("GET, HEAD")),
        Endpoint::Nothing => Err(Refusal::NoRoute),
    }
}

/// The holder of the session that came with the request; `None` for everybody else.
async fn somebody(
    ask: &Ask,
    authority: &Authority,
    cookies: &Cookies,
    site: &Site,
    parts: &ServerParts,
) -> Result<Option<Authenticated>, Refusal> {
    let Some(cookie) = &cookies.session else { return Ok(None) };
    if parts.view.is_stale(site.doc.project) {
        return Err(Refusal::Stale);
    }
    let (view, clock) = (&parts.view, &parts.clock);
    Ok(authenticate::by_session(cookie, site, &authority.host, ask.client, view, clock).await?.ok())
}

async fn control<T>(parts: &ServerParts, asked: Answer<'_, Result<T, LinkError>>) -> Result<T, LinkError> {
    tokio::time::timeout(parts.view.limits().ask_control, asked).await.unwrap_or(Err(LinkError::Away))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r02_a_path_that_anybody_could_read_as_ours_never_reaches_an_upstream() {
        let of = |text: &str| endpoint(&RequestPath::parse(text).unwrap());
        assert_eq!(of("/.mezu/callback"), Some(Endpoint::Callback));
        assert_eq!(of("/.mezu/session"), Some(Endpoint::Session));
        assert_eq!(of("/.mezu/sign-in"), Some(Endpoint::SignIn));
        assert_eq!(of("/.mezu/sign-out"), Some(Endpoint::SignOut));
        assert_eq!(of("/.mezu"), Some(Endpoint::Nothing));
        assert_eq!(of("/.mezu/other"), Some(Endpoint::Nothing));
        assert_eq!(of("/.mezuzah"), None);
        assert_eq!(of("/mezu/callback"), None);
    }
}
