//! When each session was last seen here, and telling control about it, seldom and in batches.
//!
//! A session is reported at most once per tenth of its idle limit, so that every edge knows well before the limit
//! and a busy session costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use mezusphere_model::Timestamp;
use mezusphere_model::id::SessionId;
use mezusphere_model::link::{ACTIVITY_BATCH_MAX, Activity, ControlLink, LinkError};
use mezusphere_model::session::SessionDoc;

use super::backlog::{Backlog, Taken};

/// Sessions whose report waits, most at once: 100 bytes each. While control is away only the newest of each session is
/// kept, and beyond this the oldest are dropped: they are reported again a tenth of their idle limit later.
const WAITING_MAX: usize = 65_536;

/// How often batches are sent.
const EVERY: Duration = Duration::from_secs(2);

/// How long control may take for one batch.
const REPORT_MAX: Duration = Duration::from_secs(10);

/// Sessions whose last-seen is remembered. Beyond it the published one decides, which is at most a tenth of
/// the idle limit older.
const SEEN_MAX: usize = 262_144;

/// When a session was last seen here, in microseconds, and as of when control knows.
#[derive(Debug)]
pub(crate) struct Seen {
    last: AtomicI64,
    reported: AtomicI64,
}

impl Seen {
    /// When it was last seen by this edge or by whoever published it.
    pub(crate) fn last(&self) -> Timestamp {
        Timestamp::from_micros(self.last.load(Ordering::Relaxed))
    }
}

/// All sessions seen lately.
#[derive(Debug)]
pub(crate) struct SeenSessions {
    sessions: DashMap<SessionId, Arc<Seen>>,
    reports: Backlog<SessionId, Activity>,
}

impl SeenSessions {
    /// Nothing seen yet. What is to be reported, [`report`] sends.
    pub(crate) fn new() -> Self {
        Self { sessions: DashMap::new(), reports: Backlog::new(WAITING_MAX) }
    }

    /// Reports dropped so far for want of room.
    pub(crate) fn dropped(&self) -> u64 {
        self.reports.dropped()
    }

    /// What is known of a session; what is published counts if nothing newer is.
    pub(crate) fn of(&self, session: &SessionDoc) -> Arc<Seen> {
        let published = session.seen_at.as_micros();
        let fresh =
            || Arc::new(Seen { last: AtomicI64::new(published), reported: AtomicI64::new(published) });
        if let Some(seen) = self.sessions.get(&session.id) {
            seen.last.fetch_max(published, Ordering::Relaxed);
            seen.reported.fetch_max(published, Ordering::Relaxed);
            return Arc::clone(&seen);
        }
        if self.sessions.len() >= SEEN_MAX {
            return fresh();
        }
        Arc::clone(&self.sessions.entry(session.id).or_insert_with(fresh))
    }

    /// Notes a request of a session, and queues a report when one is due.
    pub(crate) fn touch(&self, session: &SessionDoc, seen: &Seen, now: Timestamp) {
        let at = now.as_micros();
        // A whole second is as fine as idleness is ever judged, and keeps the cache line still under load.
        if at.saturating_sub(seen.last.load(Ordering::Relaxed)) >= 1_000_000 {
            seen.last.fetch_max(at, Ordering::Relaxed);
        }
        let tenth = i64::from(session.idle_s_max).saturating_mul(100_000);
        let reported = seen.reported.load(Ordering::Relaxed);
        if tenth == 0 || at.saturating_sub(reported) < tenth {
            return;
        }
        // Only one of the threads that get here sends it.
        if seen.reported.compare_exchange(reported, at, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let report = Activity { session: session.id, project: session.project, seen_at: now };
            self.reports.put(session.id, report, newest);
        }
    }

    /// Forgets sessions that no decoded caller refers to and whose news control has had for an hour.
    pub(crate) fn sweep(&self, now: Timestamp) {
        let old = now.before(Duration::from_hours(1)).as_micros();
        self.sessions
            .retain(|_, seen| Arc::strong_count(seen) > 1 || seen.last.load(Ordering::Relaxed) > old);
    }
}

/// Of two reports of one session, what is newer.
fn newest(known: &mut Activity, Activity { seen_at, .. }: Activity) {
    known.seen_at = known.seen_at.max(seen_at);
}

/// Sends what is waiting, in batches, for ever. What control did not take waits for the next round.
pub(crate) async fn report(link: &dyn ControlLink, seen: &SeenSessions) {
    loop {
        tokio::time::sleep(EVERY).await;
        loop {
            let batch = seen.reports.take(ACTIVITY_BATCH_MAX);
            if batch.is_empty() {
                break;
            }
            let count = batch.len();
            let told = batch.iter().map(|taken: &Taken<_, Activity>| taken.value.clone()).collect();
            let sent = tokio::time::timeout(REPORT_MAX, link.activity(told)).await;
            match sent.unwrap_or(Err(LinkError::Away)) {
                Ok(()) => {}
                Err(LinkError::Away) => {
                    tracing::debug!(count, "Activity was not reported; it is kept");
                    seen.reports.put_back(batch, newest);
                    break;
                }
                Err(error @ LinkError::Refused(_)) => {
                    tracing::warn!(%error, count, "Activity was not reported");
                }
            }
        }
    }
}
