//! A damaged replica costs a resync: no panic, no wrong answer, no help needed.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use mezusphere_model::Entropy;
use mezusphere_store::Replica;

use crate::following::{P, PROJECT, publish, retract, sign_in};
use crate::support::{Store, seal};
use crate::{copy_of, dir_of, level};

/// Documents in the copies that get damaged: enough for several pages of sled's tree.
const DOCUMENTS: u128 = 600;

fn data(dir: &Path) -> PathBuf {
    let mut dirs: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("data."))
        .collect();
    assert_eq!(dirs.len(), 1, "{dirs:?}");
    dirs.remove(0)
}

fn snapshots(data: &Path) -> Vec<PathBuf> {
    fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snap."))
        .collect()
}

/// A store with a closed copy that holds documents 100..DOCUMENTS, and knew 0..100 before.
async fn closed_copy() -> Store {
    let db = Store::sqlite().await;
    publish(&db.primary, 0..DOCUMENTS).await;
    let copy = copy_of(&db).await;
    retract(&db.primary, 0..100).await;
    level(&db, &copy.replica, P).await;
    copy.close().await;
    // sled writes its snapshot file when it opens a log.
    drop(Replica::open(&dir_of(&db), db.hand.clock(), seal()).unwrap());
    db
}

/// Whatever was done to the files: it opens, answers nothing wrong, and is whole again after following.
async fn mends(db: &Store, what: &str) {
    {
        let replica = Replica::open(&dir_of(db), db.hand.clock(), seal()).unwrap();
        // Believed only with a cursor, and a partition with a cursor must be exactly what the feed was there: what the
        // disk lost may take it back to an earlier moment, never to one that was not.
        let revision = u128::from(replica.revision(P));
        if revision > 0 {
            for n in 0..DOCUMENTS {
                let there = replica.revocation(PROJECT, sign_in(n)).unwrap().is_some();
                let then = n < revision && DOCUMENTS + n >= revision;
                assert_eq!(
                    there, then,
                    "{what}: document {n} of a copy that calls itself whole at {revision}"
                );
            }
        } else {
            let back =
                (0..100).any(|n| replica.revocation(PROJECT, sign_in(n)).is_ok_and(|doc| doc.is_some()));
            assert!(!back, "{what}: a document that was removed came back");
        }
    }
    let copy = copy_of(db).await;
    level(db, &copy.replica, P).await;
    for n in 0..DOCUMENTS {
        let there = copy.replica.revocation(PROJECT, sign_in(n)).unwrap().is_some();
        assert_eq!(there, n >= 100, "{what}: document {n} after following");
    }
    copy.close().await;
}

#[tokio::test]
async fn an_undamaged_copy_is_used_as_it_is() {
    let db = closed_copy().await;
    let replica = Replica::open(&dir_of(&db), db.hand.clock(), seal()).unwrap();
    assert!(replica.revision(P) > 0, "otherwise the other tests here show nothing");
    drop(replica);
    mends(&db, "nothing").await;
}

#[tokio::test]
async fn a_zeroed_or_cut_snapshot_file_is_set_aside_and_nothing_is_lost() {
    for keep in [0.0, 0.5, 1.0] {
        let db = closed_copy().await;
        let snapshots = snapshots(&data(&dir_of(&db)));
        assert!(!snapshots.is_empty(), "sled has written its snapshot file");
        for path in snapshots {
            let len = fs::metadata(&path).unwrap().len();
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                clippy::cast_sign_loss,
                reason = "a share of a small file"
            )]
            file.set_len((len as f64 * keep) as u64).unwrap();
            if keep > 0.9 {
                file.write_all_at(&vec![0; usize::try_from(len).unwrap()], 0).unwrap();
            }
        }
        mends(&db, &format!("snapshot cut to {keep}")).await;
    }
}

#[tokio::test]
async fn a_cut_data_file_is_mended() {
    for keep in [0, 1, 100, 4096, 100_000, 400_000] {
        let db = closed_copy().await;
        let path = data(&dir_of(&db)).join("db");
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(keep).unwrap();
        mends(&db, &format!("data cut to {keep}")).await;
    }
}

