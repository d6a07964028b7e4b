//! How the admin API reads requests and writes answers: JSON in with a limit and exact fields, JSON out.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::types::{PAGE_LEN_DEFAULT, PAGE_LEN_MAX, PageQuery, REQUEST_LEN_MAX};
use crate::problem::{self, Refusal};
use crate::use_case::Paging;
use crate::use_case::user::import::Format;

/// A request body read as JSON; refused if it is not `application/json`, too long, or has unknown fields.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        if !is_json(&request) {
            return Err(Refusal::new(&problem::REQUEST_MEDIA_TYPE, "the body is not application/json"));
        }
        let bytes = Limited::new(request.into_body(), REQUEST_LEN_MAX)
            .collect()
            .await
            .map_err(|why| {
                if why.is::<LengthLimitError>() {
                    let detail = format!("a request body has at most {REQUEST_LEN_MAX} octets");
                    Refusal::new(&problem::REQUEST_TOO_LARGE, detail)
                } else {
                    Refusal::new(&problem::REQUEST_INVALID, "the body broke off")
                }
            })?
            .to_bytes();
        read(&bytes).map(Self)
    }
}

fn is_json(request: &Request) -> bool {
    essence(request).eq_ignore_ascii_case("application/json")
}

/// The body's media type without parameters.
fn essence(request: &Request) -> &str {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// Reads one JSON value and nothing after it; an error names the field.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let mut source = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut source).map_err(|why| {
        let path = why.path().to_string();
        let inner = why.into_inner();
        let place = format!(" at line {} column {}", inner.line(), inner.column());
        let sentence = inner.to_string();
        let sentence = sentence.strip_suffix(&place).unwrap_or(&sentence);
        let detail =
            if inner.is_data() && path != "." { format!("{path}: {sentence}") } else { inner.to_string() };
        Refusal::new(&problem::REQUEST_INVALID, detail)
    })?;
    source.end().map_err(|_| Refusal::new(&problem::REQUEST_INVALID, "something follows the JSON value"))?;
    Ok(value)
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let axum::extract::Query(query) = axum::extract::Query::<PageQuery>::from_request_parts(parts, state)
            .await
            .map_err(|why| Refusal::new(&problem::REQUEST_INVALID, why.body_text()))?;
        Self::checked(query.limit, query.after)
    }
}

impl Paging {
    /// The page a query asks for.
    pub(super) fn checked(limit: Option<u32>, after: Option<String>) -> Result<Self, Refusal> {
        let limit = limit.unwrap_or(PAGE_LEN_DEFAULT);
        if !(1..=PAGE_LEN_MAX).contains(&limit) {
            let detail = format!("limit: 1 to {PAGE_LEN_MAX}");
            return Err(Refusal::new(&problem::REQUEST_INVALID, detail));
        }
        Ok(Self { limit, after })
    }
}

/// What the query string asks for; unknown fields are refused by the type.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let axum::extract::Query(query) =
            axum::extract::Query::<T>::from_request_parts(parts, state)
                .await
                .map_err(|why| Refusal::new(&problem::REQUEST_INVALID, why.body_text()))?;
        Ok(Self(query))
    }
}

/// A file of users, read as it comes in by whoever takes it.
#[derive(Debug)]
pub(super) struct File(pub(super) Format, pub(super) axum::body::Body);

impl<S: Send + Sync> FromRequest<S> for File {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let format = match essence(&request).to_ascii_lowercase().as_str() {
            "text/csv" => Format::Csv,
            "application/json" | "application/x-ndjson" => Format::Json,
            _ => {
                let detail = "the body is neither text/csv nor application/json";
                return Err(Refusal::new(&problem::REQUEST_MEDIA_TYPE, detail)
                    .with_next("send content-type: text/csv, or application/json"));
            }
        };
        Ok(Self(format, request.into_body()))
    }
}

/// Whether the caller insists: `?force=true`.
#[derive(Debug)]
pub(super) struct Force(pub(super) bool);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForceQuery {
    #[serde(default)]
    force: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Force {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let axum::extract::Query(query) =
            axum::extract::Query::<ForceQuery>::from_request_parts(parts, state)
                .await
                .map_err(|why| Refusal::new(&problem::REQUEST_INVALID, why.body_text()))?;
        Ok(Self(query.force))
    }
}

/// An answer as JSON, never stored by a cache.
#[derive(Debug)]
pub(super) struct Answer<T>(pub(super) StatusCode, pub(super) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.1) {
            Ok(body) => {
                let mut response = (self.0, body).into_response();
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(why) => {
                tracing::error!(error = %why, "An answer of the admin API cannot be written");
                Refusal::new(&problem::INTERNAL, "the answer cannot be written").into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::CreateProject;

    fn refusal(text: &str) -> String {
        read::<CreateProject>(text.as_bytes()).unwrap_err().detail().to_owned()
    }

    #[test]
    fn a_bad_field_is_named() {
        assert_eq!(refusal(r#"{"slug": "Shop"}"#), "slug: use lower-case letters, digits and hyphens");
        assert!(refusal(r#"{"slug": "shop", "nmae": "x"}"#).contains("unknown field `nmae`"));
        assert!(refusal("{").contains("EOF"));
        assert_eq!(refusal(r#"{"slug": "shop"} x"#), "something follows the JSON value");
    }

    #[test]
    fn a_request_with_known_fields_only_is_read() {
        let read: CreateProject = read(br#"{"slug": "shop", "name": "The shop"}"#).unwrap();
        assert_eq!(read.name.as_deref(), Some("The shop"));
    }
}
