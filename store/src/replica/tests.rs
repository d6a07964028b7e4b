//! What cannot be brought about from outside: a database that fails while it is in use.

#![allow(clippy::unwrap_used, reason = "the helpers of a test fail as the test does: by a panic")]

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::document::{Document, DocumentKey, Partition, RevocationDoc};
use mezusphere_model::id::{ProjectId, SignInId, UserId};
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_model::{Clock, Entropy, Timestamp};

use super::disk::DiskError;
use super::record;
use super::{Changed, Changes, Follower, ReadError, Replica};
use crate::{Primary, StoreError};

const PROJECT: ProjectId = ProjectId::from_bits(7);
const P: Partition = Partition::Project(PROJECT);

/// Seals nothing: no document here holds a key.
struct Open;

impl Seal for Open {
    fn seal(&self, _: &str, secret: &[u8]) -> Vec<u8> {
        secret.to_vec()
    }

    fn open(&self, _: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        Ok(sealed.to_vec())
    }
}

fn clock() -> Clock {
    Clock::new(|| std::time::UNIX_EPOCH + Duration::from_secs(1000))
}

fn sign_in(n: u128) -> SignInId {
    SignInId::from_bits(n)
}

/// A primary with documents 0..100, and a copy of it.
async fn copy() -> (tempfile::TempDir, Arc<Replica>, Follower, Changes) {
    let dir = tempfile::tempdir().unwrap();
    let primary =
        Primary::open_sqlite(dir.path(), clock(), Entropy::counting(), Arc::new(Open)).await.unwrap();
    primary
        .write(async |tx| {
            for n in 0..100 {
                let (user, at) = (UserId::from_bits(n), Timestamp::default());
                let doc = RevocationDoc { sign_in: sign_in(n), user, at, forget_at: at };
                tx.publish(P, &Document::Revocation(doc))?;
            }
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    let replica = Arc::new(Replica::open(&dir.path().join("replica"), clock(), Arc::new(Open)).unwrap());
    let follower = replica.follow(Arc::new(primary), "edg".to_owned(), Entropy::counting());
    follower.caught_up().await;
    let changes = replica.subscribe();
    (dir, replica, follower, changes)
}

fn whole(replica: &Replica) -> bool {
    (0..100).all(|n| matches!(replica.revocation(PROJECT, sign_in(n)), Ok(Some(_))))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect(what);
}

#[tokio::test]
async fn a_database_that_fails_in_use_is_begun_anew_and_filled_again() {
    for why in [DiskError::Damaged, DiskError::Io] {
        let (dir, replica, follower, mut changes) = copy().await;
        replica.shared.damaged_disk(why);
        let rounds = follower.followed().rounds;
        until("another round", || follower.followed().rounds > rounds).await;
        assert!(whole(&replica));
        assert_eq!(follower.followed().snapshots, 2);
        let kept = dir.path().join("replica/damaged").exists();
        assert_eq!(kept, why == DiskError::Damaged, "a full disk has no room for two");
        // Nobody was told that everything is gone; only, when all was there again, to read it.
        loop {
            match changes.changed().await {
                Changed::Keys(_) => {}
                Changed::Everything => break,
                Changed::Closed => panic!("it goes on"),
            }
        }
        follower.stop().await;
        drop(Arc::into_inner(replica).unwrap());
        let again = Replica::open(&dir.path().join("replica"), clock(), Arc::new(Open)).unwrap();
        assert!(whole(&again));
    }
}

#[tokio::test]
async fn a_bad_value_is_never_an_answer_and_its_partition_is_fetched_anew() {
    let (_dir, replica, follower, _changes) = copy().await;
    let key = DocumentKey::revocation(sign_in(42));
    let place = record::document_key(P, key.as_str());
    let mut value = replica.shared.disk.get(&place).unwrap().unwrap().to_vec();
    *value.last_mut().unwrap() ^= 1;
    let mut batch = sled::Batch::default();
    batch.insert(place.as_slice(), value);
    replica.shared.disk.apply(batch).unwrap();
    let read = replica.revocation(PROJECT, sign_in(42));
    assert_eq!(read, Err(ReadError::Damaged), "\"not revoked\" would let somebody in");
    until("it is mended", || whole(&replica)).await;
    assert_eq!(follower.followed().snapshots, 2);
}

#[tokio::test]
async fn a_document_that_vanished_or_came_back_is_noticed_at_the_next_start() {
    for what in ["vanished", "came back"] {
        let (dir, replica, follower, _changes) = copy().await;
        let n = if what == "vanished" { 42 } else { 4242 };
        let place = record::document_key(P, DocumentKey::revocation(sign_in(n)).as_str());
        let mut batch = sled::Batch::default();
        if what == "vanished" {
            batch.remove(place.as_slice());
        } else {
            batch.insert(place.as_slice(), record::write(&place, b"{}"));
        }
        replica.shared.disk.apply(batch).unwrap();
        follower.stop().await;
        drop(Arc::into_inner(replica).unwrap());
        let again = Replica::open(&dir.path().join("replica"), clock(), Arc::new(Open)).unwrap();
        assert_eq!(again.revision(P), 0, "{what}");
        let read = again.revocation(PROJECT, sign_in(1));
        assert_eq!(read, Err(ReadError::Incomplete), "{what}: nothing of it is believed");
    }
}
