//! What an edge may ask of control, and nothing more: the port between the two.
//!
//! In one process control implements [`ControlLink`] by direct calls; a split edge implements it over the
//! edge link. Every message is plain data, so both are the same conversation. No request here can read a
//! password hash, a CA key or another tenant's documents.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::document::PrincipalDoc;
use crate::host::Host;
use crate::id::{EdgeId, EnvironmentId, ProjectId, RequestId, RouteId, SessionId};
use crate::session::SessionDoc;
use crate::token::{ApiKeyToken, Token, TokenHash};

/// A future that a trait object can return.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why control gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum LinkError {
    /// Control cannot be reached or is too busy; the same question may be asked again.
    #[error("control is away")]
    Away,
    /// Control looked and refuses; asking again changes nothing.
    #[error("control refused: {0}")]
    Refused(String),
}

/// A session with what an edge needs to use it at once, before the feed brought it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundSession {
    /// The session.
    pub session: SessionDoc,
    /// Who it belongs to.
    pub principal: PrincipalDoc,
}

/// A code from the login host, to be turned into a session on an app host. Good once, for 60 s.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RedeemCode {
    /// The code's text, as it came in the query.
    pub code: String,
    /// The app host it was redeemed on; must be the one it was made for.
    pub host: Host,
    /// SHA-256 of the state cookie's secret, base64url; must be what sign-in was begun with.
    pub state_hash: String,
    /// The session the client held on this host until now; it ends when the new one begins (R11).
    #[serde(default)]
    pub replaces: Option<TokenHash>,
}

/// A new session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Redeemed {
    /// The session's token as text: the edge writes the cookie from it and `born_at`.
    pub token: String,
    /// The session and its principal.
    pub found: FoundSession,
    /// Revision of the project's partition that holds the session.
    pub born_at: u64,
    /// Path and query on the app host where the user wanted to go.
    pub return_to: String,
}

/// Who an assertion is asked for: the edge must hold the client's own credential.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The token of a session cookie.
    Session(Token),
    /// A machine's API key.
    ApiKey(ApiKeyToken),
}

/// An assertion and until when to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedAssertion {
    /// The JWS, compact serialization.
    pub jws: String,
    /// When it ends; ask anew at half-life.
    pub expires_at: Timestamp,
    /// Version of the principal document it was made from.
    pub principal_version: u64,
}

/// That a session was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Which session.
    pub session: SessionId,
    /// Of which project.
    pub project: ProjectId,
    /// When last.
    pub seen_at: Timestamp,
}

/// A denial worth keeping: counted per route and reason, never one entry per request of a stranger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialCount {
    /// Of which project.
    pub project: ProjectId,
    /// At which route.
    pub route: RouteId,
    /// The stable reason code.
    pub reason: String,
    /// Who, if they were signed in.
    pub subject: Option<String>,
    /// How often since the last report.
    pub count: u64,
    /// The newest one.
    pub last: Timestamp,
    /// The newest request.
    pub last_request: RequestId,
}

/// A tunnel an edge holds or has lost, for the Console and `warpgate list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelReport {
    /// The warpgate's SPIFFE URI.
    pub warpgate: String,
    /// Its environment.
    pub environment: EnvironmentId,
    /// At which edge.
    pub edge: EdgeId,
    /// From where it dials.
    pub remote: SocketAddr,
    /// Its version.
    pub agent: String,
    /// Upstream names it declared.
    pub upstreams: Vec<String>,
    /// Those of them that do not answer as they should by the warpgate's own checks, each as `name: why`.
    #[serde(default)]
    pub bad_upstreams: Vec<String>,
    /// What carries it.
    #[serde(default)]
    pub transport: TunnelTransport,
    /// Connected now, or gone.
    pub connected: bool,
    /// Since when.
    pub at: Timestamp,
}

/// What carries a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelTransport {
    /// QUIC, the rule; what an edge that does not say uses.
    #[default]
    Quic,
    /// HTTP/2 over TCP, where UDP does not pass.
    Tcp,
}

impl TunnelTransport {
    /// Its name, for logs and lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// What an edge says of itself at each contact that is new, and at least every [`ABOUT_EVERY`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AboutEdge {
    /// Its program's version.
    pub version: String,
    /// Where it stands, for people.
    pub region: String,
    /// Host name or address where warpgates dial it.
    pub host: String,
    /// UDP and TCP port of the same.
    pub port: u16,
    /// It takes no new tunnels or connections any more.
    pub draining: bool,
}

