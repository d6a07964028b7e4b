//! `kill -9` of a process that holds a replica and writes to it without pause: what it reported is there, whatever
//! is there is one moment of the feed, and it starts soon.
//!
//! The feed is the same in every process, made up from the revision alone, so that nothing but the replica needs to survive.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mezusphere_model::Entropy;
use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::Partition;
use mezusphere_model::id::{ProjectId, SignInId};
use mezusphere_store::Replica;

use crate::made::{Made, revocation};
use crate::support::START;
use crate::{open, within};

const PROJECT: ProjectId = ProjectId::from_bits(1);
const P: Partition = Partition::Project(PROJECT);

/// Tells the child where the replica is.
const CHILD: &str = "MEZU_STORE_KILLED_REPLICA";

/// Tells the child how long the feed is when it begins.
const LENGTH: &str = "MEZU_STORE_KILLED_FEED";

/// Kills of one replica; then a new one begins, so that reading all of it each time stays quick.
const LIVES: u64 = 20;

/// How soon a start must be over.
const START_MAX: Duration = Duration::from_secs(2);

/// Adds revision `n`: every tenth removes what the fifth before it published.
fn add(made: &Made, n: u64) {
    if n.is_multiple_of(10) {
        made.file(P, revocation(u128::from(n - 5)).key(), None);
    } else {
        made.publish(P, &revocation(u128::from(n)));
    }
}

fn made_up_to(revision: u64) -> Made {
    let made = Made::new();
    (1..=revision).for_each(|n| add(&made, n));
    made
}

/// Whether document `n` exists at a revision.
fn exists(n: u64, revision: u64) -> bool {
    !n.is_multiple_of(10) && n <= revision && (n % 10 != 5 || n + 5 > revision)
}

fn has(replica: &Replica, n: u64) -> bool {
    replica.revocation(PROJECT, SignInId::from_bits(u128::from(n))).is_ok_and(|doc| doc.is_some())
}

/// The child: follows a feed that grows without pause, and says what it has reported to it, which is on the disk.
/// Does nothing when run as an ordinary test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let length: u64 = std::env::var(LENGTH).unwrap().parse().unwrap();
    let made = Arc::new(made_up_to(length));
    let replica = open(Path::new(&dir), ManualClock::at(START).clock());
    let _follower = replica.follow(made.clone(), "edg_test".to_owned(), Entropy::counting());
    let (mut said, mut out) = (0, std::io::stdout());
    for n in length + 1.. {
        add(&made, n);
        tokio::time::sleep(Duration::from_micros(300)).await;
        let reported = made.reports.lock().unwrap().get(&P).map_or(0, |cursor| cursor.revision);
        if reported > said {
            said = reported;
            writeln!(out, "reported {said}").unwrap();
            out.flush().unwrap();
        }
    }
}

#[tokio::test]
async fn a_killed_holder_of_a_replica_has_all_it_reported_and_starts_soon() {
    let kills: u64 = if std::env::var_os("MEZU_FULL").is_some() { 200 } else { 6 };
    let mut dir = tempfile::tempdir().unwrap();
    let (mut length, mut kept, mut slowest) = (10, 0, Duration::ZERO);
    for kill in 0..kills {
        if kill % LIVES == LIVES - 1 {
            (dir, length) = (tempfile::tempdir().unwrap(), 10);
        }
        let reported = run_and_kill(dir.path(), length, Duration::from_millis(20 + kill * 61 % 350));
        let begun = Instant::now();
        let replica = open(dir.path(), ManualClock::at(START).clock());
        slowest = slowest.max(begun.elapsed());
        let revision = replica.revision(P);
        assert!(
            revision >= reported || revision == 0,
            "kill {kill}: {reported} were reported, {revision} is there"
        );
        length = length.max(revision).max(reported);
        let wrong = (1..=length + 10).find(|n| has(&replica, *n) != exists(*n, revision));
        assert_eq!(wrong, None, "kill {kill}: at revision {revision}");
        // And it follows on, without fetching anew what it has.
        let made = Arc::new(made_up_to(length));
        let follower = replica.follow(made.clone(), "edg_test".to_owned(), Entropy::counting());
        within(follower.caught_up()).await;
        assert_eq!(replica.revision(P), length);
        assert!((1..=length).all(|n| has(&replica, n) == exists(n, length)), "kill {kill}");
        assert_eq!(follower.followed().snapshots, u64::from(revision == 0), "kill {kill}");
        assert!(made.asked.load(Ordering::SeqCst) < 100);
        kept += u64::from(revision > 0);
        follower.stop().await;
    }
    println!("{kept} of {kills} replicas were used as they were; the slowest start took {slowest:?}");
    assert!(slowest <= START_MAX, "{slowest:?}");
    assert!(kept * 10 >= kills * 9, "most replicas are used as they are: {kept} of {kills}");
}

/// Runs the child, kills it this long after its first word, and tells the last revision it reported.
fn run_and_kill(dir: &Path, length: u64, after: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["sled_kills::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .env(LENGTH, length.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let number = |line: &str| line.split_once("reported ").and_then(|(_, n)| n.trim().parse().ok());
    let mut last: u64 = loop {
        let line = lines.next().expect("the child says something before it ends").unwrap();
        if let Some(first) = number(&line) {
            break first;
        }
    };
    let killer = std::thread::spawn(move || {
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap()
    });
    // A last line may be cut off: it is shorter then, and said of a revision that was reported.
    for line in lines.map_while(Result::ok) {
        last = number(&line).unwrap_or(last).max(last);
    }
    assert!(!killer.join().unwrap().success(), "it was killed, not done");
    last
}
