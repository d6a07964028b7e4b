//! Requests for the platform's own hosts (console, login, connect): handed to control's service as they are, but for
//! what no client may say.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use ::http::header::{HOST, HeaderMap, HeaderValue};
use ::http::request::Parts;
use ::http::uri::{PathAndQuery, Scheme};
use ::http::{Request, Response, Uri};
use mezusphere_model::link::ClientAddress;
use tower::ServiceExt as _;

use super::ServerParts;
use super::authority::Authority;
use super::refusal::Refusal;
use crate::http::{Body, ConnectionInfo};

/// Hands a request over. The service finds the host in the target and in `host`, both in canonical form, and the client's
/// address in the extension [`ClientAddress`], never in a field.
pub(crate) async fn serve(
    mut request: Parts,
    body: Body,
    authority: &Authority,
    connection: &ConnectionInfo,
    parts: &ServerParts,
) -> Result<Response<Body>, Refusal> {
    tunnel_proto::headers::strip_request(&mut request.headers);
    super::inbound::length(&request.headers)?;
    canonical_host(&mut request.headers, &mut request.uri, authority).ok_or(Refusal::Internal)?;
    request.extensions.insert(ClientAddress(connection.client));
    // Boxed as what it is: the compiler cannot see through the service's own types that it may move between threads.
    let answer: Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>> =
        Box::pin(parts.platform.clone().oneshot(Request::from_parts(request, body)));
    match answer.await {
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

fn canonical_host(headers: &mut HeaderMap, uri: &mut Uri, authority: &Authority) -> Option<()> {
    let text = authority.to_string();
    headers.insert(HOST, HeaderValue::from_str(&text).ok()?);
    let mut target = std::mem::take(uri).into_parts();
    target.scheme = Some(Scheme::HTTPS);
    target.authority = Some(text.parse().ok()?);
    target.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    *uri = Uri::from_parts(target).ok()?;
    Some(())
}
