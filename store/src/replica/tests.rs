//! What cannot be brought about from outside: a database that fails while it is in use.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail as the test does: by a panic"
)]

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::document::{Document, DocumentKey, Partition, RevocationDoc};
use mezusphere_model::id::{ProjectId, SignInId, UserId};
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_model::{Clock, Entropy, Timestamp};

use super::disk::{Disk, DiskError};
use super::record::{self, Content, Position};
use super::{Changed, Changes, Follower, ReadError, Replica, whole};
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
async fn a_document_that_vanished_or_came_back_is_noticed_at_the_start_after_a_kill() {
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
        // As after a kill.
        apply(&dir.path().join("replica"), |_, batch| batch.remove(record::CLOSED));
        let again = Replica::open(&dir.path().join("replica"), clock(), Arc::new(Open)).unwrap();
        assert_eq!(again.revision(P), 0, "{what}");
        let read = again.revocation(PROJECT, sign_in(1));
        assert_eq!(read, Err(ReadError::Incomplete), "{what}: nothing of it is believed");
    }
}

/// A copy that was closed in order, and the database under it.
async fn closed() -> (tempfile::TempDir, std::path::PathBuf) {
    let (dir, replica, follower, changes) = copy().await;
    follower.stop().await;
    drop(changes);
    drop(Arc::into_inner(replica).unwrap());
    let path = dir.path().join("replica");
    (dir, path)
}

/// What opening it makes of the partition: the revision it is believed to have; 0: it is fetched anew.
fn believed(path: &std::path::Path) -> u64 {
    let replica = Replica::open(path, clock(), Arc::new(Open)).unwrap();
    assert_eq!(
        replica.shared.disk.get(record::CLOSED),
        Ok(None),
        "whoever is killed from here on is not believed"
    );
    replica.revision(P)
}

fn apply(path: &std::path::Path, change: impl FnOnce(&Disk, &mut sled::Batch)) {
    let disk = Disk::open(path).unwrap();
    let mut batch = sled::Batch::default();
    change(&disk, &mut batch);
    disk.apply(batch).unwrap();
    disk.flush().unwrap();
}

#[tokio::test]
async fn r12_a_copy_that_lost_a_document_is_not_believed_unless_it_says_that_it_was_closed_in_order() {
    let lost = record::document_key(P, DocumentKey::revocation(sign_in(50)).as_str());
    // Killed: no mark.
    let (_dir, path) = closed().await;
    assert_eq!(believed(&path), 100);
    apply(&path, |_, batch| {
        batch.remove(record::CLOSED);
        batch.remove(lost.as_slice());
    });
    assert_eq!(believed(&path), 0);
    // A mark that came back after something had moved.
    let (_dir, path) = closed().await;
    apply(&path, |disk, batch| {
        let key = record::cursor_key(P);
        let mut position = Position::read(&key, &disk.get(&key).unwrap().unwrap()).unwrap();
        position.cursor.revision += 1;
        batch.insert(key.as_slice(), position.write(&key));
        batch.remove(lost.as_slice());
    });
    assert_eq!(believed(&path), 0);
    // A mark that is damaged.
    let (_dir, path) = closed().await;
    apply(&path, |_, batch| {
        batch.insert(record::CLOSED, b"damaged".as_slice());
        batch.remove(lost.as_slice());
    });
    assert_eq!(believed(&path), 0);
}

#[tokio::test]
async fn a_copy_that_is_still_locked_is_waited_for_and_not_taken_for_damaged() {
    let (_dir, path) = closed().await;
    let data = std::fs::File::open(path.join("data.1/db")).unwrap();
    data.lock().unwrap();
    let opened = std::thread::spawn({
        let path = path.clone();
        move || believed(&path)
    });
    std::thread::sleep(Duration::from_millis(100));
    drop(data);
    assert_eq!(opened.join().unwrap(), 100);
    assert!(!path.join("damaged").exists());
}

#[tokio::test]
async fn a_copy_that_is_being_mended_does_not_say_that_it_was_closed_in_order() {
    let (dir, replica, follower, _changes) = copy().await;
    follower.stop().await;
    replica.shared.damaged_value(P);
    drop(Arc::into_inner(replica).unwrap());
    let disk = Disk::open(&dir.path().join("replica")).unwrap();
    assert_eq!(disk.get(record::CLOSED), Ok(None));
}

#[tokio::test]
async fn walking_in_parts_finds_what_walking_in_one_finds() {
    let (_dir, path) = closed().await;
    let project = |n| Partition::Project(ProjectId::from_bits(n));
    apply(&path, |_, batch| {
        for n in 0..500_u128 {
            // Some in partitions without a cursor, some of kinds nobody has heard of.
            let kind =
                ["session", "principal", "api-key", "zebra", "aardvark"][usize::try_from(n % 5).unwrap()];
            let key = format!("{kind}/{:032x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            let place = record::document_key(project(n % 3), &key);
            batch.insert(place.as_slice(), record::write(&place, b"body"));
            if let Some(index) = record::index_key(&key) {
                batch.insert(index.as_slice(), record::write_index(&index, project(n % 3)));
            }
        }
    });
    let disk = Disk::open(&path).unwrap();
    let mut in_one: std::collections::HashMap<Partition, Content> = std::collections::HashMap::new();
    disk.scan(&[], &[], |key, value| {
        let partition = if key.starts_with(record::INDEX) {
            record::read_index(&key, &value).ok()
        } else {
            record::parts_of_document_key(&key).map(|(partition, _)| partition)
        };
        if let Some(partition) = partition {
            in_one.entry(partition).or_default().add(&key, &value);
        }
        true
    })
    .unwrap();
    let cursors = whole::cursors(&disk).unwrap();
    assert_eq!(in_one.len(), 4);
    assert_eq!(whole::contents(&disk, &cursors), Ok(in_one));
}