/// Every file of a copy.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[tokio::test]
async fn a_deleted_file_is_mended_whichever_it_is() {
    let db = closed_copy().await;
    let (dir, whole) = (dir_of(&db), tempfile::tempdir().unwrap());
    copy_dir(&dir, whole.path());
    let all = files(&dir);
    for name in ["db", "conf", "snap.", "replica.lock"] {
        assert!(
            all.iter().any(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name)),
            "{all:?}"
        );
    }
    for path in all {
        fs::remove_dir_all(&dir).unwrap();
        copy_dir(whole.path(), &dir);
        fs::remove_file(&path).unwrap();
        mends(&db, &format!("{} deleted", path.display())).await;
    }
    fs::remove_dir_all(data(&dir)).unwrap();
    mends(&db, "everything deleted").await;
    fs::remove_dir_all(&dir).unwrap();
    mends(&db, "the folder deleted").await;
}

/// Flips a bit in each of these places of a file, one place at a time.
async fn flip(name: &str, places: impl Iterator<Item = u64>) {
    let db = closed_copy().await;
    let whole = tempfile::tempdir().unwrap();
    copy_dir(&dir_of(&db), whole.path());
    for place in places {
        fs::remove_dir_all(dir_of(&db)).unwrap();
        copy_dir(whole.path(), &dir_of(&db));
        let data = data(&dir_of(&db));
        let path = if name == "snap" { snapshots(&data).remove(0) } else { data.join(name) };
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let place = place % file.metadata().unwrap().len();
        let mut byte = [0];
        file.read_exact_at(&mut byte, place).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], place).unwrap();
        drop(file);
        mends(&db, &format!("bit flipped at {place} of {name}")).await;
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_data_is_mended() {
    // Spread over the file by a stride without a common factor with page and segment sizes.
    let count = if std::env::var_os("MEZU_FULL").is_some() { 400 } else { 12 };
    flip("db", (0..count).map(|n| 17 + n * 9_973)).await;
}

/// Damages up to four places of any files: bits, bytes or whole blocks, as failing disks and power cuts do.
fn damage(files: &[PathBuf], entropy: &Entropy) -> String {
    let mut done = Vec::new();
    for _ in 0..=entropy.below(4) {
        let path = &files[usize::try_from(entropy.below(files.len() as u64)).unwrap()];
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        let (place, kind) = (entropy.below(len), entropy.below(4));
        let mut block = vec![0; usize::try_from((len - place).min(4096)).unwrap()];
        file.read_exact_at(&mut block, place).unwrap();
        match (kind, block.first_mut()) {
            (0, Some(byte)) => *byte ^= 1 << entropy.below(8),
            (1, Some(byte)) => *byte = entropy.bytes::<1>()[0],
            (2, _) => block.fill(0),
            _ => {
                file.set_len(place).unwrap();
                block.clear();
            }
        }
        file.write_all_at(&block, place).unwrap();
        done.push(format!("{} at {place}, kind {kind}", path.display()));
    }
    done.join("; ")
}

#[tokio::test]
async fn damage_at_random_is_mended() {
    let count = if std::env::var_os("MEZU_FULL").is_some() { 300 } else { 12 };
    let db = closed_copy().await;
    let (dir, whole) = (dir_of(&db), tempfile::tempdir().unwrap());
    copy_dir(&dir, whole.path());
    let entropy = Entropy::counting();
    for n in 0..count {
        fs::remove_dir_all(&dir).unwrap();
        copy_dir(whole.path(), &dir);
        let files = files(&dir).into_iter().filter(|path| fs::metadata(path).unwrap().len() > 0);
        let what = damage(&files.collect::<Vec<_>>(), &entropy);
        mends(&db, &format!("{n}: {what}")).await;
    }
}

