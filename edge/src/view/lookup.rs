//! Finds who stands behind a token: in memory, else in the replica, else (only for a session this edge was not
//! told of yet) at control.
//!
//! A forged token costs control nothing: before control is asked, the cookie's signature must be ours and its
//! birth must lie ahead of the replica; then one question at a time per token, a budget per client address, and
//! an answer that is remembered.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use mezusphere_model::Timestamp;
use mezusphere_model::document::Partition;
use mezusphere_model::id::{ApiKeyId, EnvironmentId, ProjectId};
use mezusphere_model::identity::Subject;
use mezusphere_model::session::SessionDoc;
use mezusphere_model::slug::Name;
use mezusphere_model::token::{ApiKeyToken, SessionCookie, Token, TokenHash};
use mezusphere_store::replica::ReadError;
use tokio::sync::{OnceCell, Semaphore};

use super::View;
use super::budget::Budget;
use super::caller::{Caller, Holder};
use super::watch::{Flag, Watched};

/// Callers remembered in decoded form; about 2 KiB each.
pub(super) const CALLERS_MAX: usize = 65_536;

/// Callers forgotten at once when there are too many.
const EVICTED_AT_ONCE: usize = 256;

/// A caller that is not seen for this long is decoded anew when it comes back.
const CALLER_IDLE: Duration = Duration::from_mins(15);

/// Tokens remembered as good for nothing. Only authentic ones get here, so strangers cannot fill it.
const ABSENT_MAX: usize = 65_536;

/// Questions to control at once; more wait their turn, within the time a client waits anyway.
const QUESTIONS_MAX: usize = 64;

/// The scope a key needs to call routes.
const REQUEST_SCOPE: &str = "request";

/// Why there is no caller behind a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoCaller {
    /// There is no such session.
    Unknown,
    /// There was one, and it is over.
    Ended,
    /// The edge has not been told anything yet.
    Starting,
    /// The replica cannot be read.
    Replica,
    /// Control would know, and is away.
    Away,
    /// Control would know; this address has asked too often.
    Wait(Duration),
}

impl From<ReadError> for NoCaller {
    fn from(_: ReadError) -> Self {
        Self::Replica
    }
}

/// Why an API key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// There is no such key, or its secret is another.
    Unknown,
    /// It may not call routes.
    Scope,
    /// Its account is not active.
    Inactive,
    /// The replica cannot be read.
    Replica,
}

impl From<ReadError> for NoKey {
    fn from(_: ReadError) -> Self {
        Self::Replica
    }
}

/// What a decoded caller is remembered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CallerKey {
    Session(TokenHash),
    ApiKey(ApiKeyId, EnvironmentId),
}

/// A question to control under way, with its answer for all who wait.
type Question = OnceCell<Result<Arc<Caller>, NoCaller>>;

