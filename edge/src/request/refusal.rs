//! Why a request gets no response from an upstream: every reason there is, as a value.
//!
//! Stages return these; none of them makes a response. [`super::respond`] is the one place that knows how each
//! is told, and to whom.

use std::time::Duration;

use mezusphere_model::id::SessionId;
use mezusphere_model::path::PathError;
use mezusphere_model::policy::Denial;
use mezusphere_model::route::StepUp;
use tunnel_proto::codes::FailureCode;

use super::authority::AuthorityError;
use crate::fair::share::BusyWhy;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request names no host, several, or one this connection is not for.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The path holds what no path may hold.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The path can be read in two ways that lead to different routes.
    #[error("the path can be read in more than one way")]
    AmbiguousPath,
    /// The method is `CONNECT` or `TRACE`, which a published application never gets.
    #[error("the method is not allowed")]
    Method,
    /// An extended CONNECT (RFC 8441, RFC 9220).
    #[error("extended CONNECT is not implemented")]
    ExtendedConnect,
    /// An endpoint of the edge's own does not take this method.
    #[error("this address takes {0} only")]
    OwnMethod(&'static str),
    /// The head is too large for the tunnel, or a body too large for an endpoint of the edge's own.
    #[error("the request is too large")]
    TooLarge,
    /// The body ended before, or went on after, the length the head gave; or its framing broke.
    #[error("the body does not match its head")]
    Body,
    /// Nothing is published under the host.
    #[error("unknown host")]
    UnknownHost,
    /// Nothing is published under the path.
    #[error("no route")]
    NoRoute,
    /// The route asks for a newer edge than this one.
    #[error("the route needs a newer version")]
    TooNew,
    /// Nobody is signed in, and the route asks for somebody.
    #[error("sign-in is required: {0}")]
    SignIn(SignInWhy, Box<SignInWay>),
    /// The API key is not one this project knows, or may not be used here.
    #[error("the API key is refused: {0}")]
    Key(KeyWhy),
    /// Somebody is signed in and may not; with the account's name, for its owner. Without one it is a stranger, who is told
    /// nothing.
    #[error("denied: {0}")]
    Denied(Denial, Option<Box<str>>),
    /// Somebody is signed in, and has to prove again or more strongly who they are (RFC 9470).
    #[error("a further sign-in is required: {0}")]
    StepUp(Denial, Box<StepUpWay>),
    /// A form came from another site, or without its token.
    #[error("the form did not come from this site")]
    Forged,
    /// A sign-in came back and cannot be finished.
    #[error("the sign-in cannot be finished: {0}")]
    Callback(CallbackWhy),
    /// This address has asked for too much that costs something.
    #[error("too many requests")]
    TooMany(Duration),
    /// The body is longer than the route takes: this many octets.
    #[error("the body is longer than the {0} octets the route takes")]
    BodyTooLarge(u64),
    /// The route's rate is used up; with how long to wait.
    #[error("the rate by {by} is used up")]
    RateLimited {
        /// By what the route counts: `address`, `caller`, or `route`.
        by: &'static str,
        /// How long to wait.
        wait: Duration,
    },
    /// The address has as many requests under way as one address may have.
    #[error("the address has too many requests under way")]
    AddressBusy,
    /// The project has used up its share of this edge; with how long to wait.
    #[error("the project has used up its share of the edge: {0}")]
    ProjectBusy(BusyWhy, Duration),
    /// The edge has as many requests under way as it takes, or gave this one up to keep its memory.
    #[error("the edge is full")]
    Overloaded,
    /// The route is closed for now; with what its owner says, and when to come back, in seconds.
    #[error("maintenance")]
    Maintenance(Box<str>, Option<u32>),
    /// Another site's page asks for what the route lets only its own pages, and those it names, ask for.
    #[error("the origin is not allowed")]
    OriginRefused,
    /// The edge has been without its feed for so long that it no longer decides who may pass.
    #[error("the edge has had no contact for too long")]
    Stale,
    /// The replica cannot be read.
    #[error("the replica cannot be read")]
    Replica,
    /// Control is needed for this one request, and away.
    #[error("control is away")]
    ControlAway,
    /// A session is over where it begins.
    #[error("the clocks of this edge and of control differ")]
    Clocks,
    /// Somebody would be sent to sign in, and no control node answers there.
    #[error("nobody answers where to sign in")]
    SignInAway,
    /// Control says that the session behind the request is not good.
    #[error("control refused the session")]
    ControlRefused,
    /// The edge has not been told anything yet.
    #[error("the edge is starting")]
    Starting,
    /// No warpgate of the environment is connected here.
    #[error("no warpgate is connected")]
    NoTunnel,
    /// Warpgates are connected, and none of them reaches this upstream.
    #[error("no connected warpgate offers the upstream")]
    NoUpstream,
    /// Every tunnel is at its limit of exchanges.
    #[error("the tunnel is busy")]
    TunnelBusy,
    /// The tunnel broke, and the request may have been acted on.
    #[error("the tunnel was lost")]
    TunnelLost,
    /// The warpgate broke the protocol.
    #[error("the warpgate broke the protocol")]
    TunnelProtocol,
    /// No response head in time.
    #[error("no response in time")]
    HeadTimeout,
    /// The whole of it took longer than the route allows.
    #[error("the exchange took too long")]
    TotalTimeout,
    /// The request's body stood still for too long.
    #[error("the request's body stood still")]
    BodyTimeout,
    /// The warpgate says why.
    #[error("{0}")]
    Warpgate(FailureCode),
    /// The platform's own service failed. Cannot happen while its error type is `Infallible`.
    #[error("internal")]
    Internal,
}

