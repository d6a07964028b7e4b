//! Serves what pages refer to, to be kept for ever: names change with content.

use axum::extract::{OriginalUri, Path};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use mezusphere_model::id::DirectoryId;
use mezusphere_store::StoreError;
use mezusphere_store::primary::directory;

use super::State;
use super::answer::Failure;
use crate::page::{asset, brand};

/// `GET /assets/<name>`.
pub(super) async fn serve(uri: OriginalUri) -> Result<Response, Failure> {
    if let Some(asset) = asset::find(uri.path()) {
        return Ok(kept(asset.body, asset.content_type));
    }
    let css = brand::find_stylesheet(uri.path()).ok_or_else(Failure::not_found)?;
    Ok(kept(css, "text/css; charset=utf-8"))
}

/// `GET /logo/<directory>/<digest>`: as the store has it, with exactly the type its octets show.
pub(super) async fn logo(
    login: State,
    Path((id, digest)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let id: DirectoryId = id.parse().map_err(|_| Failure::not_found())?;
    let found = login.desk.primary.read(async |tx| {
        let row = directory::by_id(tx, id).await?;
        // Compared before the picture is read, so that made-up addresses cost little.
        let mark = row.and_then(|row| row.settings.brand.logo).filter(|mark| mark.digest == digest);
        Ok::<_, StoreError>(if mark.is_some() { directory::logo(tx, id).await? } else { None })
    });
    let logo = found.await?.ok_or_else(Failure::not_found)?;
    Ok(kept(logo.bytes, logo.media_type.as_str()))
}

fn kept(body: impl IntoResponse, content_type: &'static str) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    response
}
