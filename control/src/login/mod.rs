//! The hosted sign-in pages: `login.` and the platform domain.
//!
//! ```text
//! GET  /sign-in?host&return_to&state   the form; or on at once, if this browser is signed in for that host
//!      &max_age&acr&prompt             the password once more, or another account
//! POST /sign-in, /confirm              303 to https://<host>/.mezu/callback?code=…, or the form with a problem
//! GET  /sign-up, /recover              asks for an address; POST answers "check your mail", always
//! GET  /<link>/<token>                 what a link leads to; changes nothing. POST acts. Links: first-sign-in,
//!                                      sign-up, invitation, recover, verify, change-email
//! GET  /account…                       see `account`
//! GET  /sign-out, POST /sign-out       asks, then ends the sign-in and every session of it, here or everywhere
//! GET  /assets/<name>-<hash>.<ext>     the pages' looks
//! GET  /logo/<directory>/<digest>      a directory's logo
//!      /api/v1/…                       the same flows as JSON, see `api`
//! ```
//!
//! Owns HTTP and nothing else: who somebody is, is `identity`'s; words and looks are `page`'s. Without `host`
//! the installation's own directory is meant, where operators live.
//!
//! Every POST needs an exact `Origin` or `Sec-Fetch-Site: same-origin`, and a form token that is bound to this
//! browser by a cookie (R16). A GET changes nothing, save that a browser which is signed in already gets its
//! hand-off code that way. Works without script; needs cookies, and says so.

mod account;
mod address;
mod answer;
mod api;
mod ask;
mod asset;
mod confirm;
mod cookie;
mod destination;
mod enter;
mod form;
mod link;
mod sign_in;
mod sign_out;
mod target;
mod tenant;
#[cfg(test)]
mod tests;
mod told;
mod wish;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::request::Parts;
use http::{HeaderMap, header};
use mezusphere_identity::desk::Desk;
use mezusphere_identity::desk::Visit;
use mezusphere_identity::sign_in::Limits;
use mezusphere_model::host::HostError;
use mezusphere_model::id::{DirectoryId, OrganizationId, RequestId};
use mezusphere_model::link::ClientAddress;
use mezusphere_model::platform::{Platform, PlatformHost};

use crate::Shared;
use crate::mail::Mail;
use answer::Failure;
pub(crate) use form::FormKey;
use link::Link;

/// What the pages work with.
pub(crate) struct Login {
    /// Where flows are served.
    desk: Desk,
    mail: Mail,
    platform: Platform,
    /// This host's own origin, which every form must come from.
    origin: String,
    /// How long sign-ins last where a directory does not say.
    limits: Limits,
    form_key: FormKey,
    /// Where operators live, and whose audit log tells of them.
    home: (OrganizationId, DirectoryId),
}

type State = axum::extract::State<Arc<Login>>;

/// The pages, for requests to the login host.
///
/// # Errors
/// [`HostError`] if the platform domain leaves no room for the login host's label.
pub(crate) fn router(shared: &Shared) -> Result<Router, HostError> {
    let platform = shared.config.platform.clone();
    Ok(routes(Login {
        desk: shared.desk.clone(),
        mail: shared.mail.clone(),
        origin: platform.origin(&platform.host(PlatformHost::Login)?),
        platform,
        limits: Limits { absolute: shared.config.session.absolute, idle: shared.config.session.idle },
        form_key: shared.form_key.clone(),
        home: (shared.installation.organization, shared.installation.directory),
    }))
}

fn routes(login: Login) -> Router {
    let login = Arc::new(login);
    let api = api::router(&login);
    pages(&login).with_state(login).nest(api::PREFIX, api)
}

/// The pages: what browsers see.
fn pages(login: &Arc<Login>) -> Router<Arc<Login>> {
    Router::new()
        .route("/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/confirm", post(confirm::submit))
        .route("/sign-up", get(ask::sign_up_page).post(ask::sign_up))
        .route("/recover", get(ask::recover_page).post(ask::recover))
        .route("/first-sign-in/{token}", link::pages(Link::First))
        .route("/sign-up/{token}", link::pages(Link::SignUp))
        .route("/invitation/{token}", link::pages(Link::Invitation))
        .route("/recover/{token}", link::pages(Link::Recover))
        .route("/verify/{token}", get(address::show_verify).post(address::verify))
        .route("/change-email/{token}", get(address::show_change).post(address::change))
        .route("/sign-out", get(sign_out::show).post(sign_out::submit))
        .route("/signed-out", get(sign_out::done))
        .route("/assets/{name}", get(asset::serve))
        .route("/logo/{directory}/{digest}", get(asset::logo))
        .merge(account::routes())
        .fallback(|| async { Failure::not_found() })
        .method_not_allowed_fallback(|| async { Failure::wrong_method() })
        .layer(middleware::from_fn_with_state(Arc::clone(login), guard))
}

/// Refuses POSTs from elsewhere before anything reads them, shows failures as pages that name the request, and puts the
/// security headers on every answer.
async fn guard(login: State, request: Request, next: Next) -> Response {
    let foreign = request.method() != http::Method::GET
        && request.method() != http::Method::HEAD
        && !form::is_from_here(request.headers(), &login.origin);
    let id = request.extensions().get::<RequestId>().copied();
    let response = if foreign { Failure::cross_site().into_response() } else { next.run(request).await };
    let mut response = Failure::show(response, id);
    answer::secure(response.headers_mut());
    response
}

/// Where a request comes from.
struct Visitor(Visit);

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // A listener that forgot to say shares one throttle with all like it: slower, never freer.
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let address = parts.extensions.get::<ClientAddress>().map_or(unknown, |client| client.0.ip());
        Ok(Self(Visit { address, agent: agent(&parts.headers) }))
    }
}

fn agent(headers: &HeaderMap) -> String {
    headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
