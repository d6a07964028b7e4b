//! The joiner: dials the control nodes it knows of one after the other, checks who answers, asks, and checks the reply.
//!
//! A new edge knows one root, from its token. To one that comes back, whoever answers must be good by all it knows, retired CAs
//! and evicted nodes included: what is answered becomes its trust.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::clock::{Clock, Timestamp};
use mezusphere_model::document::{NodeAddress, TrustDoc};
use mezusphere_model::id::EdgeId;
use mezusphere_model::join_token::JoinToken;
use mezusphere_model::link::AboutEdge;
use mezusphere_pki::identity::IdentityError;
use mezusphere_pki::key::KeyError;
use mezusphere_pki::tls::{TlsSetupError, connect_client_config, rejoin_client_config};
use mezusphere_pki::{
    CurrentTrust, ExpectedRole, NodeIdentity, NodeKey, PeerError, Role, Trust, TrustError, possession,
    verify_peer,
};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::message::{Answered, JoinRefused, JoinReply, JoinRequest, RejoinRequest, refusal};
use crate::client::{LinkProblem, dial};
use crate::frame::{self, FrameError};
use crate::limits::JOIN_MESSAGE_LEN_MAX;
use crate::{ALPN_JOIN, ALPN_REJOIN};

/// For one control node to be connected: name look-up, TCP and TLS.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// For its answer: control writes to its database and signs a certificate.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// What a new edge holds once it is in.
#[derive(Debug)]
pub struct Joined {
    /// Who it is.
    pub edge: EdgeId,
    /// What operators call it.
    pub name: String,
    /// Its certificate and the key it made. Nobody else has the key.
    pub identity: NodeIdentity,
    /// Whom to trust, to be kept until the feed brings something newer.
    pub trust: TrustDoc,
    /// Where control nodes are.
    pub controls: Vec<NodeAddress>,
    /// By how much control's clock is ahead of ours, in microseconds; negative if it is behind.
    pub clock_ahead_micros: i64,
}

/// Why an edge could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No control node could be asked. Nothing was sent, so a token is as good as before.
    #[error("no control node could be asked; the last, {}: {}", .0.control_text(), .0.message)]
    Unreached(LinkProblem),
    /// The request was sent and no answer came: the invitation may be used up.
    #[error("control node {control} took the request and did not answer: {why}")]
    NoAnswer {
        /// Which one.
        control: String,
        /// What was seen.
        why: String,
    },
    /// Control said no.
    #[error(transparent)]
    Refused(JoinRefused),
    /// What control answered does not fit together.
    #[error("control answered what cannot be used: {0}")]
    Reply(String),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

impl JoinError {
    /// A stable dotted word, listed in `docs/errors.md`.
    pub fn code(&self) -> &str {
        match self {
            Self::Unreached(problem) => problem.code,
            Self::NoAnswer { .. } => "join.no_answer",
            Self::Refused(refused) => &refused.code,
            Self::Reply(_) => "join.bad_reply",
            Self::Key(_) | Self::Tls(_) => "join.failed",
        }
    }

    /// What to do next, for people.
    pub fn next(&self) -> &str {
        match self {
            Self::Unreached(problem) => problem.next,
            Self::NoAnswer { .. } => {
                "Start the edge once more; if the invitation then counts as used, ask for a new join token."
            }
            Self::Refused(refused) => &refused.next,
            Self::Reply(_) => {
                "Check that edge and control are of one version, then ask for a new join token."
            }
            Self::Key(_) | Self::Tls(_) => "This is a fault of the program; report it with this message.",
        }
    }
}

/// Joins with `token`: makes a key, has it certified, and returns all an edge needs to start.
///
/// Control nodes are tried in the token's order: the next one if nothing was sent, or if one is busy. At most 20 s
/// for each. Not cancel safe in one respect: a request that was sent may have used the invitation up.
pub async fn join(token: &JoinToken, about: AboutEdge, clock: &Clock) -> Result<Joined, JoinError> {
    let key = NodeKey::generate()?;
    let request = JoinRequest {
        id: token.id,
        secret: token.secret.clone(),
        csr_der: key.csr_der()?,
        about,
        edge_time: clock.now(),
    };
    let tls = connect_client_config(token.root, clock, &[ALPN_JOIN])?;
    let reply = ask_each(&token.controls, tls, ALPN_JOIN, &request, clock).await?;
    accept(reply, key, None, clock.now())
}

