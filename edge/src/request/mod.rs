//! The way of a request, stage by stage. Each takes the value of the one before and returns the next, so that a skipped
//! check does not compile; none makes a response: a refusal is a value that [`respond`] turns into one.
//!
//! ```text
//! inbound       Ask → Address → Inbound   canonical host and path, ours taken out, reserved fields stripped
//! route         Inbound → Routed          the site table
//! rules         Routed → Open             preflights and maintenance are answered; the rate of the address
//! authenticate  Open → Identified         cookie or key → view
//! authorize     Identified → Permitted    model::policy::decide; nothing else makes one
//! limits        Permitted → Afforded      the body's length, the caller's rate, the project's share
//! forward       Afforded → Forwarded      a tunnel, an exchange
//! answer        → Response                counted and written down when its body has ended
//! ```
//!
//! Aside from it: [`own`] (`/.mezu/…`), [`platform`] (console, login, connect), [`sign_in`] (where a refusal sends people),
//! [`cors`] (what is said to pages of other origins, on whatever is answered).

mod answer;
mod authenticate;
mod authority;
mod authorize;
mod cookie;
mod cors;
mod forward;
mod hsts;
mod inbound;
mod limits;
mod own;
mod platform;
mod record;
mod refusal;
mod respond;
mod route;
mod rules;
mod sign_in;
mod told;
mod wants;

use std::future::Future;
use std::sync::{Arc, Weak};

use ::http::request::Parts;
use ::http::{Request, Response};
use mezusphere_model::link::ControlLink;
use mezusphere_model::{Clock, Entropy, Platform};
use mezusphere_telemetry::Metrics;

use self::answer::Answer;
use self::authority::AuthorityError;
use self::cors::Grant;
use self::inbound::Ask;
use self::record::{Line, Names, Recorder};
use self::refusal::Refusal;
use self::rules::Opened;
use crate::config::PlatformService;
use crate::fair::Fair;
use crate::http::{Body, ConnectionInfo};
use crate::tls::is_ours_alone;
use crate::tunnel::Registry;
use crate::view::View;

pub(crate) use self::platform::PlatformServer;
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
    /// Who answers for the platform's own hosts; `None`: nobody here, their connections are passed on unopened.
    pub platform: Option<PlatformService>,
    /// Tells the time.
    pub clock: Clock,
    /// Draws randomness.
    pub entropy: Entropy,
    /// Who uses how much of the edge.
    pub fair: Arc<Fair>,
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
        let recorder = Arc::new(Recorder::new(&parts.metrics, &Names::EDGE, parts.clock.clone()));
        measure(&parts, &recorder);
        Self { parts: Arc::new(parts), recorder }
    }

    /// What must run beside the requests: telling control of denials and of tunnels, and keeping to the memory there is.
    /// Never ends by itself; the owner runs it once, on any worker, and may drop it at any time.
    pub fn background(&self) -> impl Future<Output = ()> + Send + 'static {
        let (parts, recorder) = (Arc::clone(&self.parts), Arc::clone(&self.recorder));
        async move {
            let link = &*parts.link;
            tokio::join!(recorder.denials.report(link), parts.tunnels.reports().send(link), parts.fair.run());
        }
    }

    /// Answers one request of `connection`. Dropping the future, or the body of the response, gives the request up.
    pub async fn handle(&self, request: Request<Body>, connection: &ConnectionInfo) -> Response<Body> {
        let (head, body) = request.into_parts();
        let ask = Ask::new(&head, connection, &self.parts.entropy);
        let mut along = Along::from(Line::new(&self.recorder, &ask));
        let answered = self.answer(&ask, head, body, connection, &mut along).await;
        if answered.as_ref().is_err_and(Refusal::is_of_excess) {
            Box::pin(self.parts.fair.cool()).await;
        }
        respond_to(&ask, answered, along)
    }

    async fn answer(
        &self,
        ask: &Ask,
        head: Parts,
        body: Body,
        connection: &ConnectionInfo,
        Along { line, grant }: &mut Along,
    ) -> Result<Answer, Refusal> {
        let parts = &*self.parts;
        let address = inbound::address(ask, &head, connection)?;
        line.host(&address.authority.host);
        if parts.hosts.which(&address.authority.host).is_some() {
            line.platform();
            // Whoever shares another host's connection for it is told to come on one of its own.
            let service = parts.platform.as_ref().ok_or(AuthorityError::Misdirected)?;
            // Boxed, as all that is rare: the future of an ordinary request stays small.
            let serving = platform::serve(ask, head, body, &address.authority, connection, service);
            return Ok(Answer::Platform(Box::pin(serving).await?));
        }
        if is_ours_alone(&parts.hosts, &address.authority.host, ask.uri.path()) {
            return Err(Refusal::NoRoute);
        }
        let site = route::site(&address, &parts.view)?;
        let endpoint = own::endpoint(&address.path);
        let inbound = inbound::strip(ask, address, head.headers, head.extensions, body)?;
        if let Some(endpoint) = endpoint {
            return Ok(Answer::Own(Box::pin(own::serve(endpoint, inbound, &site, parts)).await?));
        }
        let routed = route::find(inbound, site)?;
        line.route(&routed.site, &routed.route);
        *grant = Grant::of(&routed.route, &routed.inbound.headers);
        let open = match rules::open(routed, parts)? {
            Opened::Open(open) => open,
            Opened::Preflight(answer) => {
                line.answered("preflight");
                return Ok(Answer::Preflight(answer));
            }
        };
        let identified = authenticate::identify(open, &parts.view, &parts.clock).await?;
        if let Ok(somebody) = &identified.sender {
            line.subject(somebody.caller.identity.subject);
        }
        let permitted = authorize::permit(identified, &parts.hosts, &parts.clock, &parts.entropy)
            .map_err(|refusal| sign_in::unless_away(refusal, ask, &*parts.link))?;
        line.permitted(permitted.would_deny());
        if let Some(answer) = rules::redirect(&permitted) {
            return Ok(Answer::Own(answer));
        }
        let afforded = limits::afford(permitted, parts, line)?;
        let forwarded = forward::send(afforded, parts).await?;
        Ok(Answer::Forwarded(Box::new(forwarded), Arc::clone(&parts.fair.ledger)))
    }
}

