//! The way of a request, stage by stage. Each takes the value of the one before and returns the next, so that a skipped
//! check does not compile; none makes a response: a refusal is a value that [`respond`] turns into one.
//!
//! ```text
//! inbound       Ask → Address → Inbound   canonical host and path, ours taken out, reserved fields stripped
//! route         Inbound → Routed          the site table
//! authenticate  Routed → Identified       cookie or key → view
//! authorize     Identified → Permitted    model::policy::decide; nothing else makes one
//! forward       Permitted → Forwarded     a tunnel, an exchange
//! answer        → Response                counted and written down when its body has ended
//! ```
//!
//! Aside from it: [`own`] (`/.mezu/…`), [`platform`] (console, login, connect), [`sign_in`] (where a refusal sends people).

mod answer;
mod authenticate;
mod authority;
mod authorize;
mod cookie;
mod forward;
mod inbound;
mod own;
mod platform;
mod record;
mod refusal;
mod respond;
mod route;
mod sign_in;
mod told;
mod wants;

use std::future::Future;
use std::sync::Arc;

use ::http::request::Parts;
use ::http::{Request, Response};
use mezusphere_model::link::ControlLink;
use mezusphere_model::{Clock, Entropy, Platform};
use mezusphere_telemetry::Metrics;

use self::answer::Answer;
use self::inbound::Ask;
use self::record::{Line, Recorder};
use self::refusal::Refusal;
use crate::config::PlatformService;
use crate::http::{Body, ConnectionInfo};
use crate::tunnel::Registry;
use crate::view::View;

pub use self::record::ACCESS_LOG;

/// What the request path works with.
pub struct ServerParts {
    /// The installation's hosts.
    pub hosts: Platform,
    /// What the edge knows.
    pub view: Arc<View>,
    /// The tunnels it holds.
    pub tunnels: Arc<Registry>,
    /// What it may ask of control.
    pub link: Arc<dyn ControlLink>,
    /// Who answers for the platform's own hosts.
    pub platform: PlatformService,
    /// Tells the time.
    pub clock: Clock,
    /// Draws randomness.
    pub entropy: Entropy,
    /// Where requests are counted.
    pub metrics: Metrics,
}

/// Answers requests. Cheap to clone: each connection holds one.
#[derive(Clone)]
pub struct Server {
    parts: Arc<ServerParts>,
    recorder: Arc<Recorder>,
}

impl Server {
    /// A server that works with `parts`. Registers its metrics, so make one only and clone it.
    pub fn new(parts: ServerParts) -> Self {
        let recorder = Arc::new(Recorder::new(&parts.metrics, parts.clock.clone()));
        // Weak, so that the registry of a process does not keep an edge and its replica's lock alive.
        let (view, tunnels) = (Arc::downgrade(&parts.view), Arc::downgrade(&parts.tunnels));
        let age = "Since the edge was last up to date; -1: never";
        parts.metrics.gauge_from("edge_feed_age_seconds", age, move || {
            let age = view.upgrade().and_then(|view| view.age());
            age.map_or(-1, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
        });
        parts.metrics.gauge_from("edge_tunnels", "Warpgates connected", move || {
            tunnels.upgrade().map_or(0, |tunnels| i64::try_from(tunnels.len()).unwrap_or(i64::MAX))
        });
        Self { parts: Arc::new(parts), recorder }
    }

    /// What must run beside the requests: denial reports. Never ends by itself; the owner runs it once, on any
    /// worker, and may drop it at any time.
    pub fn background(&self) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.recorder).report(Arc::clone(&self.parts.link))
    }

    /// Answers one request of `connection`. Dropping the future, or the body of the response, gives the request up.
    pub async fn handle(&self, request: Request<Body>, connection: &ConnectionInfo) -> Response<Body> {
        let (head, body) = request.into_parts();
        let ask = Ask::new(&head, connection, &self.parts.entropy);
        let mut line = Line::new(&self.recorder, &ask);
        let answer = match self.answer(&ask, head, body, connection, &mut line).await {
            Ok(answer) => answer,
            Err(refusal) => {
                line.refused(&refusal);
                Answer::Own(respond::refuse(&refusal, ask.asker()))
            }
        };
        answer.into_response(line)
    }

    async fn answer(
        &self,
        ask: &Ask,
        head: Parts,
        body: Body,
        connection: &ConnectionInfo,
        line: &mut Line,
    ) -> Result<Answer, Refusal> {
        let parts = &*self.parts;
        let address = inbound::address(ask, &head, connection)?;
        line.host(&address.authority.host);
        if parts.hosts.which(&address.authority.host).is_some() {
            line.platform();
            // Boxed, as all that is rare: the future of an ordinary request stays small.
            let serving = platform::serve(head, body, &address.authority, connection, parts);
            return Ok(Answer::Platform(Box::pin(serving).await?));
        }
        let site = route::site(&address, &parts.view)?;
        let endpoint = own::endpoint(&address.path);
        let inbound = inbound::strip(ask, address, head.headers, body)?;
        if let Some(endpoint) = endpoint {
            return Ok(Answer::Own(Box::pin(own::serve(endpoint, inbound, &site, parts)).await?));
        }
        let routed = route::find(inbound, site)?;
        line.route(&routed.site, &routed.route);
        let identified = authenticate::identify(routed, &parts.view, &parts.clock).await?;
        if let Ok(somebody) = &identified.sender {
            line.subject(somebody.caller.identity.subject);
        }
        let permitted = authorize::permit(identified, &parts.hosts, &parts.entropy)?;
        line.permitted();
        let forwarded = forward::send(permitted, parts).await?;
        Ok(Answer::Forwarded(Box::new(forwarded)))
    }
}
