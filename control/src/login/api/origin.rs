//! Which pages may ask: those of the hosts that are published for the directory's own projects, and no others.
//!
//! Programs that are no browsers send no `origin` and may ask as well: what protects an account is its password and its token,
//! never where a request says it comes from. An origin keeps pages of strangers from asking in their visitors' name.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use mezusphere_model::Host;
use mezusphere_model::id::DirectoryId;
use mezusphere_store::StoreError;
use mezusphere_store::primary::{host, project};

use super::super::Login;
use super::problem::{self, Told};

/// How long a browser may remember that it may ask, in seconds.
const PREFLIGHT_AGE_S: &str = "600";

/// The page that asks; nothing for a program that is no browser.
#[derive(Clone, Debug)]
pub(super) struct Page(Option<(HeaderValue, DirectoryId)>);

impl Login {
    /// The page a request comes from, if its origin is a published host's.
    pub(super) async fn page(&self, headers: &HeaderMap) -> Result<Page, Told> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (None, _) => return Ok(Page(None)),
            (Some(origin), None) => origin,
            (Some(_), Some(_)) => return Err(problem::CROSS_SITE.told()),
        };
        let found = async {
            let text = origin.to_str().ok()?;
            let rest = text.strip_prefix("https://")?;
            let host = Host::parse(rest.split(':').next()?).ok()?;
            // Exact: no other port, no other spelling.
            (self.platform.origin(&host) == text).then_some(host)
        };
        let host = found.await.ok_or_else(|| problem::CROSS_SITE.told())?;
        let directory = self.desk.primary.read(async |tx| {
            let Some(row) = host::find(tx, &host).await? else { return Ok(None) };
            Ok::<_, StoreError>(project::get(tx, row.project).await?.map(|project| project.directory))
        });
        let directory = directory.await?.ok_or_else(|| problem::CROSS_SITE.told())?;
        Ok(Page(Some((origin.clone(), directory))))
    }
}

impl Page {
    /// Refuses a page of another directory's application.
    pub(super) fn serves(&self, directory: DirectoryId) -> Result<(), Told> {
        match &self.0 {
            Some((_, own)) if *own != directory => Err(problem::CROSS_SITE.told()),
            _ => Ok(()),
        }
    }

    /// Lets the page read the answer. Never with credentials: there are none that a browser would add.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some((origin, _)) = &self.0 {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
        }
    }
}

/// The answer to a browser that asks whether a page may ask.
pub(super) fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let fields = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PATCH, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE_S),
    ];
    for (name, value) in fields {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Told;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Told> {
        // The guard put it there; without it nobody knows who asks.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| problem::FAULT.told())
    }
}