/// Decoded callers, and what is known not to be one.
pub(super) struct Lookups {
    pub(super) callers: DashMap<CallerKey, Arc<Caller>>,
    absent: DashMap<TokenHash, (NoCaller, Timestamp)>,
    pub(super) questions: DashMap<TokenHash, Arc<Question>>,
    pub(super) asking: Semaphore,
    pub(super) budget: Budget,
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self {
            callers: DashMap::new(),
            absent: DashMap::new(),
            questions: DashMap::new(),
            asking: Semaphore::new(QUESTIONS_MAX),
            budget: Budget::default(),
        }
    }

    fn caller(&self, key: &CallerKey, now: Timestamp) -> Option<Arc<Caller>> {
        let caller = self.callers.get(key)?;
        caller.is_current(now).then(|| Arc::clone(&caller))
    }

    pub(super) fn remember(&self, key: CallerKey, mut caller: Caller) -> Arc<Caller> {
        if let Some(old) = self.callers.get(&key) {
            caller.succeed(&old);
        }
        let caller = Arc::new(caller);
        if self.callers.len() >= CALLERS_MAX {
            let some: Vec<CallerKey> =
                self.callers.iter().take(EVICTED_AT_ONCE).map(|entry| *entry.key()).collect();
            for key in some {
                self.callers.remove(&key);
            }
        }
        self.callers.insert(key, Arc::clone(&caller));
        caller
    }

    pub(super) fn absent(&self, hash: &TokenHash, now: Timestamp) -> Option<NoCaller> {
        self.absent.get(hash).filter(|entry| now < entry.1).map(|entry| entry.0.clone())
    }

    pub(super) fn remember_absent(&self, hash: TokenHash, why: NoCaller, until: Timestamp) {
        if self.absent.len() < ABSENT_MAX {
            self.absent.insert(hash, (why, until));
        }
    }

    pub(super) fn sweep(&self, now: Timestamp) {
        // Left behind by askers that went away before the answer.
        self.questions.retain(|_, question| Arc::strong_count(question) > 1);
        let idle = now.before(CALLER_IDLE);
        self.callers.retain(|_, caller| {
            let used = match &caller.holder {
                Holder::Session(_, seen) => seen.last() > idle,
                Holder::ApiKey(..) => true,
            };
            used && caller.is_current(now)
        });
        self.absent.retain(|_, (_, until)| now < *until);
        self.budget.sweep(now);
    }
}

impl View {
    /// The caller behind a session cookie presented to a host of `project`. Whether the session is good there
    /// and now is [`Caller::check`]'s to say.
    pub(crate) async fn session(
        &self,
        cookie: &str,
        token: &Token,
        project: ProjectId,
        from: IpAddr,
    ) -> Result<Arc<Caller>, NoCaller> {
        let (hash, now) = (token.hash(), self.clock.now());
        match self.lookups.caller(&CallerKey::Session(hash), now) {
            Some(caller) => Ok(caller),
            None => Box::pin(self.read_session(cookie, token, hash, project, from)).await,
        }
    }

    /// The caller behind an API key used in an environment.
    pub(crate) fn api_key(
        &self,
        key: &ApiKeyToken,
        environment: EnvironmentId,
    ) -> Result<Arc<Caller>, NoKey> {
        let now = self.clock.now();
        let place = CallerKey::ApiKey(key.id, environment);
        if let Some(caller) = self.lookups.caller(&place, now) {
            check_key(&caller, key)?;
            return Ok(caller);
        }
        // Remembered only once the secret was right, so that guessing fills nothing.
        let caller = self.read_api_key(key.id, environment, now)?;
        check_key(&caller, key)?;
        Ok(self.lookups.remember(place, caller))
    }

    /// The same caller as the documents have it now, without asking control; `None` if it is over. For
    /// exchanges that outlive what they began with.
    pub(crate) fn again(&self, caller: &Arc<Caller>) -> Option<Arc<Caller>> {
        let now = self.clock.now();
        if caller.is_unchanged() {
            return Some(Arc::clone(caller));
        }
        match &caller.holder {
            Holder::Session(session, _) => {
                let hash = session.token_hash;
                if let Some(caller) = self.lookups.caller(&CallerKey::Session(hash), now) {
                    return Some(caller);
                }
                if self.is_ended_here(&hash) {
                    return None;
                }
                match self.again_ahead(caller) {
                    Some(again) => again.ok(),
                    None => self.decode_session(hash).ok().flatten(),
                }
            }
            Holder::ApiKey(key, environment) => {
                let again = self.read_api_key(key.id, *environment, now).ok()?;
                let is_same =
                    matches!(&again.holder, Holder::ApiKey(now, _) if now.secret_hash == key.secret_hash);
                (is_same && may_request(&again)).then(|| Arc::new(again))
            }
        }
    }