/// Gets the next certificate of an edge that was in, whose last one (`was`) opens no link any more: makes a key, proves that
/// it holds the old one, and has the new one certified. `trust`: whom it trusted then; roots may have changed since, and control
/// shows how.
///
/// Control nodes are tried in the order given, as [`join`] does it. May be asked again after any failure.
pub async fn rejoin(
    was: &NodeIdentity,
    trust: &CurrentTrust,
    controls: &[NodeAddress],
    about: AboutEdge,
    clock: &Clock,
) -> Result<Joined, JoinError> {
    let (Role::Edge(edge), Some(leaf)) = (was.name().role, was.chain().first()) else {
        return Err(JoinError::Reply("the certificate that was kept is no edge's".to_owned()));
    };
    let key = NodeKey::generate()?;
    let csr_der = key.csr_der()?;
    let request = RejoinRequest {
        leaf_der: leaf.to_vec(),
        proof: possession::prove(was, &csr_der)?,
        csr_der,
        about,
        edge_time: clock.now(),
    };
    let tls = rejoin_client_config(trust, clock, &[ALPN_REJOIN])?;
    let reply = ask_each(controls, tls, ALPN_REJOIN, &request, clock).await?;
    accept(reply, key, Some(edge), clock.now())
}

/// Asks one control node after the other until one says yes or no.
async fn ask_each(
    controls: &[NodeAddress],
    tls: ClientConfig,
    alpn: &[u8],
    request: &(impl Serialize + Sync),
    clock: &Clock,
) -> Result<JoinReply, JoinError> {
    let tls = Arc::new(tls);
    let mut last = None;
    for control in controls {
        // An edge has a chain to the same root too, and must not play control: its certificate is refused.
        let dialled = timeout(CONNECT_WAIT, dial(&tls, alpn, control, clock)).await;
        let silent = |_| Err(LinkProblem::silent(control.clone(), clock.now()));
        let stream = match dialled.unwrap_or_else(silent) {
            Ok((stream, _peer)) => stream,
            Err(problem) => {
                last = Some(Unmet::Problem(problem));
                continue;
            }
        };
        match timeout(ANSWER_WAIT, ask(stream, request)).await {
            Ok(Ok(Answered::Joined(reply))) => return Ok(*reply),
            Ok(Ok(Answered::Refused(refused))) if refused.code == refusal::BUSY => {
                last = Some(Unmet::Busy(refused));
            }
            Ok(Ok(Answered::Refused(refused))) => return Err(JoinError::Refused(refused)),
            Ok(Err(FrameError::Malformed(why))) => return Err(JoinError::Reply(why)),
            Ok(Err(why)) => {
                return Err(JoinError::NoAnswer { control: text(control), why: why.to_string() });
            }
            Err(_) => {
                let why = format!("nothing came within {} s", ANSWER_WAIT.as_secs());
                return Err(JoinError::NoAnswer { control: text(control), why });
            }
        }
    }
    Err(match last {
        Some(Unmet::Problem(problem)) => JoinError::Unreached(problem),
        Some(Unmet::Busy(refused)) => JoinError::Refused(refused),
        None => JoinError::Reply("no control node is known".to_owned()),
    })
}

/// Why the next control node was tried.
enum Unmet {
    Problem(LinkProblem),
    Busy(JoinRefused),
}

fn text(control: &NodeAddress) -> String {
    format!("{}:{}", control.host, control.port)
}

async fn ask(mut stream: TlsStream<TcpStream>, request: &impl Serialize) -> Result<Answered, FrameError> {
    frame::write(&mut stream, request, JOIN_MESSAGE_LEN_MAX).await?;
    frame::read(&mut stream, JOIN_MESSAGE_LEN_MAX).await
}

/// Checks that the reply makes us the edge it names, which must be `expected` if that is known, by what it tells us to
/// trust. That may be newer roots than the one that was asked for: in the handshake a control node has proved that its chain
/// leads there, and what it says on that connection is control's word.
fn accept(
    reply: JoinReply,
    key: NodeKey,
    expected: Option<EdgeId>,
    now: Timestamp,
) -> Result<Joined, JoinError> {
    if expected.is_some_and(|expected| expected != reply.edge) {
        return Err(JoinError::Reply(format!("it names another edge, {}", reply.edge)));
    }
    let doc = &reply.trust;
    let trust = Trust::from_pem(
        &doc.trust_domain,
        doc.roots_pem.iter().map(String::as_str),
        doc.denied.iter().cloned(),
    )
    .map_err(|why: TrustError| JoinError::Reply(why.to_string()))?;
    let chain: Vec<_> = reply.chain_der.into_iter().map(CertificateDer::from).collect();
    verify_peer(&chain, &trust, now, ExpectedRole::Edge(reply.edge))
        .map_err(|why: PeerError| JoinError::Reply(why.to_string()))?;
    let identity =
        NodeIdentity::new(chain, key).map_err(|why: IdentityError| JoinError::Reply(why.to_string()))?;
    Ok(Joined {
        edge: reply.edge,
        name: reply.name,
        identity,
        trust: reply.trust,
        controls: reply.controls,
        clock_ahead_micros: reply.control_time.as_micros().saturating_sub(now.as_micros()),
    })
}
