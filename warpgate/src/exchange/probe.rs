//! Asks an upstream something of our own: at start, in health checks, and when routes are shown.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use mezusphere_model::slug::Slug;
use tokio::time::{Instant, timeout};
use tunnel_proto::exchange::{Failure, FailureCode};

use super::body::RequestBody;
use super::h1;
use super::h2::SendError;
use super::informational::Informational;
use super::upstream::{Lease, Upstream, h2_failure};
use crate::upstream::{Declaration, Target, Upstreams};

/// An upstream that takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// What it answered to `HEAD /`; `None`: nothing that is HTTP, or nothing in time.
    pub status: Option<u16>,
    /// How long that took.
    pub took: Duration,
}

/// What became of asking an upstream.
#[derive(Clone, Debug)]
pub struct Reached {
    /// What routes call it.
    pub name: Slug,
    /// Where it is.
    pub target: Target,
    /// Why it cannot be reached, if it cannot.
    pub outcome: Result<Probed, Failure>,
}

/// Asks every upstream at once for `HEAD /`, `within` this time: whether a start makes sense.
pub async fn reach_all(upstreams: &Upstreams, within: Duration) -> Vec<Reached> {
    let asking = upstreams.iter().map(|(name, declaration)| async move {
        let outcome = probe(declaration, within).await;
        Reached { name: name.clone(), target: declaration.target().clone(), outcome }
    });
    join_all(asking).await
}

/// Asks for `HEAD /`: a safe request that any HTTP server answers somehow.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn probe(declaration: &Declaration, within: Duration) -> Result<Probed, Failure> {
    let start = Instant::now();
    let upstream = Upstream::new(declaration.clone());
    let lease = upstream.connect_apart(within).await?;
    let left = within.saturating_sub(start.elapsed());
    let answer = timeout(left, ask(&upstream, lease, Method::HEAD, "/")).await;
    let status = answer.ok().and_then(Result::ok).map(|status| status.as_u16());
    Ok(Probed { status, took: start.elapsed() })
}

/// Asks for `path` on a connection of its own, `within` this time.
///
/// # Errors
/// Why there is no status.
pub(super) async fn get(upstream: &Upstream, path: &str, within: Duration) -> Result<StatusCode, Failure> {
    let start = Instant::now();
    let lease = upstream.connect_apart(within).await?;
    let left = within.saturating_sub(start.elapsed());
    let late = |_| Failure {
        code: FailureCode::UpstreamTimeout,
        detail: format!("no answer within {} ms", within.as_millis()),
        started: true,
    };
    timeout(left, ask(upstream, lease, Method::GET, path)).await.map_err(late)?
}

async fn ask(upstream: &Upstream, lease: Lease, method: Method, path: &str) -> Result<StatusCode, Failure> {
    let malformed =
        |why: String| Failure { code: FailureCode::RequestMalformed, detail: why, started: false };
    let authority =
        HeaderValue::try_from(upstream.target().authority()).map_err(|why| malformed(why.to_string()))?;
    let uri: Uri = path.parse().map_err(|why: http::uri::InvalidUri| malformed(why.to_string()))?;
    let agent = HeaderValue::from_static(crate::AGENT);
    let informational = Arc::new(Informational::default());
    match lease {
        Lease::H1(mut lease) => {
            let mut request = Request::new(RequestBody::Empty);
            *request.method_mut() = method;
            *request.uri_mut() = uri;
            request.headers_mut().insert(HOST, authority);
            request.headers_mut().insert(USER_AGENT, agent);
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            match h1::send(&mut lease, request, &informational).await {
                Ok(response) => Ok(response.status()),
                Err(h1::SendError::Unsent(why, _) | h1::SendError::Failed(why)) => {
                    Err(h1::failure(&why, true))
                }
            }
        }
        Lease::H2(mut lease) => {
            let mut request = Request::new(());
            *request.method_mut() = method;
            *request.uri_mut() = upstream.absolute(Some(&authority), &uri)?;
            request.headers_mut().insert(USER_AGENT, agent);
            match lease.send(request, RequestBody::Empty, &informational).await {
                Ok(response) => Ok(response.status()),
                Err(SendError::Unprocessed(why) | SendError::Failed(why)) => Err(h2_failure(&why, true)),
            }
        }
    }
}
