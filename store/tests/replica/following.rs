//! The follower: what it does when the feed moves, goes away, contradicts itself, or begins a new life.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use mezusphere_model::document::{Document, DocumentKey, Partition, RevocationDoc};
use mezusphere_model::id::{ProjectId, SignInId, UserId};
use mezusphere_model::link::Answer;
use mezusphere_store::feed::{
    AppliedReport, Changes, Cursor, Digest, FeedError, FeedSource, Head, SnapshotPage, Wake,
};
use mezusphere_store::replica::{Changed, ReadError};
use mezusphere_store::{Primary, StoreError};

use crate::support::{START, Store};
use crate::{copy_from, copy_of, dir_of, level, open, until, within};

pub(crate) const PROJECT: ProjectId = ProjectId::from_bits(7);
pub(crate) const P: Partition = Partition::Project(PROJECT);

pub(crate) fn sign_in(n: u128) -> SignInId {
    SignInId::from_bits(n)
}

/// Publishes revocations of these sign-ins: the smallest documents there are.
pub(crate) async fn publish(primary: &Primary, sign_ins: impl IntoIterator<Item = u128> + Clone) {
    primary
        .write(async |tx| {
            for n in sign_ins {
                let doc = RevocationDoc {
                    sign_in: sign_in(n),
                    user: UserId::from_bits(n),
                    at: START,
                    forget_at: START,
                };
                tx.publish(P, &Document::Revocation(doc))?;
            }
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
}

pub(crate) async fn retract(primary: &Primary, sign_ins: impl IntoIterator<Item = u128> + Clone) {
    primary
        .write(async |tx| {
            for n in sign_ins {
                tx.retract(P, DocumentKey::revocation(sign_in(n)))?;
            }
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_large_partition_comes_in_pages_and_stays_level() {
    let db = Store::sqlite().await;
    publish(&db.primary, 0..2500).await;
    let copy = copy_of(&db).await;
    assert_eq!(copy.follower.followed().snapshots, 1);
    let there = |n| copy.replica.revocation(PROJECT, sign_in(n)).unwrap().is_some();
    assert!((0..2500).all(there));
    publish(&db.primary, 2500..4000).await;
    retract(&db.primary, 0..100).await;
    level(&db, &copy.replica, P).await;
    assert!((0..4000).all(|n| there(n) == (n >= 100)));
    assert_eq!(copy.follower.followed().snapshots, 1, "changes, not another snapshot");
}

#[tokio::test]
async fn documents_that_change_while_a_snapshot_is_taken_end_up_right() {
    let db = Store::sqlite().await;
    publish(&db.primary, 0..3000).await;
    let source = Arc::new(Meddling { primary: db.primary.clone(), step: AtomicU8::new(0) });
    let copy = copy_from(&db, source).await;
    level(&db, &copy.replica, P).await;
    let there = |n| copy.replica.revocation(PROJECT, sign_in(n)).unwrap().is_some();
    let wrong: Vec<u128> = (0..3100).filter(|n| there(*n) != (*n >= 50)).collect();
    assert_eq!(wrong, Vec::<u128>::new());
}

/// Changes the partition between two pages of a snapshot.
struct Meddling {
    primary: Primary,
    step: AtomicU8,
}

impl FeedSource for Meddling {
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
        self.primary.heads()
    }

    fn snapshot(
        &self,
        partition: Partition,
        after: Option<DocumentKey>,
        max: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
        Box::pin(async move {
            let page = self.primary.snapshot(partition, after, max).await;
            if self.step.fetch_add(1, Ordering::SeqCst) == 0 {
                retract(&self.primary, 0..50).await;
                publish(&self.primary, 2990..3100).await;
            }
            page
        })
    }

    fn changes(&self, p: Partition, since: Cursor, max: usize) -> Answer<'_, Result<Changes, FeedError>> {
        self.primary.changes(p, since, max)
    }

    fn applied(&self, reports: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>> {
        self.primary.applied(reports)
    }

    fn wake(&self) -> Wake {
        self.primary.wake()
    }
}

/// A source with a switch: 0 as it is, 1 away, 2 lies about digests.
struct Switched {
    primary: Primary,
    switch: AtomicU8,
}

impl Switched {
    fn answer<T>(&self) -> Result<(), Result<T, FeedError>> {
        match self.switch.load(Ordering::SeqCst) {
            1 => Err(Err(FeedError::Away("switched off".to_owned()))),
            _ => Ok(()),
        }
    }
}

impl FeedSource for Switched {
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
        Box::pin(async move {
            match self.answer() {
                Ok(()) => self.primary.heads().await,
                Err(away) => away,
            }
        })
    }

    fn snapshot(
        &self,
        partition: Partition,
        after: Option<DocumentKey>,
        max: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
        Box::pin(async move {
            match self.answer() {
                Ok(()) => self.primary.snapshot(partition, after, max).await,
                Err(away) => away,
            }
        })
    }

    fn changes(&self, p: Partition, since: Cursor, max: usize) -> Answer<'_, Result<Changes, FeedError>> {
        Box::pin(async move {
            if let Err(away) = self.answer() {
                return away;
            }
            let mut changes = self.primary.changes(p, since, max).await?;
            if let Changes::Entries { entries, .. } = &mut changes
                && self.switch.load(Ordering::SeqCst) == 2
                && let Some(last) = entries.last_mut()
            {
                last.digest = Digest([9; 32]);
            }
            Ok(changes)
        })
    }

    fn applied(&self, reports: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>> {
        self.primary.applied(reports)
    }

    fn wake(&self) -> Wake {
        self.primary.wake()
    }
}

#[tokio::test]
async fn a_feed_that_was_away_is_caught_up_with_and_its_absence_shows() {
    let db = Store::sqlite().await;
    publish(&db.primary, 0..10).await;
    let source = Arc::new(Switched { primary: db.primary.clone(), switch: AtomicU8::new(0) });
    let copy = copy_from(&db, source.clone()).await;
    source.switch.store(1, Ordering::SeqCst);
    publish(&db.primary, 10..20).await;
    until("it fails", || copy.follower.followed().failures > 0).await;
    db.hand.advance(Duration::from_mins(15));
    assert_eq!(copy.replica.age(), Some(Duration::from_mins(15)));
    assert!(copy.replica.revocation(PROJECT, sign_in(5)).unwrap().is_some(), "what it has it serves");
    source.switch.store(0, Ordering::SeqCst);
    until("it catches up", || copy.replica.revocation(PROJECT, sign_in(15)).unwrap().is_some()).await;
    until("it is up to date", || copy.replica.age() == Some(Duration::ZERO)).await;
}

#[tokio::test]
async fn a_digest_that_does_not_fit_is_noticed_and_mended_by_a_snapshot() {
    let db = Store::sqlite().await;
    publish(&db.primary, 0..10).await;
    let source = Arc::new(Switched { primary: db.primary.clone(), switch: AtomicU8::new(0) });
    let copy = copy_from(&db, source.clone()).await;
    source.switch.store(2, Ordering::SeqCst);
    publish(&db.primary, 10..12).await;
    until("a snapshot is taken", || copy.follower.followed().snapshots > 1).await;
    until("it is there", || copy.replica.revocation(PROJECT, sign_in(11)).unwrap().is_some()).await;
}

#[tokio::test]
async fn a_new_epoch_is_fetched_anew_and_what_is_gone_there_goes_here() {
    let db = Store::sqlite().await;
    publish(&db.primary, 0..100).await;
    copy_of(&db).await.close().await;
    // As after a restored backup: an older state, in a new life.
    retract(&db.primary, 10..100).await;
    db.primary.new_epoch().await.unwrap();
    let copy = copy_of(&db).await;
    let there = |n| copy.replica.revocation(PROJECT, sign_in(n)).unwrap().is_some();
    assert!((0..100).all(|n| there(n) == (n < 10)));
    assert_eq!(copy.follower.followed().snapshots, 1);
}

#[tokio::test]
async fn another_primary_replaces_everything() {
    let (db, other) = (Store::sqlite().await, Store::sqlite().await);
    publish(&db.primary, 0..10).await;
    let gone = Partition::Project(ProjectId::from_bits(8));
    let doc = |n| {
        let user = UserId::from_bits(1);
        Document::Revocation(RevocationDoc { sign_in: sign_in(n), user, at: START, forget_at: START })
    };
    db.primary.write(async |tx| tx.publish(gone, &doc(1))).await.unwrap();
    copy_of(&db).await.close().await;
    publish(&other.primary, 5..6).await;
    let copy = copy_from(&db, Arc::new(other.primary.clone())).await;
    let there: Vec<u128> =
        (0..10).filter(|n| copy.replica.revocation(PROJECT, sign_in(*n)).unwrap().is_some()).collect();
    assert_eq!(there, [5]);
    assert_eq!(copy.replica.revision(gone), 0);
    let read = copy.replica.revocation(ProjectId::from_bits(8), sign_in(1));
    assert_eq!(read, Err(ReadError::Incomplete), "\"not revoked\" would say too much of what is not here");
}

#[tokio::test]
async fn listeners_hear_each_document_that_changed_or_that_they_must_read_all() {
    let db = Store::sqlite().await;
    let copy = copy_of(&db).await;
    let mut changes = copy.replica.subscribe();
    let mut lazy = copy.replica.subscribe();
    publish(&db.primary, 0..3).await;
    // Otherwise the partition may come as one snapshot, in which the removed document never was.
    level(&db, &copy.replica, P).await;
    retract(&db.primary, 1..2).await;
    let mut heard = Vec::new();
    while heard.len() < 4 {
        match within(changes.changed()).await {
            Changed::Keys(keys) => heard.extend(keys.iter().map(|changed| changed.key.clone())),
            other => panic!("{other:?}"),
        }
    }
    let expected = [0, 1, 2, 1].map(|n| DocumentKey::revocation(sign_in(n)));
    assert_eq!(heard, expected);
    for n in 0..270 {
        publish(&db.primary, [n]).await;
        level(&db, &copy.replica, P).await;
    }
    assert_eq!(within(lazy.changed()).await, Changed::Everything);
    copy.close().await;
    let mut last = changes.changed().await;
    while last != Changed::Closed {
        last = within(changes.changed()).await;
    }
}

#[tokio::test]
async fn following_waits_for_a_writing_thread_that_others_keep_busy() {
    let db = Store::sqlite().await;
    let copy = copy_of(&db).await;
    for n in 0..20 {
        let (value, end) = (vec![7; 10_000], START.after(Duration::from_hours(1)));
        for byte in 0..100 {
            copy.replica.keep(&[byte; 32], &value, end);
        }
        publish(&db.primary, [n]).await;
        level(&db, &copy.replica, P).await;
    }
    assert_eq!(copy.follower.followed().failures, 0);
}

#[tokio::test]
async fn the_source_hears_how_far_the_copy_is() {
    let db = Store::sqlite().await;
    publish(&db.primary, 0..3).await;
    let copy = copy_of(&db).await;
    let applied = async || -> BTreeSet<u64> {
        db.primary.applied_by(P).await.unwrap().into_iter().map(|report| report.cursor.revision).collect()
    };
    let heard = async |revision| {
        while applied().await != [revision].into() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(heard(3)).await;
    publish(&db.primary, 3..5).await;
    level(&db, &copy.replica, P).await;
    within(heard(5)).await;
    assert_eq!(db.primary.applied_by(P).await.unwrap()[0].follower, "edg_test");
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_replica() {
    let db = Store::sqlite().await;
    let _held = open(&dir_of(&db), db.hand.clock());
    let why = mezusphere_store::Replica::open(&dir_of(&db), db.hand.clock(), crate::seal()).unwrap_err();
    assert!(why.to_string().contains(&format!("in use by process {}", std::process::id())), "{why}");
}
