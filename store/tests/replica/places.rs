//! Where a replica lies: a disk that fills up, a place that cannot be written, somebody else's copy, two processes.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Entropy;
use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::Partition;
use mezusphere_model::id::{ProjectId, SignInId};
use mezusphere_store::Replica;
use mezusphere_store::replica::OpenError;

use crate::made::{Made, revocation};
use crate::support::{START, seal};
use crate::{open, until, within};

const PROJECT: ProjectId = ProjectId::from_bits(1);
const P: Partition = Partition::Project(PROJECT);

/// Tells the child which replica to hold.
const HELD: &str = "MEZU_STORE_HELD_REPLICA";

fn has(replica: &Replica, n: u128) -> bool {
    replica.revocation(PROJECT, SignInId::from_bits(n)).is_ok_and(|doc| doc.is_some())
}

/// That it cannot be told is no wrong answer.
fn is_missing(replica: &Replica, n: u128) -> bool {
    replica.revocation(PROJECT, SignInId::from_bits(n)) == Ok(None)
}

/// A file system in memory, as small as it was asked for. Gone when dropped.
struct Tiny(tempfile::TempDir);

impl Tiny {
    /// `None` where this process may not mount one; it says so then.
    #[expect(clippy::print_stderr, reason = "a test that shows nothing says why")]
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            Some(Self(dir))
        } else {
            eprintln!("skipped: only root may mount the small file system this needs");
            None
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no room; removing the file it returns makes room again.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        let block = [7; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        path
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_costs_freshness_and_never_a_wrong_answer_and_is_used_again_when_there_is_room()
{
    let Some(tiny) = Tiny::mount("size=16m") else { return };
    let (made, hand) = (Arc::new(Made::new()), ManualClock::at(START));
    (0..100).for_each(|n| made.publish(P, &revocation(n)));
    let replica = open(&tiny.path().join("replica"), hand.clock());
    let follower = replica.follow(made.clone(), "edg_test".to_owned(), Entropy::counting());
    within(follower.caught_up()).await;
    let filler = tiny.fill();
    // More than any slack the database has in its file.
    (100..8_000).for_each(|n| made.publish(P, &revocation(n)));
    until("it shows", || follower.status().fault.is_some()).await;
    for _ in 0..20 {
        let revision = u128::from(replica.revision(P));
        if let Some(wrong) = (0..revision).find(|n| is_missing(&replica, *n)) {
            // It may have been begun anew meanwhile; then it does not say that it holds anything.
            let now = u128::from(replica.revision(P));
            assert!(now < revision, "document {wrong} of a copy that calls itself whole at {now}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fs::remove_file(filler).unwrap();
    until("it is whole again", || replica.revision(P) == 8_000 && follower.status().fault.is_none()).await;
    assert!((0..8_000).all(|n| has(&replica, n)));
    follower.stop().await;
    drop(Arc::into_inner(replica).unwrap());
    let again = open(&tiny.path().join("replica"), hand.clock());
    assert_eq!(again.revision(P), 8_000, "what was written last is on the disk");
}

#[tokio::test]
async fn a_full_disk_while_control_is_away_takes_nothing_from_what_is_there() {
    let Some(tiny) = Tiny::mount("size=16m") else { return };
    let (made, hand) = (Arc::new(Made::new()), ManualClock::at(START));
    (0..1000).for_each(|n| made.publish(P, &revocation(n)));
    let dir = tiny.path().join("replica");
    let replica = open(&dir, hand.clock());
    let follower = replica.follow(made.clone(), "edg_test".to_owned(), Entropy::counting());
    within(follower.caught_up()).await;
    until("it is on the disk", || made.reports.lock().unwrap().contains_key(&P)).await;
    let filler = tiny.fill();
    made.twists.lock().unwrap().away = true;
    // The age is written once a minute; make it fail a few times.
    for _ in 0..5 {
        hand.advance(Duration::from_mins(2));
        let failures = follower.followed().failures;
        made.ring(P);
        until("it was tried", || follower.followed().failures > failures).await;
        assert!((0..1000).all(|n| has(&replica, n)));
    }
    assert_eq!(replica.age(), Some(Duration::from_mins(10)));
    // A start needs a little room; without it, it says so and leaves everything as it is.
    follower.stop().await;
    drop(Arc::into_inner(replica).unwrap());
    let why = Replica::open(&dir, hand.clock(), seal()).unwrap_err();
    assert!(matches!(why, OpenError::Unwritable { .. }), "{why:?}");
    assert!(why.to_string().contains("No space left"), "{why}");
    fs::remove_file(filler).unwrap();
    let replica = open(&dir, hand.clock());
    assert_eq!(replica.revision(P), 1000);
    assert!((0..1000).all(|n| has(&replica, n)));
    assert!(replica.age() >= Some(Duration::from_mins(10)), "it goes on counting: {:?}", replica.age());
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_a_clear_error() {
    let refused = |dir: &Path| {
        let why = Replica::open(dir, ManualClock::at(START).clock(), seal()).unwrap_err();
        assert!(matches!(why, OpenError::Unwritable { .. }), "{why:?}");
        assert!(why.to_string().contains(&*dir.to_string_lossy()), "{why}");
    };
    refused(Path::new("/proc/mezu-replica")); // nobody may make a folder there, not even root
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    refused(&file);
    refused(&file.join("replica"));
    if let Some(tiny) = Tiny::mount("size=1m,ro") {
        refused(tiny.path());
    }
}

#[tokio::test]
async fn a_read_only_disk_under_a_good_copy_is_a_clear_error() {
    let Some(tiny) = Tiny::mount("size=16m") else { return };
    let (dir, hand) = (tiny.path().join("replica"), ManualClock::at(START));
    drop(open(&dir, hand.clock()));
    let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(tiny.path()).status().unwrap();
    assert!(remount.success());
    let why = Replica::open(&dir, hand.clock(), seal()).unwrap_err();
    assert!(matches!(why, OpenError::Unwritable { .. }), "{why:?}");
}

/// A closed copy of somebody's, with documents 0..10.
async fn closed_copy_of(owner: &str, dir: &Path) {
    let made = Arc::new(Made::new());
    (0..10).for_each(|n| made.publish(P, &revocation(n)));
    let replica = Replica::open_for(owner, dir, ManualClock::at(START).clock(), seal()).unwrap();
    let replica = Arc::new(replica);
    let follower = replica.follow(made, "edg_test".to_owned(), Entropy::counting());
    within(follower.caught_up()).await;
    follower.stop().await;
    drop(Arc::into_inner(replica).unwrap());
}

#[tokio::test]
async fn r21_the_copy_of_another_installation_or_edge_is_never_served() {
    let ours = "spiffe://mezu.localhost/edge/1";
    for (theirs, is_ours) in
        [(ours, true), ("spiffe://mezu.localhost/edge/2", false), ("spiffe://other.example/edge/1", false)]
    {
        let dir = tempfile::tempdir().unwrap();
        closed_copy_of(theirs, dir.path()).await;
        for _ in 0..2 {
            let replica =
                Replica::open_for(ours, dir.path(), ManualClock::at(START).clock(), seal()).unwrap();
            assert_eq!(replica.revision(P) == 10, is_ours, "{theirs}");
            assert_eq!((0..10).any(|n| has(&replica, n)), is_ours, "{theirs}");
            assert_eq!(replica.age().is_some(), is_ours, "{theirs}");
        }
        let kept = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(kept, 2, "{theirs}: the lock and one database; nothing of others is left");
    }
}

#[tokio::test]
async fn a_copy_that_does_not_say_whose_it_is_is_not_ours() {
    let (dir, made) = (tempfile::tempdir().unwrap(), Arc::new(Made::new()));
    made.publish(P, &revocation(1));
    let replica = open(dir.path(), ManualClock::at(START).clock());
    let follower = replica.follow(made, "edg_test".to_owned(), Entropy::counting());
    within(follower.caught_up()).await;
    follower.stop().await;
    drop(Arc::into_inner(replica).unwrap());
    let replica = Replica::open_for(
        "spiffe://mezu.localhost/edge/1",
        dir.path(),
        ManualClock::at(START).clock(),
        seal(),
    );
    assert!(!has(&replica.unwrap(), 1));
}

/// The child: holds a replica until its input ends. Does nothing when run as an ordinary test.
#[test]
fn holder() {
    let Some(dir) = std::env::var_os(HELD) else { return };
    let _held = open(Path::new(&dir), ManualClock::at(START).clock());
    println!("held");
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn a_second_process_is_told_which_one_holds_the_replica_and_takes_over_when_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["places::holder", "--exact", "--nocapture", "--test-threads=1"])
        .env(HELD, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("held")), "the child opened it");
    let why = Replica::open(dir.path(), ManualClock::at(START).clock(), seal()).unwrap_err();
    assert!(why.to_string().contains(&format!("in use by process {}", child.id())), "{why}");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(open(dir.path(), ManualClock::at(START).clock()));
}
