//! Bodies: JSON in, JSON out.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::form::FORM_LEN_MAX;
use super::problem::{self, Told};

/// A request's body. No larger than a form of the pages', because it carries the same.
pub(super) struct Json<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Told;

    async fn from_request(request: Request, _: &S) -> Result<Self, Told> {
        let headers = request.headers();
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        // A type that no form has: browsers ask before they let a page of another site send it (Fetch §4.8).
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(problem::BAD_REQUEST.told());
        }
        // A length that is said is believed, so that a megabyte is refused without reading it (R14).
        let said = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        if said.and_then(|text| text.parse::<u64>().ok()).is_some_and(|length| length > FORM_LEN_MAX as u64) {
            return Err(problem::TOO_LARGE.told());
        }
        let body: Body = request.into_body();
        let body = axum::body::to_bytes(body, FORM_LEN_MAX).await.map_err(|error| {
            let is_limit = std::error::Error::source(&error)
                .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
            if is_limit { problem::TOO_LARGE.told() } else { problem::BAD_REQUEST.told() }
        })?;
        // Passwords are in it.
        let body = Zeroizing::new(Vec::from(body));
        serde_json::from_slice(&body).map(Self).map_err(|_| problem::BAD_REQUEST.told())
    }
}

/// An answer with a status.
pub(super) struct Answer<T>(pub(super) StatusCode, pub(super) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let Self(status, answer) = self;
        let Ok(body) = serde_json::to_vec(&answer) else { return problem::FAULT.told().into_response() };
        let mut response = (status, body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// An answer that says it all.
pub(super) fn ok<T: Serialize>(answer: T) -> Answer<T> {
    Answer(StatusCode::OK, answer)
}

/// What a link in a mail brought: its token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    pub(super) link: String,
}

/// What every mail is answered with, whether one was sent or not (R13).
#[derive(Serialize)]
pub(super) struct Inbox {
    next: &'static str,
}

/// The way on is in a mail.
pub(super) fn inbox() -> Answer<Inbox> {
    Answer(StatusCode::ACCEPTED, Inbox { next: "inbox" })
}
