//! An authenticated caller, decoded once and used for many requests: a session or an API key, and its principal.

use std::sync::Arc;

use mezusphere_model::document::{ApiKeyDoc, PrincipalDoc, Status};
use mezusphere_model::id::{ApiKeyId, EnvironmentId, ProjectId, SessionId};
use mezusphere_model::identity::{Assurance, Method, Subject};
use mezusphere_model::link::FoundSession;
use mezusphere_model::session::{SessionDoc, SessionProblem};
use mezusphere_model::{Host, Identity, Timestamp};

use super::activity::Seen;
use super::assertion::AssertionSlot;
use super::watch::Flag;

/// What a caller presented.
#[derive(Debug)]
pub(crate) enum Holder {
    /// A session, and when it was last seen.
    Session(SessionDoc, Arc<Seen>),
    /// An API key, used in this environment.
    ApiKey(ApiKeyDoc, EnvironmentId),
}

/// Under which name a tunnel remembers a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrincipalKey {
    /// A session.
    Session(SessionId),
    /// An API key.
    ApiKey(ApiKeyId),
}

/// Somebody who proved who they are.
///
/// True until one of its flags is raised; every use asks [`Caller::is_current`] first.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Who, as the policy decides on it.
    pub(crate) identity: Identity,
    /// What they presented.
    pub(crate) holder: Holder,
    /// The assertion that travels with their requests.
    pub(crate) assertion: Arc<AssertionSlot>,
    /// The only project it is good for.
    project: ProjectId,
    /// Of the principal it was decoded from.
    version: u64,
    /// Of every document this was decoded from.
    flags: Box<[Arc<Flag>]>,
    /// Only of what control told ahead of the feed: what it told, and how long that counts.
    pub(crate) ahead: Option<Box<(FoundSession, Ahead)>>,
}

/// How long what control told ahead of the feed may be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// Until when without asking again.
    pub(crate) until: Timestamp,
    /// The revision that brings the session; from there on the replica alone decides.
    pub(crate) born_at: u64,
}

/// Why a caller is not one on this host, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotGood {
    /// Of another host, project or environment.
    Elsewhere,
    /// Ended by time.
    Expired,
    /// Ended by being left alone.
    Idle,
}

impl Caller {
    /// The holder of a session; `None` if the principal or an end of the sign-in says that it is over.
    pub(crate) fn of_session(
        session: SessionDoc,
        principal: PrincipalDoc,
        seen: Arc<Seen>,
        flags: Box<[Arc<Flag>]>,
    ) -> Option<Self> {
        let live = principal.status == Status::Active
            && principal.subject == Subject::User(session.user)
            && principal.project == session.project
            && session.issued_at >= principal.sessions_valid_from;
        if !live {
            return None;
        }
        let identity = Identity {
            subject: principal.subject,
            session: Some(session.id),
            email: principal.email,
            name: principal.name,
            roles: principal.roles,
            permissions: principal.permissions,
            methods: session.methods.clone(),
            assurance: session.assurance,
            authenticated_at: session.authenticated_at,
            claims: principal.claims,
        };
        let (project, version) = (session.project, principal.version);
        let holder = Holder::Session(session, seen);
        Some(Self { identity, holder, assertion: Arc::default(), project, version, flags, ahead: None })
    }

    /// The same from what control told before the feed did; `newer`: a principal that the feed has brought meanwhile.
    pub(crate) fn ahead_of_feed(
        found: FoundSession,
        newer: Option<PrincipalDoc>,
        seen: Arc<Seen>,
        flags: Box<[Arc<Flag>]>,
        ahead: Ahead,
    ) -> Option<Self> {
        let principal = newer.unwrap_or_else(|| found.principal.clone());
        let caller = Self::of_session(found.session.clone(), principal, seen, flags)?;
        Some(Self { ahead: Some(Box::new((found, ahead))), ..caller })
    }

    /// The holder of an API key in `environment`; `None` if its account is not active.
    pub(crate) fn of_api_key(
        key: ApiKeyDoc,
        environment: EnvironmentId,
        principal: PrincipalDoc,
        flags: Box<[Arc<Flag>]>,
        now: Timestamp,
    ) -> Option<Self> {
        let live = principal.status == Status::Active
            && principal.subject == Subject::ServiceAccount(key.account)
            && principal.project == key.project;
        if !live {
            return None;
        }
        let identity = Identity {
            subject: principal.subject,
            session: None,
            email: String::new(),
            name: principal.name,
            roles: principal.roles,
            permissions: key.scopes.clone(),
            methods: vec![Method::ApiKey],
            assurance: Assurance::Aal1,
            // A key proves itself with each request; the first one here stands for all.
            authenticated_at: now,
            claims: principal.claims,
        };
        let (project, version) = (key.project, principal.version);
        let holder = Holder::ApiKey(key, environment);
        Some(Self { identity, holder, assertion: Arc::default(), project, version, flags, ahead: None })
    }

    /// The same caller decoded anew: what was signed for the old one says the same of this one, unless anything about them
    /// has changed: who they are, when and how they signed in, or their principal in a way that does not show in either.
    pub(crate) fn succeed(&mut self, old: &Self) {
        let same_key = matches!((&self.holder, &old.holder), (Holder::ApiKey(..), Holder::ApiKey(..)));
        if same_key {
            self.identity.authenticated_at = old.identity.authenticated_at;
        }
        if self.identity == old.identity && self.version == old.version {
            self.assertion = Arc::clone(&old.assertion);
        }
    }

    /// Whether a new request may be decided on it: nothing it was decoded from has changed, and it is not ahead
    /// of the feed for too long.
    pub(crate) fn is_current(&self, now: Timestamp) -> bool {
        self.ahead.as_ref().is_none_or(|told| now < told.1.until) && self.is_unchanged()
    }

    /// Whether nothing this was decoded from has changed. Two or three loads.
    pub(crate) fn is_unchanged(&self) -> bool {
        !self.flags.iter().any(|flag| flag.is_raised())
    }

    /// Whether it is good on `host` in `environment` of `project` at `now`.
    pub(crate) fn check(
        &self,
        project: ProjectId,
        environment: EnvironmentId,
        host: &Host,
        now: Timestamp,
    ) -> Result<(), NotGood> {
        match &self.holder {
            Holder::Session(session, seen) => {
                session.check(project, host, now, Some(seen.last())).map_err(|problem| match problem {
                    SessionProblem::Elsewhere => NotGood::Elsewhere,
                    SessionProblem::Expired => NotGood::Expired,
                    SessionProblem::Idle => NotGood::Idle,
                })
            }
            Holder::ApiKey(key, used_in) => {
                let elsewhere = self.project != project
                    || *used_in != environment
                    || key.environment.is_some_and(|only| only != environment);
                if elsewhere {
                    return Err(NotGood::Elsewhere);
                }
                if key.expires_at.is_some_and(|end| now >= end) { Err(NotGood::Expired) } else { Ok(()) }
            }
        }
    }

    /// Under which name tunnels remember it.
    pub(crate) fn key(&self) -> PrincipalKey {
        match &self.holder {
            Holder::Session(session, _) => PrincipalKey::Session(session.id),
            Holder::ApiKey(key, _) => PrincipalKey::ApiKey(key.id),
        }
    }

    /// What its owner knows it by: the e-mail address, or a machine's name.
    pub(crate) fn account(&self) -> &str {
        let identity = &self.identity;
        if identity.email.is_empty() { &identity.name } else { &identity.email }
    }
}
