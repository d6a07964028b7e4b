//! Denials of people who are signed in, counted for control's audit.
//!
//! Only of somebody known: what strangers do must not make control write (R25).

use std::time::Duration;

use mezusphere_model::Clock;
use mezusphere_model::clock::Timestamp;
use mezusphere_model::id::{ProjectId, RequestId, RouteId};
use mezusphere_model::identity::Subject;
use mezusphere_model::link::{ControlLink, DENIAL_BATCH_MAX, DenialCount, LinkError};

use crate::view::backlog::{Backlog, Taken};

/// Different denials that wait for a report. Only people who are signed in make entries; what is dropped for want of
/// room, the oldest first, is in the access log all the same.
const DENIALS_MAX: usize = 4096;

/// How often denials are reported.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// How long control may take for one report.
const REPORT_MAX: Duration = Duration::from_secs(10);

/// Denials that control has not been told of.
pub(crate) struct Denials {
    backlog: Backlog<Denied, Count>,
    clock: Clock,
}

/// What denials are counted by.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Denied {
    pub(super) project: ProjectId,
    pub(super) route: RouteId,
    pub(super) reason: &'static str,
    pub(super) subject: Subject,
}

#[derive(Clone, Copy)]
struct Count {
    times: u64,
    last: Timestamp,
    last_request: RequestId,
}

impl Denials {
    /// None yet.
    pub(super) fn new(clock: Clock) -> Self {
        Self { backlog: Backlog::new(DENIALS_MAX), clock }
    }

    /// Counts a denial of somebody who is signed in, for the next report.
    pub(super) fn add(&self, denied: Denied, request: RequestId) {
        let one = Count { times: 1, last: self.clock.now(), last_request: request };
        self.backlog.put(denied, one, Count::and);
    }

    /// How many were dropped so far for want of room.
    pub(crate) fn dropped(&self) -> u64 {
        self.backlog.dropped()
    }

    /// Reports them to control, for ever. What control did not take waits for the next round.
    pub(crate) async fn report(&self, link: &dyn ControlLink) {
        loop {
            tokio::time::sleep(REPORT_EVERY).await;
            loop {
                let batch = self.backlog.take(DENIAL_BATCH_MAX);
                if batch.is_empty() {
                    break;
                }
                let count = batch.len();
                let told = batch.iter().map(tell).collect();
                let sent = tokio::time::timeout(REPORT_MAX, link.denials(told)).await;
                match sent.unwrap_or(Err(LinkError::Away)) {
                    Ok(()) => {}
                    Err(LinkError::Away) => {
                        tracing::debug!(count, "Denials were not reported; they are kept");
                        self.backlog.put_back(batch, Count::and);
                        break;
                    }
                    Err(LinkError::Refused(why)) => {
                        tracing::warn!(why, count, "Denials were not reported");
                    }
                }
            }
        }
    }
}

impl Count {
    /// Counts two stretches as one.
    fn and(&mut self, other: Self) {
        self.times = self.times.saturating_add(other.times);
        if other.last >= self.last {
            (self.last, self.last_request) = (other.last, other.last_request);
        }
    }
}

fn tell(Taken { key, value, .. }: &Taken<Denied, Count>) -> DenialCount {
    DenialCount {
        project: key.project,
        route: key.route,
        reason: key.reason.to_owned(),
        subject: Some(key.subject.to_string()),
        count: value.times,
        last: value.last,
        last_request: value.last_request,
    }
}