/// Between two reports of an edge about itself; `edge list` shows one as away after three missed ones.
pub const ABOUT_EVERY: Duration = Duration::from_secs(10);

/// The questions. An implementation belongs to one edge: who asks is never part of a message.
pub trait ControlLink: Send + Sync + 'static {
    /// Certifies the edge's next key: a certificate request (PKCS #10, DER) in, the chain out, leaf first (DER).
    fn certify(&self, csr_der: Vec<u8>) -> Answer<'_, Result<Vec<Vec<u8>>, LinkError>>;

    /// Tells where the edge is and how it does; a new address goes into every bundle.
    fn about(&self, about: AboutEdge) -> Answer<'_, Result<(), LinkError>>;

    /// Turns a hand-off code into a session.
    fn redeem(&self, code: RedeemCode) -> Answer<'_, Result<Redeemed, LinkError>>;

    /// The session with this token, for an edge the feed has not reached yet. `None`: there is none.
    fn find_session(&self, token: Token) -> Answer<'_, Result<Option<FoundSession>, LinkError>>;

    /// An assertion for the holder of `credential` in `environment`.
    fn assertion(
        &self,
        credential: Credential,
        environment: EnvironmentId,
    ) -> Answer<'_, Result<IssuedAssertion, LinkError>>;

    /// Ends the sign-in the session with this token belongs to.
    fn sign_out(&self, token: Token) -> Answer<'_, Result<(), LinkError>>;

    /// Reports which sessions were used. At most [`ACTIVITY_BATCH_MAX`].
    fn activity(&self, batch: Vec<Activity>) -> Answer<'_, Result<(), LinkError>>;

    /// Reports denials. At most [`DENIAL_BATCH_MAX`].
    fn denials(&self, batch: Vec<DenialCount>) -> Answer<'_, Result<(), LinkError>>;

    /// Reports a tunnel that came or went.
    fn tunnel(&self, report: TunnelReport) -> Answer<'_, Result<(), LinkError>>;

    /// Reports every tunnel the edge holds `at` this moment of its clock, at most [`TUNNELS_HELD_MAX`]: whatever else is
    /// listed for it with an earlier [`TunnelReport::at`] is gone, and went then. Sent at the edge's start and whenever
    /// single reports may have been lost.
    ///
    /// Unless an implementation does better, each is reported by itself, and what is gone stays listed.
    fn tunnels(&self, held: Vec<TunnelReport>, at: Timestamp) -> Answer<'_, Result<(), LinkError>> {
        let _: Timestamp = at;
        Box::pin(async move {
            for report in held {
                if self.tunnel(report).await == Err(LinkError::Away) {
                    return Err(LinkError::Away);
                }
            }
            Ok(())
        })
    }

    /// Grows each time control was found after it was away, or another control node answers: what was reported before
    /// may not have arrived. Stays 0 where control and edge are one process.
    fn contacts(&self) -> u64 {
        0
    }

    /// Whether no control node answers: whoever is sent to one's pages now meets nobody. Never where control and edge are one
    /// process.
    fn is_away(&self) -> bool {
        false
    }

    /// Answers one message of the connect protocol (enrollment, bundle): JSON in, JSON out, both at most
    /// [`CONNECT_MESSAGE_LEN_MAX`]. The edge relays it without reading it.
    fn connect(&self, message: Vec<u8>, from: SocketAddr) -> Answer<'_, Result<Vec<u8>, LinkError>>;
}

/// Most sessions in one activity report.
pub const ACTIVITY_BATCH_MAX: usize = 1000;

/// Most entries in one denial report.
pub const DENIAL_BATCH_MAX: usize = 1000;

/// Most tunnels in one report of all: as many as an edge holds. About 400 octets of JSON each.
pub const TUNNELS_HELD_MAX: usize = 10_000;

/// Largest message of the connect protocol, in octets: a bundle and a chain fit.
pub const CONNECT_MESSAGE_LEN_MAX: usize = 2 * 1024 * 1024;

/// Where a request to a platform host came from, as an extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub SocketAddr);