    async fn read_session(
        &self,
        cookie: &str,
        token: &Token,
        hash: TokenHash,
        project: ProjectId,
        from: IpAddr,
    ) -> Result<Arc<Caller>, NoCaller> {
        let platform = self.platform().ok_or(NoCaller::Starting)?;
        let cookie = SessionCookie::read(cookie, &platform.doc.cookie_keys).ok_or(NoCaller::Unknown)?;
        if let Some(why) = self.lookups.absent(&hash, self.clock.now()) {
            return Err(why);
        }
        // Read before the session is: it may come between the two.
        let reached = self.documents.revision(Partition::Project(project));
        if let Some(caller) = self.decode_session(hash)? {
            return Ok(caller);
        }
        // A replica that had come as far as the session's birth and does not hold it has seen its end.
        if reached >= cookie.born_at {
            return Err(NoCaller::Unknown);
        }
        let told = self.lookups.callers.get(&CallerKey::Session(hash)).map(|told| Arc::clone(&told));
        match told.and_then(|told| self.again_ahead(&told)) {
            Some(again) => again,
            None => self.ask_control(token, hash, cookie.born_at, from).await,
        }
    }

    /// Decodes a session from the replica. `None`: the replica does not hold it.
    pub(super) fn decode_session(&self, hash: TokenHash) -> Result<Option<Arc<Caller>>, NoCaller> {
        let flag = self.watches.watch(Watched::Session(hash));
        let Some(session) = self.documents.session(&hash)? else { return Ok(None) };
        let flags = self.flags_of_session(&session, flag);
        let (project, user) = (session.project, Subject::User(session.user));
        if self.documents.revocation(project, session.sign_in)?.is_some() {
            return Err(NoCaller::Ended);
        }
        // One that is not here (yet) stands for nobody, as a session that is not.
        let Some(principal) = self.documents.principal(project, user)? else { return Ok(None) };
        let seen = self.seen.of(&session);
        let caller = Caller::of_session(session, principal, seen, flags).ok_or(NoCaller::Ended)?;
        Ok(Some(self.lookups.remember(CallerKey::Session(hash), caller)))
    }

    pub(super) fn flags_of_session(&self, session: &SessionDoc, own: Arc<Flag>) -> Box<[Arc<Flag>]> {
        let principal = self.watches.watch(Watched::Principal(session.project, Subject::User(session.user)));
        let sign_in = self.watches.watch(Watched::SignIn(session.project, session.sign_in));
        Box::new([own, principal, sign_in])
    }

    /// Decodes an API key from the replica.
    fn read_api_key(
        &self,
        id: ApiKeyId,
        environment: EnvironmentId,
        now: Timestamp,
    ) -> Result<Caller, NoKey> {
        let flag = self.watches.watch(Watched::ApiKey(id));
        let key = self.documents.api_key(id)?.ok_or(NoKey::Unknown)?;
        let subject = Subject::ServiceAccount(key.account);
        let account = self.watches.watch(Watched::Principal(key.project, subject));
        let principal = self.documents.principal(key.project, subject)?.ok_or(NoKey::Inactive)?;
        let flags: Box<[Arc<Flag>]> = Box::new([flag, account]);
        Caller::of_api_key(key, environment, principal, flags, now).ok_or(NoKey::Inactive)
    }
}

/// Whether `key` is the one behind `caller`, and may call routes.
fn check_key(caller: &Caller, key: &ApiKeyToken) -> Result<(), NoKey> {
    match &caller.holder {
        Holder::ApiKey(doc, _) if doc.secret_hash == key.secret.hash() => {
            if may_request(caller) {
                Ok(())
            } else {
                Err(NoKey::Scope)
            }
        }
        Holder::ApiKey(..) | Holder::Session(..) => Err(NoKey::Unknown),
    }
}

/// Whether the key behind a caller may call routes.
fn may_request(caller: &Caller) -> bool {
    match &caller.holder {
        Holder::ApiKey(doc, _) => doc.scopes.iter().map(Name::as_str).any(|scope| scope == REQUEST_SCOPE),
        Holder::Session(..) => false,
    }
}