/// How somebody can sign in and come back to what they asked for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SignInWay {
    /// The sign-in page at the login host.
    pub(crate) url: String,
    /// The cookie that ties that sign-in to this browser, as a `set-cookie` value.
    pub(crate) set_cookie: String,
}

impl std::fmt::Debug for SignInWay {
    /// Without the cookie: it is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignInWay").field("url", &self.url).finish_non_exhaustive()
    }
}

/// How somebody who is signed in can prove more, and come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepUpWay {
    /// Where to sign in.
    pub(crate) way: SignInWay,
    /// What the route asks of a sign-in.
    pub(crate) needs: StepUp,
    /// Who is signed in.
    pub(crate) account: Box<str>,
    /// The session that is not enough.
    pub(crate) session: SessionId,
    /// They have just come back from there, and it was not enough: sent again, they would go round in circles.
    pub(crate) is_again: bool,
}

/// Why nobody counts as signed in. For the log only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignInWhy {
    /// There is no session cookie.
    #[error("no session")]
    None,
    /// There is one that is no session's.
    #[error("unknown session")]
    Unknown,
    /// It belongs to another host or project.
    #[error("session of another host")]
    Elsewhere,
    /// It has ended by time.
    #[error("expired session")]
    Expired,
    /// It has ended by being left alone.
    #[error("idle session")]
    Idle,
    /// It was ended: sign-out, suspension, password change.
    #[error("ended session")]
    Ended,
}

/// Why an API key is no good here. For the log only: to its holder all are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyWhy {
    /// It is not a whole key.
    #[error("malformed")]
    Malformed,
    /// There is no such key, or its secret is wrong.
    #[error("unknown")]
    Unknown,
    /// It has expired.
    #[error("expired")]
    Expired,
    /// It belongs to another project or environment.
    #[error("of another project")]
    Elsewhere,
    /// It may not call routes.
    #[error("without the scope `request`")]
    Scope,
    /// Its service account is suspended or gone.
    #[error("of an account that is not active")]
    Inactive,
}

/// Why a sign-in that came back cannot be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallbackWhy {
    /// This browser did not begin one, or too long ago.
    #[error("this browser began none")]
    NoState,
    /// There is no usable code.
    #[error("no code")]
    NoCode,
    /// The code was used, has expired, or is for another host or browser.
    #[error("the code is no longer good")]
    Spent,
}

impl Refusal {
    /// Whether it is told to somebody who asks for more than they may have, and would at once ask again.
    pub(crate) fn is_of_excess(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::AddressBusy | Self::ProjectBusy(..))
    }

    /// Its stable code, listed in `docs/errors.md`.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Authority(AuthorityError::Misdirected) => "edge.misdirected",
            Self::Authority(_) => "edge.bad_host",
            Self::Path(_) => "edge.bad_path",
            Self::AmbiguousPath => "edge.ambiguous_path",
            Self::Method | Self::OwnMethod(_) => "edge.method",
            Self::ExtendedConnect => "edge.not_implemented",
            Self::TooLarge => "edge.too_large",
            Self::Body => "edge.bad_body",
            Self::UnknownHost => "edge.unknown_host",
            Self::NoRoute => "edge.no_route",
            Self::TooNew => "edge.route_too_new",
            Self::SignIn(..) => "edge.sign_in_required",
            Self::Key(_) => "edge.key_refused",
            Self::Denied(..) => "edge.denied",
            Self::StepUp(_, way) if way.is_again => "edge.step_up_failed",
            Self::StepUp(..) => "edge.step_up_required",
            Self::Forged => "edge.forged_form",
            Self::Callback(_) => "edge.sign_in_failed",
            Self::TooMany(_) => "edge.too_many",
            Self::BodyTooLarge(_) => "edge.body_too_large",
            Self::RateLimited { .. } => "edge.rate_limited",
            Self::AddressBusy => "edge.address_busy",
            Self::ProjectBusy(..) => "edge.project_busy",
            Self::Overloaded => "edge.overloaded",
            Self::Maintenance(..) => "edge.maintenance",
            Self::OriginRefused => "edge.origin_refused",
            Self::Stale => "edge.stale",
            Self::Replica => "edge.replica",
            Self::ControlAway | Self::SignInAway => "edge.control_away",
            Self::Clocks => "edge.clocks_differ",
            Self::ControlRefused => "edge.session_refused",
            Self::Starting => "edge.starting",
            Self::NoTunnel => "edge.no_tunnel",
            Self::NoUpstream => "edge.no_upstream",
            Self::TunnelBusy => "edge.tunnel_busy",
            Self::TunnelLost => "edge.tunnel_lost",
            Self::TunnelProtocol => "edge.tunnel_protocol",
            Self::HeadTimeout => "edge.head_timeout",
            Self::TotalTimeout => "edge.total_timeout",
            Self::BodyTimeout => "edge.body_timeout",
            Self::Warpgate(code) => code.name(),
            Self::Internal => "edge.internal",
        }
    }
}
