//! A feed made up in memory, whose answers a test may twist.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use mezusphere_model::document::{Document, DocumentKey, Partition, RevocationDoc};
use mezusphere_model::id::{SignInId, UserId};
use mezusphere_model::link::Answer;
use mezusphere_store::feed::{
    AppliedReport, Bell, Changes, Cursor, Digest, Entry, Epoch, FeedError, FeedSource, Filed, Head,
    SnapshotPage, Wake,
};
use serde_json::value::{RawValue, to_raw_value};

use crate::support::START;

/// What a source may be told to do to its answers; `false`: that it is away.
#[derive(Default)]
pub(crate) struct Twists {
    pub(crate) heads: Option<Twist<Vec<Head>>>,
    pub(crate) page: Option<Twist<SnapshotPage>>,
    pub(crate) changes: Option<Twist<Changes>>,
    /// Only of this partition, if any is named.
    pub(crate) only: Option<Partition>,
    /// Nothing is answered at all.
    pub(crate) hangs: bool,
    pub(crate) away: bool,
    pub(crate) deaf: bool,
}

pub(crate) type Twist<T> = Box<dyn Fn(&mut T) + Send + Sync>;

/// The feed.
pub(crate) struct Made {
    epoch: Mutex<Epoch>,
    logs: Mutex<BTreeMap<Partition, Vec<Entry>>>,
    /// What is current.
    current: Mutex<BTreeMap<Partition, BTreeMap<DocumentKey, Box<RawValue>>>>,
    pub(crate) twists: Mutex<Twists>,
    bell: Bell,
    /// Questions about partitions so far.
    pub(crate) asked: AtomicU64,
    /// What was reported, newest.
    pub(crate) reports: Mutex<HashMap<Partition, Cursor>>,
}

pub(crate) fn revocation(n: u128) -> Document {
    let (sign_in, user) = (SignInId::from_bits(n), UserId::from_bits(n));
    Document::Revocation(RevocationDoc { sign_in, user, at: START, forget_at: START })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Made {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Mutex::new(Epoch(1)),
            logs: Mutex::default(),
            current: Mutex::default(),
            twists: Mutex::default(),
            bell: Bell::new(),
            asked: AtomicU64::new(0),
            reports: Mutex::default(),
        }
    }

    /// Adds an entry and tells listeners.
    pub(crate) fn file(&self, partition: Partition, key: DocumentKey, body: Option<Box<RawValue>>) {
        let mut logs = locked(&self.logs);
        let log = logs.entry(partition).or_default();
        let (revision, before) =
            log.last().map_or((1, Digest::EMPTY), |last| (last.revision + 1, last.digest));
        let digest = before.then(revision, &key, body.as_deref().map(RawValue::get));
        let mut all = locked(&self.current);
        let current = all.entry(partition).or_default();
        match &body {
            Some(body) => current.insert(key.clone(), body.clone()),
            None => current.remove(&key),
        };
        log.push(Entry { revision, key, body, digest });
        drop((logs, all));
        if !locked(&self.twists).deaf {
            self.bell.ring([partition].into());
        }
    }

    pub(crate) fn publish(&self, partition: Partition, document: &Document) {
        self.file(partition, document.key(), Some(to_raw_value(document).unwrap()));
    }

    pub(crate) fn ring(&self, partition: Partition) {
        self.bell.ring([partition].into());
    }

    pub(crate) fn begin_epoch(&self, epoch: u128) {
        *locked(&self.epoch) = Epoch(epoch);
    }

    /// From now on everything is answered as it is.
    pub(crate) fn be_honest(&self) {
        *locked(&self.twists) = Twists::default();
    }

    fn cursor(&self, log: &[Entry]) -> Cursor {
        let epoch = *locked(&self.epoch);
        log.last().map_or(Cursor { epoch, revision: 0, digest: Digest::EMPTY }, |last| Cursor {
            epoch,
            revision: last.revision,
            digest: last.digest,
        })
    }

    async fn answer<T>(
        &self,
        partition: Option<Partition>,
        mut answer: T,
        twist: impl Fn(&Twists) -> Option<&Twist<T>>,
    ) -> Result<T, FeedError> {
        self.asked.fetch_add(u64::from(partition.is_some()), Ordering::SeqCst);
        let hangs = {
            let twists = locked(&self.twists);
            if twists.away {
                return Err(FeedError::Away("switched off".to_owned()));
            }
            let meant = partition.is_none() || twists.only.is_none() || twists.only == partition;
            if let Some(twist) = twist(&twists).filter(|_| meant) {
                twist(&mut answer);
            }
            twists.hangs
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok(answer)
    }
}

impl FeedSource for Made {
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
        let heads = locked(&self.logs)
            .iter()
            .map(|(partition, log)| Head { partition: *partition, cursor: self.cursor(log) })
            .collect();
        Box::pin(self.answer(None, heads, |twists| twists.heads.as_ref()))
    }

    fn snapshot(
        &self,
        partition: Partition,
        after: Option<DocumentKey>,
        max: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
        let (logs, all) = (locked(&self.logs), locked(&self.current));
        let log = logs.get(&partition).map_or(&[][..], Vec::as_slice);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest =
            all.get(&partition).into_iter().flat_map(|all| all.range((from.clone(), Bound::Unbounded)));
        let documents = rest
            .by_ref()
            .take(max)
            .map(|(key, body)| Filed { key: key.clone(), body: body.clone() })
            .collect();
        let page = SnapshotPage { cursor: self.cursor(log), documents, more: rest.next().is_some() };
        drop(rest);
        drop((logs, all));
        Box::pin(self.answer(Some(partition), page, |twists| twists.page.as_ref()))
    }

    fn changes(
        &self,
        partition: Partition,
        since: Cursor,
        max: usize,
    ) -> Answer<'_, Result<Changes, FeedError>> {
        let logs = locked(&self.logs);
        let log = logs.get(&partition).map_or(&[][..], Vec::as_slice);
        let at = usize::try_from(since.revision).unwrap();
        let fits = since.epoch == *locked(&self.epoch)
            && log.get(..at).is_some_and(|before| self.cursor(before) == since);
        let changes = if fits {
            let entries: Vec<_> = log[at..].iter().take(max).cloned().collect();
            Changes::Entries { more: at + entries.len() < log.len(), entries }
        } else {
            Changes::StartOver
        };
        drop(logs);
        Box::pin(self.answer(Some(partition), changes, |twists| twists.changes.as_ref()))
    }

    fn applied(&self, reports: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>> {
        let heard = reports.into_iter().map(|report| (report.partition, report.cursor));
        locked(&self.reports).extend(heard);
        Box::pin(self.answer(None, (), |_| None))
    }

    fn wake(&self) -> Wake {
        self.bell.listen()
    }
}
