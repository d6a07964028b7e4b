//! Between the edge's threads and the main runtime: what an edge asks runs there, whether control answers in this
//! process or over the edge link.
//!
//! An edge's worker must never do that work: a worker's core belongs to the connections on it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use mezusphere_edge::http::Body;
use mezusphere_edge::{PlatformService, Splice, SpliceStream};
use mezusphere_edge_link::client::LinkClient;
use mezusphere_model::Timestamp;
use mezusphere_model::id::EnvironmentId;
use mezusphere_model::link::{
    AboutEdge, Activity, Answer, ControlLink, Credential, DenialCount, FoundSession, IssuedAssertion,
    LinkError, RedeemCode, Redeemed, TunnelReport,
};
use mezusphere_model::token::Token;
use tokio::runtime::Handle;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

/// Runs `service` on `runtime`, wherever it is called from.
pub(crate) fn service(service: mezusphere_control::PlatformService, runtime: Handle) -> PlatformService {
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let call = runtime.spawn(service.clone().oneshot(request));
        async move {
            // A panic in one request is one failed response.
            let Ok(Ok(response)) = call.await else {
                return Ok::<_, Infallible>(failed());
            };
            Ok(response)
        }
    }))
}

fn failed() -> Response<Body> {
    let body = Full::from("Something went wrong here. Try again.\n").map_err(Into::into).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Opens ways to control nodes, on the main runtime.
pub(crate) struct Splices {
    link: Arc<LinkClient>,
    runtime: Handle,
}

impl Splices {
    /// Ways that `link` finds.
    pub(crate) fn new(link: Arc<LinkClient>, runtime: Handle) -> Self {
        Self { link, runtime }
    }
}

impl Splice for Splices {
    fn open(&self, client: SocketAddr, local: SocketAddr) -> Answer<'_, io::Result<SpliceStream>> {
        let link = Arc::clone(&self.link);
        let opening = self.runtime.spawn(async move { link.splice(client, local).await });
        Box::pin(async move {
            match opening.await {
                Ok(Ok(stream)) => Ok(Box::new(stream) as SpliceStream),
                Ok(Err(why)) => Err(io::Error::other(why)),
                Err(why) => Err(io::Error::other(why)),
            }
        })
    }
}

/// Answers an edge's questions on the main runtime.
pub(crate) struct Link {
    control: Arc<dyn ControlLink>,
    runtime: Handle,
}

impl Link {
    /// Questions to `control`, worked on by `runtime`.
    pub(crate) fn new(control: Arc<dyn ControlLink>, runtime: Handle) -> Self {
        Self { control, runtime }
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(Arc<dyn ControlLink>) -> Answer<'static, Result<T, LinkError>> + Send + 'static,
    ) -> Answer<'_, Result<T, LinkError>> {
        let control = Arc::clone(&self.control);
        let work = self.runtime.spawn(async move { question(control).await });
        // A question that panicked has no answer; the same one may be asked again.
        Box::pin(async move { work.await.unwrap_or(Err(LinkError::Away)) })
    }
}

impl ControlLink for Link {
    fn certify(&self, csr_der: Vec<u8>) -> Answer<'_, Result<Vec<Vec<u8>>, LinkError>> {
        self.ask(move |control| Box::pin(async move { control.certify(csr_der).await }))
    }

    fn about(&self, about: AboutEdge) -> Answer<'_, Result<(), LinkError>> {
        self.ask(move |control| Box::pin(async move { control.about(about).await }))
    }

    fn redeem(&self, code: RedeemCode) -> Answer<'_, Result<Redeemed, LinkError>> {
        self.ask(move |control| Box::pin(async move { control.redeem(code).await }))
    }

    fn find_session(&self, token: Token) -> Answer<'_, Result<Option<FoundSession>, LinkError>> {
        self.ask(move |control| Box::pin(async move { control.find_session(token).await }))
    }

    fn assertion(
        &self,
        credential: Credential,
        environment: EnvironmentId,
    ) -> Answer<'_, Result<IssuedAssertion, LinkError>> {
        self.ask(move |control| Box::pin(async move { control.assertion(credential, environment).await }))
    }

    fn sign_out(&self, token: Token) -> Answer<'_, Result<(), LinkError>> {
        self.ask(move |control| Box::pin(async move { control.sign_out(token).await }))
    }

    fn activity(&self, batch: Vec<Activity>) -> Answer<'_, Result<(), LinkError>> {
        self.ask(move |control| Box::pin(async move { control.activity(batch).await }))
    }

    fn denials(&self, batch: Vec<DenialCount>) -> Answer<'_, Result<(), LinkError>> {
        self.ask(move |control| Box::pin(async move { control.denials(batch).await }))
    }

    fn tunnel(&self, report: TunnelReport) -> Answer<'_, Result<(), LinkError>> {
        self.ask(move |control| Box::pin(async move { control.tunnel(report).await }))
    }

    fn tunnels(&self, held: Vec<TunnelReport>, at: Timestamp) -> Answer<'_, Result<(), LinkError>> {
        self.ask(move |control| Box::pin(async move { control.tunnels(held, at).await }))
    }

    fn contacts(&self) -> u64 {
        self.control.contacts()
    }

    fn is_away(&self) -> bool {
        self.control.is_away()
    }

    fn connect(&self, message: Vec<u8>, from: SocketAddr) -> Answer<'_, Result<Vec<u8>, LinkError>> {
        self.ask(move |control| Box::pin(async move { control.connect(message, from).await }))
    }
}
