//! The feed: what is committed is published, in one order, and a follower can tell what it has missed.

use std::collections::BTreeMap;
use std::time::Duration;

use mezusphere_model::document::{Document, DocumentKey, Partition, RevocationDoc};
use mezusphere_model::id::{OrganizationId, ProjectId, SignInId, UserId};
use mezusphere_store::feed::{AppliedReport, Changes, Cursor, Digest, Entry, FeedSource as _, Woken};
use mezusphere_store::primary::{PUBLISH_MAX, StoreError, project, prune};

use crate::on_each;
use crate::support::{START, Store, write};

/// A small document with an id of our choosing.
pub(crate) fn document(n: u128) -> Document {
    Document::Revocation(RevocationDoc {
        sign_in: SignInId::from_bits(n),
        user: UserId::from_bits(n),
        at: START,
        forget_at: START,
    })
}

fn key(n: u128) -> DocumentKey {
    DocumentKey::revocation(SignInId::from_bits(n))
}

fn partition(n: u128) -> Partition {
    Partition::Project(ProjectId::from_bits(n))
}

fn beginning(db: &Store) -> Cursor {
    Cursor { epoch: db.primary.epoch(), revision: 0, digest: Digest::EMPTY }
}

async fn publish(db: &Store, partition: Partition, documents: &[u128]) {
    db.primary
        .write(async |tx| {
            for n in documents {
                tx.publish(partition, &document(*n))?;
            }
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
}

/// All entries since a cursor, in batches; `None`: start over.
async fn since(db: &Store, partition: Partition, mut cursor: Cursor, max: usize) -> Option<Vec<Entry>> {
    let mut all = Vec::new();
    loop {
        match db.primary.changes(partition, cursor, max).await.unwrap() {
            Changes::StartOver => return None,
            Changes::Entries { entries, more } => {
                assert!(entries.len() <= max);
                if let Some(last) = entries.last() {
                    cursor = Cursor { revision: last.revision, digest: last.digest, ..cursor };
                }
                all.extend(entries);
                if !more {
                    return Some(all);
                }
            }
        }
    }
}

async fn head(db: &Store, partition: Partition) -> Cursor {
    let heads = db.primary.heads().await.unwrap();
    heads.into_iter().find(|head| head.partition == partition).unwrap().cursor
}

#[tokio::test]
async fn entries_come_in_order_with_digests_that_prove_it() {
    on_each(async |db: Store| {
        let p = partition(1);
        publish(&db, p, &[1, 2]).await;
        publish(&db, p, &[3]).await;
        db.primary.write(async |tx| tx.retract(p, key(2))).await.unwrap();
        let entries = since(&db, p, beginning(&db), 2).await.unwrap();
        let mut digest = Digest::EMPTY;
        for (at, entry) in entries.iter().enumerate() {
            assert_eq!(entry.revision, at as u64 + 1);
            digest = digest.then(entry.revision, &entry.key, entry.body.as_ref().map(|body| body.get()));
            assert_eq!(entry.digest, digest);
        }
        assert_eq!(entries.len(), 4);
        assert!(entries[3].body.is_none());
        let body: Document = serde_json::from_str(entries[0].body.as_ref().unwrap().get()).unwrap();
        assert_eq!(body, document(1));
        assert_eq!(head(&db, p).await, Cursor { revision: 4, digest, epoch: db.primary.epoch() });
    })
    .await;
}

#[tokio::test]
async fn a_change_that_is_rolled_back_is_not_published() {
    on_each(async |db: Store| {
        let failed = db.primary.write(async |tx| {
            tx.publish(partition(1), &document(1))?;
            Err::<(), _>(StoreError::Unavailable("no".to_owned()))
        });
        assert!(failed.await.is_err());
        assert_eq!(db.primary.heads().await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn of_several_versions_in_one_change_the_last_is_published() {
    on_each(async |db: Store| {
        let p = partition(1);
        let ((), published) = db
            .primary
            .write_published(async |tx| {
                tx.publish(p, &document(1))?;
                tx.publish(p, &document(2))?;
                tx.retract(p, key(1))?;
                tx.retract(p, key(9))?; // never was there
                tx.publish(p, &document(1))?;
                tx.retract(p, key(2))
            })
            .await
            .unwrap();
        let entries = since(&db, p, beginning(&db), 10).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(), [key(1)]);
        assert_eq!(published.revision(p), Some(1));
        assert_eq!(published.revision(partition(2)), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_never_publish_out_of_order() {
    on_each(async |db: Store| {
        let writers = 8_u128;
        let each = 25_u128;
        let follow = {
            let primary = db.primary.clone();
            tokio::spawn(async move {
                // What a follower sees while they write: every step fits the one before, nothing appears behind it.
                let mut cursors: BTreeMap<Partition, Cursor> = BTreeMap::new();
                let mut seen = 0;
                while seen < usize::try_from(writers * each * 2).unwrap() {
                    for head in primary.heads().await.unwrap() {
                        let start = Cursor { revision: 0, digest: Digest::EMPTY, ..head.cursor };
                        let cursor = cursors.entry(head.partition).or_insert(start);
                        let changes = primary.changes(head.partition, *cursor, 7).await.unwrap();
                        let Changes::Entries { entries, .. } = changes else { panic!("start over") };
                        for entry in entries {
                            let body = entry.body.as_ref().map(|body| body.get());
                            assert_eq!(entry.revision, cursor.revision + 1);
                            assert_eq!(entry.digest, cursor.digest.then(entry.revision, &entry.key, body));
                            (cursor.revision, cursor.digest) = (entry.revision, entry.digest);
                            seen += 1;
                        }
                    }
                }
                cursors
            })
        };
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let primary = db.primary.clone();
                tokio::spawn(async move {
                    for n in 0..each {
                        let id = writer * 1000 + n;
                        let ((), published) = primary
                            .write_published(async |tx| {
                                // Named in an order of their own; locked in one.
                                let (first, second) = if n % 2 == 0 { (1, 2) } else { (2, 1) };
                                tx.publish(partition(first), &document(id))?;
                                tx.publish(partition(second), &document(id))
                            })
                            .await
                            .unwrap();
                        assert!(published.revision(partition(1)).is_some());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let cursors = tokio::time::timeout(Duration::from_secs(30), follow).await.unwrap().unwrap();
        for p in [partition(1), partition(2)] {
            assert_eq!(cursors[&p], head(&db, p).await);
            assert_eq!(cursors[&p].revision, u64::try_from(writers * each).unwrap());
        }
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_is_what_stands_now_page_by_page() {
    on_each(async |db: Store| {
        let p = partition(1);
        let all: Vec<u128> = (0..250).collect();
        publish(&db, p, &all).await;
        publish(&db, p, &[7]).await;
        db.primary.write(async |tx| tx.retract(p, key(8))).await.unwrap();
        let (mut after, mut keys) = (None, Vec::new());
        loop {
            let page = db.primary.snapshot(p, after, 90).await.unwrap();
            assert!(page.documents.len() <= 90);
            assert_eq!(page.cursor, head(&db, p).await);
            keys.extend(page.documents.into_iter().map(|filed| filed.key));
            if !page.more {
                break;
            }
            after = keys.last().cloned();
        }
        let mut expected: Vec<_> = all.iter().filter(|n| **n != 8).map(|n| key(*n)).collect();
        expected.sort();
        assert_eq!(keys, expected);

        let empty = db.primary.snapshot(partition(2), None, 10).await.unwrap();
        assert!(empty.documents.is_empty() && !empty.more);
        assert_eq!(empty.cursor, beginning(&db));
    })
    .await;
}

#[tokio::test]
async fn a_cursor_that_does_not_fit_starts_over() {
    on_each(async |db: Store| {
        let p = partition(1);
        publish(&db, p, &[1, 2, 3]).await;
        let at_head = head(&db, p).await;
        let entries = since(&db, p, beginning(&db), 10).await.unwrap();
        let second = Cursor { revision: 2, digest: entries[1].digest, ..at_head };
        assert_eq!(since(&db, p, second, 10).await.unwrap().len(), 1);
        assert_eq!(since(&db, p, at_head, 10).await.unwrap().len(), 0);
        let unfit = [
            Cursor { digest: Digest([7; 32]), ..second },
            Cursor { digest: Digest([7; 32]), ..at_head },
            Cursor { revision: 4, ..at_head },
            Cursor { epoch: mezusphere_store::feed::Epoch(1), ..second },
        ];
        for cursor in unfit {
            assert!(since(&db, p, cursor, 10).await.is_none(), "{cursor:?}");
        }
        let epoch = db.primary.new_epoch().await.unwrap();
        assert_ne!(epoch, at_head.epoch);
        assert_eq!(db.primary.epoch(), epoch);
        assert!(since(&db, p, at_head, 10).await.is_none(), "a restored backup begins a new life");
        assert_eq!(head(&db, p).await, Cursor { epoch, ..at_head });
    })
    .await;
}

#[tokio::test]
async fn a_deleted_project_leaves_an_empty_partition_and_every_follower_starts_over() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let p = Partition::Project(a.project);
        db.key(&a, "ci").await;
        let before = head(&db, p).await;
        write(&db.primary, async |tx| project::delete(tx, a.organization, a.project).await).await.unwrap();
        assert!(since(&db, p, before, 10).await.is_none());
        let page = db.primary.snapshot(p, None, 10).await.unwrap();
        assert!(page.documents.is_empty() && !page.more);
        assert_eq!(since(&db, p, page.cursor, 10).await.unwrap().len(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_and_a_slow_one_are_never_read_out_of_order() {
    on_each(async |db: Store| {
        let p = partition(1);
        let slow = {
            let primary = db.primary.clone();
            tokio::spawn(async move {
                primary
                    .write(async |tx| {
                        tx.publish(p, &document(SLOW))?;
                        // Begun first, done last: what the fast ones commit meanwhile must not come before it unseen.
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        Ok::<_, StoreError>(())
                    })
                    .await
                    .unwrap();
            })
        };
        read_in_order(&db, p, slow).await;
    })
    .await;
}

/// The document of the slow writer.
pub(crate) const SLOW: u128 = 9999;

/// Two fast writers beside a slow one, and a reader that polls until it has seen all: no gap, no entry behind the last
/// one read.
pub(crate) async fn read_in_order(db: &Store, p: Partition, slow: tokio::task::JoinHandle<()>) {
    let each = 20_u128;
    let fast: Vec<_> = (0..2)
        .map(|writer| {
            let primary = db.primary.clone();
            tokio::spawn(async move {
                for n in 0..each {
                    let doc = document(writer * 1000 + n);
                    primary.write(async |tx| tx.publish(p, &doc)).await.unwrap();
                }
            })
        })
        .collect();
    let mut cursor = beginning(db);
    let mut keys = Vec::new();
    let reading = async {
        while keys.len() < usize::try_from(each * 2 + 1).unwrap() {
            let changes = db.primary.changes(p, cursor, 3).await.unwrap();
            let Changes::Entries { entries, .. } = changes else { panic!("start over") };
            for entry in entries {
                assert_eq!(entry.revision, cursor.revision + 1, "a gap");
                let body = entry.body.as_ref().map(|body| body.get());
                assert_eq!(entry.digest, cursor.digest.then(entry.revision, &entry.key, body));
                (cursor.revision, cursor.digest) = (entry.revision, entry.digest);
                keys.push(entry.key);
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), reading).await.unwrap();
    slow.await.unwrap();
    for writer in fast {
        writer.await.unwrap();
    }
    assert!(keys.contains(&key(SLOW)));
    assert_eq!(cursor, head(db, p).await);
}

#[tokio::test]
async fn a_commit_wakes_whoever_listens() {
    on_each(async |db: Store| {
        let mut wake = db.primary.wake();
        publish(&db, partition(5), &[1]).await;
        let mut first = wake.woken().await;
        if first == Woken::Anything {
            first = wake.woken().await; // said once by an engine that begins to listen to other nodes
        }
        assert_eq!(first, Woken::Changed([partition(5)].into()));
        // Nothing published, nobody woken: the next thing heard is the next publication.
        db.primary.write(async |_| Ok::<_, StoreError>(())).await.unwrap();
        publish(&db, Partition::Organization(OrganizationId::from_bits(1)), &[1]).await;
        let heard = wake.woken().await;
        assert_eq!(heard, Woken::Changed([Partition::Organization(OrganizationId::from_bits(1))].into()));
        for n in 0..300 {
            publish(&db, partition(n), &[1]).await;
        }
        assert_eq!(wake.woken().await, Woken::Anything, "too slow to be told each");
    })
    .await;
}

#[tokio::test]
async fn superseded_entries_go_and_what_stands_stays() {
    on_each(async |db: Store| {
        let p = partition(1);
        publish(&db, p, &[1, 2]).await;
        db.primary.write(async |tx| tx.retract(p, key(2))).await.unwrap();
        let old = head(&db, p).await;
        // Far past what is retained: one document that changes all the time.
        for round in 0..12 {
            db.primary
                .write(async |tx| {
                    for n in 0..1000 {
                        tx.publish(p, &document(1000 + (round % 2) * 1000 + n))?;
                    }
                    Ok::<_, StoreError>(())
                })
                .await
                .unwrap();
        }
        let at_head = head(&db, p).await;
        let mut rounds = 0;
        while db.primary.write(async |tx| prune::prune(tx).await).await.unwrap() > 0 {
            rounds += 1;
            assert!(rounds < 1000, "pruning comes to an end");
        }
        assert!(rounds > 0);
        assert!(since(&db, p, old, 1000).await.is_none(), "it was pruned away");
        assert_eq!(since(&db, p, at_head, 10).await.unwrap().len(), 0);
        let kept = Cursor { revision: at_head.revision - prune::RETAINED_ENTRIES + 2000, ..at_head };
        let page = db.primary.snapshot(p, None, 1000).await.unwrap();
        assert_eq!(page.documents[0].key.clone().min(key(1)), page.documents[0].key);
        let all = {
            let second =
                db.primary.snapshot(p, page.documents.last().map(|filed| filed.key.clone()), 1000).await;
            let third = second.as_ref().unwrap().documents.last().map(|filed| filed.key.clone());
            let third = db.primary.snapshot(p, third, 1000).await.unwrap();
            page.documents.len() + second.unwrap().documents.len() + third.documents.len()
        };
        assert_eq!(all, 2001, "document 1 and the 2000 others, no tombstone");
        // A wrong digest is noticed in what is retained.
        assert!(since(&db, p, Cursor { digest: Digest([1; 32]), ..kept }, 1000).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn one_change_cannot_publish_without_bound() {
    on_each(async |db: Store| {
        let over = db.primary.write(async |tx| {
            let doc = document(1);
            for _ in 0..=PUBLISH_MAX {
                tx.publish(partition(1), &doc)?;
            }
            Ok::<_, StoreError>(())
        });
        assert!(matches!(over.await, Err(StoreError::TooLarge(_))));
    })
    .await;
}

#[tokio::test]
async fn what_followers_applied_can_be_asked() {
    on_each(async |db: Store| {
        let p = partition(1);
        publish(&db, p, &[1]).await;
        let cursor = head(&db, p).await;
        let report = |revision| AppliedReport {
            follower: "edg_1".to_owned(),
            partition: p,
            cursor: Cursor { revision, ..cursor },
            at: START,
        };
        db.primary.applied(vec![report(0)]).await.unwrap();
        mezusphere_store::feed::FeedSource::applied(&db.primary, vec![report(1)]).await.unwrap();
        assert_eq!(db.primary.applied_by(p).await.unwrap(), [report(1)]);
        assert_eq!(db.primary.applied_by(partition(2)).await.unwrap(), []);
    })
    .await;
}
