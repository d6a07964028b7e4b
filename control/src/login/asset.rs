//! Serves the pages' assets, to be kept for ever: their names change with their content.

use axum::extract::OriginalUri;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, header};

use super::answer::Failure;
use crate::page;

/// `GET /assets/<name>`.
pub(super) async fn serve(uri: OriginalUri) -> Result<Response, Failure> {
    let asset = page::asset::find(uri.path()).ok_or_else(Failure::not_found)?;
    let mut response = asset.body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Ok(response)
}
