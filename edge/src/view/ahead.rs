//! What is known of sessions ahead of the feed: what control answers when it is asked, and what this edge did itself.
//!
//! A session is asked for once, whoever waits for it; the answer counts for a while, and the replica overrules it as soon
//! as it has come as far as the session's birth.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::document::Partition;
use mezusphere_model::link::{FoundSession, LinkError};
use mezusphere_model::token::{SessionCookie, Token, TokenHash};
use mezusphere_store::replica::ReadError;

use super::View;
use super::caller::{Ahead, Caller};
use super::lookup::{CallerKey, NoCaller};
use super::watch::Watched;

/// How long "there is no such session" is remembered; a token never comes to life later.
const ABSENT_FOR: Duration = Duration::from_mins(1);

/// How long beyond [`super::ViewLimits::stale_after`] it is remembered that a session was ended here. Until then the
/// feed has either told the replica, or is so late that nobody is let in on the replica's word.
const ENDED_BEYOND_STALE: Duration = Duration::from_mins(1);

/// How long "control is away" is remembered for one token.
const AWAY_FOR: Duration = Duration::from_secs(1);

/// How long what control told ahead of the feed may be used before it is asked again.
const AHEAD_FOR: Duration = Duration::from_secs(30);

impl View {
    /// Takes one question out of an address's budget: for whatever makes control work for somebody unknown.
    pub(crate) fn charge(&self, from: IpAddr) -> Result<(), Duration> {
        self.lookups.budget.take(from, self.clock.now())
    }

    /// Remembers that a session was ended here, before the feed says so.
    pub(crate) fn end_session(&self, hash: TokenHash) {
        let until = self.clock.now().after(self.limits.stale_after + ENDED_BEYOND_STALE);
        self.lookups.remember_absent(hash, NoCaller::Ended, until);
        self.watches.changed(&Watched::Session(hash));
        self.lookups.callers.remove(&CallerKey::Session(hash));
    }

    /// Remembers a session that control has just made at revision `born_at`, ahead of the feed.
    pub(crate) fn begin_session(&self, found: FoundSession, born_at: u64) {
        let ahead = Ahead { until: self.clock.now().after(AHEAD_FOR), born_at };
        drop(self.keep_ahead(found, ahead));
    }

    /// Whether a session cookie was written with one of the installation's keys: what makes control work for somebody
    /// must not be done for a forged one.
    pub(crate) fn is_authentic(&self, cookie: &str) -> bool {
        self.platform()
            .is_some_and(|platform| SessionCookie::read(cookie, &platform.doc.cookie_keys).is_some())
    }

    /// Asks control for a session that was born at `born_at`, once for all who wait.
    pub(super) async fn ask_control(
        &self,
        token: &Token,
        hash: TokenHash,
        born_at: u64,
        from: IpAddr,
    ) -> Result<Arc<Caller>, NoCaller> {
        let question = Arc::clone(&self.lookups.questions.entry(hash).or_default());
        let answer = question.get_or_init(|| self.ask_once(token, hash, born_at, from)).await.clone();
        self.lookups.questions.remove_if(&hash, |_, asked| Arc::ptr_eq(asked, &question));
        answer
    }

    async fn ask_once(
        &self,
        token: &Token,
        hash: TokenHash,
        born_at: u64,
        from: IpAddr,
    ) -> Result<Arc<Caller>, NoCaller> {
        self.charge(from).map_err(NoCaller::Wait)?;
        let asked = tokio::time::timeout(self.limits.ask_control, async {
            let Ok(_place) = self.lookups.asking.acquire().await else { return Err(LinkError::Away) };
            self.link.find_session(token.clone()).await
        });
        let found = match asked.await {
            Ok(Ok(Some(found))) => found,
            Ok(Ok(None) | Err(LinkError::Refused(_))) => {
                self.lookups.remember_absent(hash, NoCaller::Unknown, self.clock.now().after(ABSENT_FOR));
                return Err(NoCaller::Unknown);
            }
            Ok(Err(LinkError::Away)) | Err(_) => {
                self.lookups.remember_absent(hash, NoCaller::Away, self.clock.now().after(AWAY_FOR));
                return Err(NoCaller::Away);
            }
        };
        if found.session.token_hash != hash {
            tracing::warn!("Control answered with another session than was asked for");
            self.lookups.remember_absent(hash, NoCaller::Away, self.clock.now().after(AWAY_FOR));
            return Err(NoCaller::Away);
        }
        self.keep_ahead(found, Ahead { until: self.clock.now().after(AHEAD_FOR), born_at })
    }

    /// Decodes and remembers what control told ahead of the feed, unless the replica knows better: what it says of a
    /// session once it has come as far as the session's birth is at least as new as any answer that was on its way
    /// meanwhile, so an end it has seen is not undone by one.
    fn keep_ahead(&self, found: FoundSession, ahead: Ahead) -> Result<Arc<Caller>, NoCaller> {
        let FoundSession { session, principal } = &found;
        let (project, hash) = (session.project, session.token_hash);
        let flags = self.flags_of_session(session, self.watches.watch(Watched::Session(hash)));
        if self.is_ended_here(&hash) {
            return Err(NoCaller::Ended);
        }
        let reached = self.documents.revision(Partition::Project(project));
        if let Some(caller) = self.decode_session(hash)? {
            return Ok(caller);
        }
        let revoked = match self.documents.revocation(project, session.sign_in) {
            Ok(revocation) => revocation.is_some(),
            // The edge has nothing of the project yet, so nothing that is newer than control's word.
            Err(ReadError::Incomplete) => false,
            Err(error) => return Err(error.into()),
        };
        if reached >= ahead.born_at || revoked {
            return Err(NoCaller::Ended);
        }
        let newer = self
            .documents
            .principal(project, principal.subject)?
            .filter(|own| own.version > principal.version);
        let seen = self.seen.of(session);
        let caller = Caller::ahead_of_feed(found, newer, seen, flags, ahead);
        Ok(self.lookups.remember(CallerKey::Session(hash), caller.ok_or(NoCaller::Ended)?))
    }

    /// The same again after something has changed, while control's word still counts.
    pub(super) fn again_ahead(&self, caller: &Caller) -> Option<Result<Arc<Caller>, NoCaller>> {
        let (found, ahead) = caller.ahead.as_deref()?;
        (self.clock.now() < ahead.until).then(|| self.keep_ahead(found.clone(), *ahead))
    }

    /// Whether the session was ended at this edge, which the feed may not have told yet.
    pub(super) fn is_ended_here(&self, hash: &TokenHash) -> bool {
        let absent = self.lookups.absent(hash, self.clock.now());
        matches!(absent, Some(NoCaller::Ended | NoCaller::Unknown))
    }
}
