//! Sessions: a signed-in client on one app host, and whether one is still good.
//!
//! A session document never changes; what changes (status, roles) is the [`PrincipalDoc`] it points to.
//! [`PrincipalDoc`]: crate::document::PrincipalDoc

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::host::Host;
use crate::id::{ProjectId, SessionId, SignInId, UserId};
use crate::identity::{Assurance, Method};
use crate::token::TokenHash;

/// A session as edges know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDoc {
    /// Which session.
    pub id: SessionId,
    /// SHA-256 of the token the client holds; the key under which an edge finds this document.
    pub token_hash: TokenHash,
    /// The sign-in at the login host that it is a child of.
    pub sign_in: SignInId,
    /// Who signed in.
    pub user: UserId,
    /// The only project it is good for.
    pub project: ProjectId,
    /// The only host it is good for.
    pub host: Host,
    /// How they signed in, sorted.
    pub methods: Vec<Method>,
    /// How strongly.
    pub assurance: Assurance,
    /// When they last proved it.
    pub authenticated_at: Timestamp,
    /// When the session began.
    pub issued_at: Timestamp,
    /// When it ends whatever happens.
    pub expires_at: Timestamp,
    /// It also ends after this long without a request, in seconds; 0: never for idleness.
    pub idle_s_max: u32,
    /// The last request known when this document was published.
    pub seen_at: Timestamp,
}

/// Why a session is not good for this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionProblem {
    /// Its absolute end has passed.
    #[error("the session has ended")]
    Expired,
    /// No request for longer than the idle limit.
    #[error("the session was idle for too long")]
    Idle,
    /// It belongs to another host or project.
    #[error("the session belongs to another host")]
    Elsewhere,
}

impl SessionDoc {
    /// Whether the session is good on `host` of `project` at `now`, when this edge last saw it at `seen_here`.
    ///
    /// Idleness counts from the later of the published and the local last-seen.
    pub fn check(
        &self,
        project: ProjectId,
        host: &Host,
        now: Timestamp,
        seen_here: Option<Timestamp>,
    ) -> Result<(), SessionProblem> {
        if self.project != project || self.host != *host {
            return Err(SessionProblem::Elsewhere);
        }
        if now >= self.expires_at {
            return Err(SessionProblem::Expired);
        }
        let seen = seen_here.map_or(self.seen_at, |here| here.max(self.seen_at));
        let idle_max = Duration::from_secs(u64::from(self.idle_s_max));
        if self.idle_s_max != 0 && now.since(seen) >= idle_max {
            return Err(SessionProblem::Idle);
        }
        Ok(())
    }
}
