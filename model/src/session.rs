//! Sessions: a signed-in client on one app host, and whether one is still good.
//!
//! A session document never changes; what changes (status, roles) is the
//! [`PrincipalDoc`](crate::document::PrincipalDoc) it points to.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use crate::token::Token;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn session() -> SessionDoc {
        let entropy = Entropy::counting();
        SessionDoc {
            id: SessionId::random(&entropy),
            token_hash: Token::random(&entropy).hash(),
            sign_in: SignInId::random(&entropy),
            user: UserId::random(&entropy),
            project: ProjectId::from_bits(1),
            host: Host::parse("shop.localhost").unwrap(),
            methods: vec![Method::Password],
            assurance: Assurance::Aal1,
            authenticated_at: at(1000),
            issued_at: at(1000),
            expires_at: at(5000),
            idle_s_max: 600,
            seen_at: at(1000),
        }
    }

    #[test]
    fn r12_a_session_ends_at_its_absolute_and_its_idle_limit() {
        let doc = session();
        let check = |now, seen| doc.check(doc.project, &doc.host, at(now), seen);
        assert_eq!(check(1599, None), Ok(()));
        assert_eq!(check(1600, None), Err(SessionProblem::Idle));
        assert_eq!(check(1600, Some(at(1500))), Ok(()), "this edge saw it later");
        assert_eq!(check(1600, Some(at(900))), Err(SessionProblem::Idle), "the later of the two counts");
        assert_eq!(check(5000, Some(at(4999))), Err(SessionProblem::Expired));
    }

    #[test]
    fn r11_a_session_is_good_on_its_own_host_and_project_only() {
        let doc = session();
        let other = Host::parse("blog.localhost").unwrap();
        assert_eq!(doc.check(doc.project, &other, at(1001), None), Err(SessionProblem::Elsewhere));
        let foreign = ProjectId::from_bits(2);
        assert_eq!(doc.check(foreign, &doc.host, at(1001), None), Err(SessionProblem::Elsewhere));
    }
}