/// What goes along with a request from stage to stage, and is needed again when there is an answer, whoever made it.
struct Along {
    line: Line,
    /// What its route says to pages of other origins.
    grant: Option<Grant>,
}

impl From<Line> for Along {
    fn from(line: Line) -> Self {
        Self { line, grant: None }
    }
}

/// What the client gets, and the line that is written when it has it.
fn respond_to(ask: &Ask, answered: Result<Answer, Refusal>, along: Along) -> Response<Body> {
    let Along { mut line, grant } = along;
    let answer = answered.unwrap_or_else(|refusal| {
        line.refused(&refusal);
        Answer::Own(respond::refuse(&refusal, ask.asker(), &ask.wanted()))
    });
    let is_preflight = matches!(answer, Answer::Preflight(_));
    let mut response = answer.into_response(line);
    if let Some(grant) = grant {
        grant.put(response.headers_mut(), is_preflight);
    }
    hsts::put(response.headers_mut(), ask.wanted().host.as_ref());
    response
}

/// Shows what the edge keeps anyway. Weak, so that the registry of a process does not keep an edge and its replica's
/// lock alive.
fn measure(parts: &ServerParts, recorder: &Arc<Recorder>) {
    let (view, tunnels) = (Arc::downgrade(&parts.view), Arc::downgrade(&parts.tunnels));
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let metrics = &parts.metrics;
    let age = "Since the edge was last up to date; -1: never";
    metrics.gauge_from("edge_feed_age_seconds", age, {
        let view = Weak::clone(&view);
        move || view.upgrade().and_then(|view| view.age()).map_or(-1, |age| number(age.as_secs()))
    });
    metrics.gauge_from("edge_tunnels", "Warpgates connected", {
        let tunnels = Weak::clone(&tunnels);
        move || {
            tunnels.upgrade().map_or(0, |tunnels| number(u64::try_from(tunnels.len()).unwrap_or(u64::MAX)))
        }
    });
    let dropped = "Reports to control dropped for want of room while it was away: activity of sessions";
    metrics.gauge_from("edge_activity_dropped", dropped, move || {
        view.upgrade().map_or(0, |view| number(view.activity_dropped()))
    });
    let dropped = "Reports to control dropped for want of room while it was away: denials";
    let recorder = Arc::downgrade(recorder);
    metrics.gauge_from("edge_denials_dropped", dropped, move || {
        recorder.upgrade().map_or(0, |recorder| number(recorder.denials.dropped()))
    });
    let dropped = "Reports to control dropped for want of room while it was away: tunnels that ended";
    metrics.gauge_from("edge_tunnel_reports_dropped", dropped, move || {
        tunnels.upgrade().map_or(0, |tunnels| number(tunnels.reports().dropped()))
    });
}
