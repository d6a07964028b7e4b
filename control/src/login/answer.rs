//! Answers: pages, redirects and failures become responses here and nowhere else, with their status and headers.

use std::time::Duration;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::header::{self, Entry};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mezusphere_model::id::RequestId;
use mezusphere_store::{StoreError, WriteError};

use crate::page::{Chrome, Notice, NoticeKind, Way};

/// The policy of every answer. A page whose form leads to an app host adds that one origin, because chromium
/// holds the redirects after a form against `form-action` too.
fn content_security_policy(form_to: Option<&str>) -> Option<HeaderValue> {
    let form_to = form_to.map(|origin| format!(" {origin}")).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'{form_to}; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::from_str(&policy).ok()
}

/// A page with its status. `form_to` is the origin its form may lead to besides our own.
pub(super) fn page(status: StatusCode, page: &impl Template, form_to: Option<&str>) -> Response {
    match page.render() {
        Ok(html) => {
            let mut response = (status, Html(html)).into_response();
            if let Some(policy) = content_security_policy(form_to) {
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            }
            response
        }
        Err(error) => {
            tracing::error!(%error, "A page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// `303 See Other`: whatever the method was, the next one is GET.
pub(super) fn see_other(location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
        Err(error) => {
            tracing::error!(%error, "A redirect has a location that is no header value");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Adds a cookie to an answer.
pub(super) fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Puts the headers of R18 on an answer, leaving those it has. `Referrer-Policy` is `same-origin`, not
/// `no-referrer`: under that, browsers send `Origin: null` with our own forms (Fetch §4.6).
pub(super) fn secure(headers: &mut HeaderMap) {
    let defaults = [
        (header::CACHE_CONTROL, Some(HeaderValue::from_static("no-store"))),
        (header::CONTENT_SECURITY_POLICY, content_security_policy(None)),
        (header::STRICT_TRANSPORT_SECURITY, Some(HeaderValue::from_static("max-age=31536000"))),
        (header::X_CONTENT_TYPE_OPTIONS, Some(HeaderValue::from_static("nosniff"))),
        (header::X_FRAME_OPTIONS, Some(HeaderValue::from_static("DENY"))),
        (header::REFERRER_POLICY, Some(HeaderValue::from_static("same-origin"))),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            Some(HeaderValue::from_static("same-origin")),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            Some(HeaderValue::from_static("same-origin")),
        ),
    ];
    for (name, value) in defaults {
        if let (Entry::Vacant(entry), Some(value)) = (headers.entry(name), value) {
            entry.insert(value);
        }
    }
}

/// Why a request gets a notice instead of what it asked for.
///
/// As a response it is a status without a body: the page is made by [`Failure::show`], which knows the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    status: StatusCode,
    kind: NoticeKind,
    way: Option<Way>,
    retry_after: Option<Duration>,
}

/// When to come back while the store is away or being moved: it is back within seconds, or not for long.
const STORE_RETRY_AFTER: Duration = Duration::from_secs(5);

impl Failure {
    const fn new(status: StatusCode, kind: NoticeKind) -> Self {
        Self { status, kind, way: None, retry_after: None }
    }

    /// The same with the way on.
    pub(super) fn with_way(self, way: Way) -> Self {
        Self { way: Some(way), ..self }
    }

    fn with_retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// A one-time link that is used, replaced, too old, or was never made: one answer for all.
    pub(super) const fn link_dead() -> Self {
        Self::new(StatusCode::GONE, NoticeKind::LinkDead)
    }

    /// The address of the link has an account; `sign_in` is where to use it.
    pub(super) fn link_taken(sign_in: String) -> Self {
        Self::new(StatusCode::CONFLICT, NoticeKind::LinkTaken).with_way(Way::SignIn(sign_in))
    }

    /// Strangers do not sign up here.
    pub(super) const fn sign_up_closed() -> Self {
        Self::new(StatusCode::FORBIDDEN, NoticeKind::SignUpClosed)
    }

    /// Only who was invited signs up here.
    pub(super) const fn invitation_only() -> Self {
        Self::new(StatusCode::FORBIDDEN, NoticeKind::InvitationOnly)
    }

    /// The sign-in that a form was for has ended; `sign_in` is where to begin another.
    pub(super) fn session_over(sign_in: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, NoticeKind::SessionOver).with_way(Way::SignIn(sign_in))
    }

    /// Whether it says that a sign-in has ended.
    pub(super) fn is_session_over(&self) -> bool {
        self.kind == NoticeKind::SessionOver
    }

    /// The form was opened with another account than the browser is signed in with now.
    pub(super) fn other_account() -> Self {
        Self::new(StatusCode::FORBIDDEN, NoticeKind::OtherAccount).with_way(Way::Account)
    }

    /// The flow needs mail, and there is none.
    pub(super) const fn mail_off() -> Self {
        Self::new(StatusCode::NOT_FOUND, NoticeKind::MailOff)
    }

    /// The account may not be used.
    pub(super) const fn inactive() -> Self {
        Self::new(StatusCode::FORBIDDEN, NoticeKind::Inactive)
    }

    /// Too many attempts, and no form to say so beside.
    pub(super) fn throttled(retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, NoticeKind::Throttled).with_retry_after(retry_after)
    }

    /// Too much to do, and no form to say so beside.
    pub(super) fn busy(retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, NoticeKind::Busy).with_retry_after(retry_after)
    }

    /// Nothing is published on the host.
    pub(super) const fn unknown_host() -> Self {
        Self::new(StatusCode::NOT_FOUND, NoticeKind::UnknownHost)
    }

    /// The query does not say safely where to go.
    pub(super) const fn bad_return() -> Self {
        Self::new(StatusCode::BAD_REQUEST, NoticeKind::BadReturn)
    }

    /// The form token is not of this browser, or too old to go on with.
    pub(super) const fn form_stale() -> Self {
        Self::new(StatusCode::FORBIDDEN, NoticeKind::FormStale)
    }

    /// The request was made by another site, or does not say.
    pub(super) const fn cross_site() -> Self {
        Self::new(StatusCode::FORBIDDEN, NoticeKind::CrossSite)
    }

    /// The browser did not send the form cookie back.
    pub(super) const fn no_cookies() -> Self {
        Self::new(StatusCode::BAD_REQUEST, NoticeKind::NoCookies)
    }

    /// Not a form of ours.
    pub(super) const fn bad_request() -> Self {
        Self::new(StatusCode::BAD_REQUEST, NoticeKind::BadRequest)
    }

    /// Larger than any form. 400, not 413: the form is wrong, and a client must not wait and try again (R14).
    pub(super) const fn too_large() -> Self {
        Self::new(StatusCode::BAD_REQUEST, NoticeKind::TooLarge)
    }

    /// No such page.
    pub(super) fn not_found() -> Self {
        // Right for everybody: who is not signed in is sent on to sign in.
        Self::new(StatusCode::NOT_FOUND, NoticeKind::NotFound).with_way(Way::Account)
    }

    /// A page that has no such method.
    pub(super) const fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, NoticeKind::WrongMethod)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "A hosted page met a failing store");
        match error {
            StoreError::Unavailable(_) | StoreError::Moved => Self::busy(STORE_RETRY_AFTER),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, NoticeKind::Fault),
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(error) => error.into(),
            error => {
                tracing::error!(%error, "A hosted page's change was refused by the store");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, NoticeKind::Fault)
            }
        }
    }
}

impl Failure {
    /// The page of a response that is a failure; any other response as it is.
    pub(super) fn show(mut response: Response, request: Option<RequestId>) -> Response {
        let Some(Self { status, kind, way, retry_after }) = response.extensions_mut().remove() else {
            return response;
        };
        let request = request.map(|request| request.to_string());
        let notice = page(status, &Notice::new(Chrome::english(), kind, way, request), None);
        let headers = std::mem::take(response.headers_mut());
        let mut shown = notice;
        for (name, value) in &headers {
            shown.headers_mut().append(name, value.clone());
        }
        if let Some(retry_after) = retry_after {
            shown.headers_mut().insert(header::RETRY_AFTER, retry_after.as_secs().max(1).into());
        }
        shown
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
