//! Telling control which tunnels this edge holds: each that came or went, and all of them whenever control may have
//! missed something, so that no list anywhere shows a tunnel that is gone.
//!
//! Only the newest state of a warpgate matters; one that is overtaken while control is away is never sent. Of several
//! connections of one warpgate the newest speaks for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use mezusphere_model::Timestamp;
use mezusphere_model::link::{ControlLink, LinkError, TUNNELS_HELD_MAX, TunnelReport};
use tokio::sync::Notify;

use crate::view::backlog::{Backlog, Taken};

/// Warpgates whose change waits to be told, most at once: all tunnels of an edge may end together and come back.
const WAITING_MAX: usize = 2 * TUNNELS_HELD_MAX;

/// Reports under way at once.
const AT_ONCE: usize = 16;

/// How long control may take for one report.
const REPORT_MAX: Duration = Duration::from_secs(5);

/// How long control may take for the report of all; it may write each.
const ALL_MAX: Duration = Duration::from_mins(1);

/// After a report that did not get through, the next try comes this much later.
const RETRY: Duration = Duration::from_secs(2);

/// How long the end of an edge waits for its last reports.
const LAST_MAX: Duration = Duration::from_secs(2);

/// How often to look whether control was found anew while nothing else happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is to be told of an edge's tunnels.
pub(crate) struct TunnelReports {
    held: Mutex<Held>,
    /// By the warpgate's SPIFFE URI.
    waiting: Backlog<String, TunnelReport>,
    /// Control may not know what is held: everything is told before anything else.
    all_is_due: AtomicBool,
    came: Notify,
    /// Told whenever nothing waits.
    quiet: Notify,
}

#[derive(Default)]
struct Held {
    /// The newest connection of each warpgate.
    tunnels: HashMap<String, (Serial, TunnelReport)>,
    next: u64,
    /// The newest time in any report: control orders by it.
    newest: Timestamp,
}

/// Tells a warpgate's connections apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Serial(u64);

impl TunnelReports {
    pub(super) fn new() -> Self {
        Self {
            held: Mutex::default(),
            waiting: Backlog::new(WAITING_MAX),
            // An edge that has just started holds nothing, whatever is listed for its life before.
            all_is_due: AtomicBool::new(true),
            came: Notify::new(),
            quiet: Notify::new(),
        }
    }

    /// A tunnel came. It speaks for its warpgate from now on, until [`TunnelReports::went`].
    pub(crate) fn came(&self, report: TunnelReport) -> Serial {
        let mut held = self.lock();
        let serial = Serial(held.next);
        held.next += 1;
        held.note(&report);
        held.tunnels.insert(report.warpgate.clone(), (serial, report.clone()));
        self.put(report);
        serial
    }

    /// What is to be said of a tunnel has changed. Nothing happens if a newer one speaks for its warpgate.
    pub(crate) fn changed(&self, serial: Serial, report: TunnelReport) {
        let mut held = self.lock();
        held.note(&report);
        if let Some(known) = held.tunnels.get_mut(&report.warpgate)
            && known.0 == serial
        {
            known.1 = report.clone();
            self.put(report);
        }
    }

    /// A tunnel has ended. The same.
    pub(crate) fn went(&self, serial: Serial, report: TunnelReport) {
        let mut held = self.lock();
        held.note(&report);
        if held.tunnels.get(&report.warpgate).is_some_and(|known| known.0 == serial) {
            held.tunnels.remove(&report.warpgate);
            self.put(report);
        }
    }

    /// Changes dropped so far for want of room. Nothing wrong stays listed for it: all is told then.
    pub(crate) fn dropped(&self) -> u64 {
        self.waiting.dropped()
    }

    /// Waits until control was told of everything, if it can be told soon.
    pub(crate) async fn told(&self) {
        drop(tokio::time::timeout(LAST_MAX, self.quiet.notified()).await);
    }

    /// Under the lock of what is held, so that what waits is never older than it.
    fn put(&self, report: TunnelReport) {
        let dropped = self.waiting.dropped();
        self.waiting.put(report.warpgate.clone(), report, |known, newer| *known = newer);
        if self.waiting.dropped() != dropped {
            self.all_is_due.store(true, Ordering::Release);
        }
        self.came.notify_one();
    }

    /// Tells control, for ever.
    pub(crate) async fn send(&self, link: &dyn ControlLink) {
        let mut contacts = link.contacts();
        loop {
            let found = link.contacts();
            if std::mem::replace(&mut contacts, found) != found {
                self.all_is_due.store(true, Ordering::Release);
            }
            match self.send_what_waits(link).await {
                Ok(true) => {}
                Ok(false) => {
                    self.quiet.notify_waiters();
                    drop(tokio::time::timeout(LOOK_EVERY, self.came.notified()).await);
                }
                // It may come back as another one, or with what it was told lost.
                Err(Away) => {
                    self.all_is_due.store(true, Ordering::Release);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// One batch; whether there was any.
    async fn send_what_waits(&self, link: &dyn ControlLink) -> Result<bool, Away> {
        if self.all_is_due.swap(false, Ordering::AcqRel) {
            let (all, at) = self.all();
            let count = all.len();
            once(link.tunnels(all, at), ALL_MAX).await?;
            tracing::debug!(count, "Control was told of all tunnels");
            return Ok(true);
        }
        let batch = self.waiting.take(AT_ONCE);
        if batch.is_empty() {
            return Ok(false);
        }
        let lost: Vec<_> = stream::iter(batch)
            .map(|taken: Taken<_, TunnelReport>| async move {
                once(link.tunnel(taken.value.clone()), REPORT_MAX).await.err().map(|Away| taken)
            })
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        if lost.is_empty() {
            return Ok(true);
        }
        // What came meanwhile is newer.
        self.waiting.put_back(lost, |_, _| {});
        Err(Away)
    }

    /// All that is held now; nothing waits any more.
    fn all(&self) -> (Vec<TunnelReport>, Timestamp) {
        let held = self.lock();
        self.waiting.clear();
        (
            held.tunnels.values().map(|(_, report)| report.clone()).take(TUNNELS_HELD_MAX).collect(),
            held.newest,
        )
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn note(&mut self, report: &TunnelReport) {
        self.newest = self.newest.max(report.at);
    }
}

/// Control does not answer.
#[derive(Debug)]
struct Away;

async fn once(
    sent: mezusphere_model::link::Answer<'_, Result<(), LinkError>>,
    wait_max: Duration,
) -> Result<(), Away> {
    match tokio::time::timeout(wait_max, sent).await.unwrap_or(Err(LinkError::Away)) {
        Ok(()) => Ok(()),
        Err(LinkError::Away) => Err(Away),
        Err(LinkError::Refused(why)) => {
            tracing::warn!(why, "Control does not want to know of a tunnel");
            Ok(())
        }
    }
}