#[tokio::test]
async fn damage_under_a_copy_in_use_is_never_a_wrong_answer() {
    let entropy = Entropy::counting();
    for round in 0..4 {
        let db = closed_copy().await;
        let copy = copy_of(&db).await;
        let files =
            files(&data(&dir_of(&db))).into_iter().filter(|path| fs::metadata(path).unwrap().len() > 0);
        let what = damage(&files.collect::<Vec<_>>(), &entropy);
        for n in 0..DOCUMENTS {
            let Ok(found) = copy.replica.revocation(PROJECT, sign_in(n)) else { continue };
            assert_eq!(found.is_some(), n >= 100, "{round}: {what}: document {n}");
        }
        publish(&db.primary, DOCUMENTS..DOCUMENTS + 50).await;
        crate::until(&what, || {
            let there = |n| copy.replica.revocation(PROJECT, sign_in(n)).is_ok_and(|doc| doc.is_some());
            (100..DOCUMENTS + 50).all(there) && !(0..100).any(there)
        })
        .await;
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_snapshot_file_is_mended() {
    flip("snap", [0, 3, 9, 40, 77].into_iter()).await;
}

#[tokio::test]
async fn a_copy_sealed_with_another_key_is_fetched_anew() {
    use mezusphere_model::document::{CertificateDoc, Document, Partition};
    let db = Store::sqlite().await;
    let doc = CertificateDoc {
        names: vec!["*.localhost".to_owned()],
        chain_pem: String::new(),
        key_pem: "key".to_owned(),
        not_after: db.now(),
    };
    db.primary
        .write(async |tx| tx.publish(Partition::Platform, &Document::Certificate(doc.clone())))
        .await
        .unwrap();
    copy_of(&db).await.close().await;
    let other: std::sync::Arc<dyn mezusphere_model::seal::Seal> =
        std::sync::Arc::new(crate::support::TestSeal(9));
    let replica = std::sync::Arc::new(Replica::open(&dir_of(&db), db.hand.clock(), other).unwrap());
    assert_eq!(replica.certificates(), Ok(Vec::new()), "what cannot be opened counts as missing");
    let follower =
        replica.follow(std::sync::Arc::new(db.primary.clone()), "edg_test".to_owned(), db.entropy.clone());
    crate::within(follower.caught_up()).await;
    crate::until("it is sealed anew", || replica.certificates().is_ok_and(|all| all.len() == 1)).await;
}

#[tokio::test]
async fn r20_a_copy_is_sealed_anew_while_it_is_followed_and_the_old_key_opens_nothing_of_it() {
    use mezusphere_model::document::{CertificateDoc, Document, Partition};

    let db = Store::sqlite().await;
    let doc = |name: &str| CertificateDoc {
        names: vec![name.to_owned()],
        chain_pem: String::new(),
        key_pem: "key".to_owned(),
        not_after: db.now(),
    };
    db.primary
        .write(async |tx| {
            for n in 0..50 {
                tx.publish(Partition::Platform, &Document::Certificate(doc(&format!("{n}.localhost"))))?;
            }
            Ok::<_, mezusphere_store::StoreError>(())
        })
        .await
        .unwrap();
    let ring = || std::sync::Arc::clone(&db.ring) as std::sync::Arc<dyn mezusphere_model::seal::Seal>;
    let replica = std::sync::Arc::new(Replica::open(&dir_of(&db), db.hand.clock(), ring()).unwrap());
    let source = std::sync::Arc::new(db.primary.clone());
    let follower = replica.follow(source, "edg_test".to_owned(), db.entropy.clone());
    crate::within(follower.caught_up()).await;
    let end = db.now().after(std::time::Duration::from_mins(1));
    replica.keep(&[7; 32], b"kept", end);
    crate::until("it is kept", || replica.kept(&[7; 32]).is_some()).await;

    db.ring.set(&[2, 1]);
    crate::within(replica.reseal()).await.unwrap();
    db.ring.set(&[2]);
    assert_eq!(replica.certificates().unwrap().len(), 50);
    assert_eq!(replica.kept(&[7; 32]).as_deref(), Some(b"kept".as_slice()));
    db.ring.set(&[1]);
    assert_eq!(replica.kept(&[7; 32]), None, "the old key opens nothing");
    db.ring.set(&[2]);
    follower.stop().await;
    drop(std::sync::Arc::into_inner(replica).expect("nobody else has it open"));

    // Its fingerprint is that of what is there now, also where it must be read to be believed.
    let copied = db.dir.path().join("copied");
    copy_dir(&dir_of(&db), &copied);
    let again = Replica::open(&copied, db.hand.clock(), ring()).unwrap();
    assert_eq!(again.certificates().unwrap().len(), 50);
    assert!(again.revision(Partition::Platform) > 0);
    drop(again);
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
