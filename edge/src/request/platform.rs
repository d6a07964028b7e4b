//! Requests for the platform's own hosts (console, login, connect): handed to control's service as they are, but for
//! what no client may say.
//!
//! [`PlatformServer`] is the whole way of a request where nothing else is served: at a control node that split edges
//! pass connections on to.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ::http::header::{HOST, HeaderMap, HeaderValue};
use ::http::request::Parts;
use ::http::uri::{PathAndQuery, Scheme};
use ::http::{Request, Response, Uri};
use mezusphere_model::link::ClientAddress;
use mezusphere_model::{Clock, Entropy, Platform};
use mezusphere_telemetry::Metrics;
use tower::ServiceExt as _;

use super::answer::Answer;
use super::authority::Authority;
use super::inbound::{self, Ask};
use super::record::{Line, Names, Recorder};
use super::refusal::Refusal;
use crate::config::PlatformService;
use crate::http::{Body, ConnectionInfo};

/// Answers requests for the platform's own hosts, and refuses all others as an edge does that does not know them.
pub(crate) struct PlatformServer {
    hosts: Platform,
    service: PlatformService,
    entropy: Entropy,
    recorder: Arc<Recorder>,
}

impl PlatformServer {
    /// A server that hands requests for `hosts` to `service`. Registers its metrics, so make one only.
    pub(crate) fn new(
        hosts: Platform,
        service: PlatformService,
        clock: Clock,
        entropy: Entropy,
        metrics: &Metrics,
    ) -> Self {
        let recorder = Arc::new(Recorder::new(metrics, &Names::FRONT, clock));
        Self { hosts, service, entropy, recorder }
    }

    /// Answers one request of `connection`. Dropping the future, or the body of the response, gives the request up.
    pub(crate) async fn handle(&self, request: Request<Body>, connection: &ConnectionInfo) -> Response<Body> {
        let (head, body) = request.into_parts();
        let ask = Ask::new(&head, connection, &self.entropy);
        let mut line = Line::new(&self.recorder, &ask);
        let answered = self.answer(&ask, head, body, connection, &mut line).await;
        super::respond_to(&ask, answered, line.into())
    }

    async fn answer(
        &self,
        ask: &Ask,
        head: Parts,
        body: Body,
        connection: &ConnectionInfo,
        line: &mut Line,
    ) -> Result<Answer, Refusal> {
        let address = inbound::address(ask, &head, connection)?;
        line.host(&address.authority.host);
        self.hosts.which(&address.authority.host).ok_or(Refusal::UnknownHost)?;
        line.platform();
        Ok(Answer::Platform(serve(ask, head, body, &address.authority, connection, &self.service).await?))
    }
}

/// Hands a request over. The service finds the host in the target and in `host`, both in canonical form, and the client's
/// address in the extension [`ClientAddress`], never in a field; beside it the request's id, for pages that name it.
pub(crate) async fn serve(
    ask: &Ask,
    mut request: Parts,
    body: Body,
    authority: &Authority,
    connection: &ConnectionInfo,
    service: &PlatformService,
) -> Result<Response<Body>, Refusal> {
    tunnel_proto::headers::strip_request(&mut request.headers);
    inbound::length(&request.headers)?;
    canonical_host(&mut request.headers, &mut request.uri, authority).ok_or(Refusal::Internal)?;
    request.extensions.insert(ClientAddress(connection.client));
    request.extensions.insert(ask.id);
    // Boxed as what it is: the compiler cannot see through the service's own types that it may move between threads.
    let answer: Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>> =
        Box::pin(service.clone().oneshot(Request::from_parts(request, body)));
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
