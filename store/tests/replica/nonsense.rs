//! A source that answers nonsense: nothing of it is believed, others go on, it is asked ever less, and it shows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::{ProjectId, SignInId};
use mezusphere_model::{Clock, Entropy};
use mezusphere_store::Replica;
use mezusphere_store::feed::{Changes, Epoch, Head, SnapshotPage};
use mezusphere_store::replica::{Follower, PartitionStatus};
use serde_json::value::RawValue;

use crate::made::{Made, Twist, Twists, revocation};
use crate::open;
use crate::support::START;

const A: ProjectId = ProjectId::from_bits(1);
const B: ProjectId = ProjectId::from_bits(2);

fn at(project: ProjectId) -> Partition {
    Partition::Project(project)
}

/// Waits until something holds, at most 20 s of real time. Time in the runtime stands still but for what is waited for, so
/// minutes of it go by; the replica's writing thread needs real time, which this leaves it.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        std::thread::sleep(Duration::from_micros(20));
    }
}

struct World {
    made: Arc<Made>,
    replica: Arc<Replica>,
    follower: Follower,
    hand: ManualClock,
    _dir: tempfile::TempDir,
}

fn clock() -> (ManualClock, Clock) {
    let hand = ManualClock::at(START);
    let clock = hand.clock();
    (hand, clock)
}

impl World {
    /// A copy of a feed with documents 0..10 in two partitions.
    async fn new() -> Self {
        let (made, dir, (hand, clock)) = (Arc::new(Made::new()), tempfile::tempdir().unwrap(), clock());
        for n in 0..10 {
            made.publish(at(A), &revocation(n));
            made.publish(at(B), &revocation(n));
        }
        let replica = open(dir.path(), clock);
        let follower = replica.follow(made.clone(), "edg_test".to_owned(), Entropy::counting());
        until("it is there", || follower.followed().rounds > 0).await;
        Self { made, replica, follower, hand, _dir: dir }
    }

    fn has(&self, project: ProjectId, n: u128) -> bool {
        self.replica.revocation(project, SignInId::from_bits(n)).is_ok_and(|doc| doc.is_some())
    }

    fn status(&self, project: ProjectId) -> PartitionStatus {
        let mut all = self.follower.partitions().into_iter();
        all.find(|status| status.partition == at(project)).unwrap()
    }

    /// What the copy of A holds is a part of what was published, and a whole one if it says so.
    fn assert_nothing_wrong(&self, what: &str) {
        let revision = u128::from(self.replica.revision(at(A)));
        for n in 0..10 {
            assert!(self.has(A, n) || revision == 0, "{what}: document {n} at {revision}");
        }
        for n in 10..revision {
            assert!(self.has(A, n), "{what}: document {n} at {revision}");
        }
        for n in 20..40 {
            assert!(!self.has(A, n), "{what}: document {n} was never published");
        }
    }
}

fn changes(
    twist: impl Fn(&mut Vec<mezusphere_store::feed::Entry>, &mut bool) + Send + Sync + 'static,
) -> Twists {
    let twist: Twist<Changes> = Box::new(move |changes| {
        if let Changes::Entries { entries, more } = changes {
            twist(entries, more);
        }
    });
    Twists { changes: Some(twist), ..Twists::default() }
}

/// A snapshot is asked for, and this is what it looks like.
fn page(twist: impl Fn(&mut SnapshotPage) + Send + Sync + 'static) -> Twists {
    Twists {
        changes: Some(Box::new(|changes| *changes = Changes::StartOver)),
        page: Some(Box::new(twist)),
        ..Twists::default()
    }
}

fn long_text(len: usize) -> Box<RawValue> {
    RawValue::from_string(format!("\"{}\"", "x".repeat(len))).unwrap()
}

fn every<T>(all: &mut [T], twist: impl Fn(&mut T)) {
    for one in all {
        twist(one);
    }
}

/// Lies about changes while snapshots are honest: starting over mends them.
fn mended_lies() -> Vec<(&'static str, Twists)> {
    vec![
        ("wrong order", changes(|entries, _| entries.reverse())),
        ("a gap", changes(|entries, _| drop(entries.drain(..1.min(entries.len()))))),
        ("twice the same", changes(|entries, _| entries.extend(entries.clone()))),
        ("another body", changes(|entries, _| every(entries, |entry| entry.body = None))),
        (
            "another key",
            changes(|entries, _| {
                every(entries, |entry| entry.key = DocumentKey::revocation(SignInId::from_bits(30)));
            }),
        ),
        ("wrong digests", changes(|entries, _| every(entries, |entry| entry.digest.0[0] ^= 1))),
        ("a leap", changes(|entries, _| every(entries, |entry| entry.revision += 1000))),
        (
            "an end before the end",
            changes(|entries, more| {
                entries.clear();
                *more = false;
            }),
        ),
        ("no change ever fits", page(|_| {})),
    ]
}

/// Lies that leave nothing to go on with.
fn lies() -> Vec<(&'static str, Twists)> {
    vec![
        (
            "more after nothing",
            changes(|entries, more| {
                entries.clear();
                *more = true;
            }),
        ),
        (
            "too many changes",
            changes(|entries, _| {
                let one = entries.clone();
                (0..1001).for_each(|_| entries.extend(one.clone()));
            }),
        ),
        (
            "a huge document",
            changes(|entries, _| {
                every(entries, |entry| entry.body = Some(long_text(3 << 20)));
            }),
        ),
        (
            "many large documents",
            page(|page| {
                every(&mut page.documents, |document| document.body = long_text(1 << 20));
            }),
        ),
        (
            "a huge key",
            changes(|entries, _| {
                every(entries, |entry| entry.key = DocumentKey::from_text(&"k".repeat(4000)));
            }),
        ),
        ("a snapshot out of order", page(|page| page.documents.reverse())),
        ("a snapshot with one document twice", page(|page| page.documents.extend(page.documents.clone()))),
        ("the same page for ever", page(|page| page.more = true)),
        ("a snapshot of another epoch", page(|page| page.cursor.epoch = Epoch(99))),
        (
            "a snapshot of an empty partition with more",
            page(|page| {
                page.documents.clear();
                page.more = true;
            }),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn r24_lies_about_changes_are_noticed_and_mended_by_starting_over() {
    for (what, twists) in mended_lies() {
        let world = World::new().await;
        *world.made.twists.lock().unwrap() = Twists { only: Some(at(A)), ..twists };
        (10..15).for_each(|n| world.made.publish(at(A), &revocation(n)));
        let before = world.follower.followed().snapshots;
        until(what, || {
            world.assert_nothing_wrong(what);
            world.follower.followed().snapshots > before && (0..15).all(|n| world.has(A, n))
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn r24_nonsense_is_never_applied_and_costs_other_partitions_nothing() {
    for (what, twists) in lies() {
        let world = World::new().await;
        *world.made.twists.lock().unwrap() = Twists { only: Some(at(A)), ..twists };
        world.hand.advance(Duration::from_mins(1));
        (10..15).for_each(|n| world.made.publish(at(A), &revocation(n)));
        until(what, || {
            world.assert_nothing_wrong(what);
            world.status(A).fault.is_some()
        })
        .await;
        // The other partition goes on, and is up to date.
        world.made.publish(at(B), &revocation(10));
        until(what, || world.has(B, 10) && world.replica.age_of(at(B)) == Some(Duration::ZERO)).await;
        assert_eq!(world.replica.age_of(at(A)), Some(Duration::from_mins(1)), "{what}");
        assert_eq!(
            world.replica.age(),
            Some(Duration::from_mins(1)),
            "{what}: the whole is as old as its oldest"
        );
        let status = world.follower.status();
        assert_eq!((status.partitions, status.failing, status.running), (2, 1, true), "{what}");
        // It is asked, but not without pause: each try is a few questions, and tries end up a minute apart.
        world.made.asked.store(0, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_mins(5)).await;
        let asked = world.made.asked.load(Ordering::SeqCst);
        assert!((1..=300).contains(&asked), "{what}: {asked} questions in five minutes");
        world.assert_nothing_wrong(what);
        // And as soon as it makes sense it is used.
        world.made.be_honest();
        until(what, || world.status(A).fault.is_none() && (0..15).all(|n| world.has(A, n))).await;
        until(what, || world.replica.age() == Some(Duration::ZERO)).await;
        assert_eq!(world.follower.status().fault, None, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn r24_nonsense_about_all_partitions_changes_nothing_and_shows() {
    let heads = |twist: fn(&mut Vec<Head>)| Twists { heads: Some(Box::new(twist)), ..Twists::default() };
    let rows = [
        ("a partition twice", heads(|heads| heads.push(heads[0]))),
        ("two epochs", heads(|heads| heads[0].cursor.epoch = Epoch(99))),
        ("nothing at all", heads(Vec::clear)),
        ("no platform", heads(|heads| heads.retain(|head| head.partition != Partition::Platform))),
    ];
    for (what, twists) in rows {
        let world = World::new().await;
        world.made.publish(Partition::Platform, &revocation(1));
        until("it is there", || world.replica.revision(Partition::Platform) == 1).await;
        *world.made.twists.lock().unwrap() = twists;
        let failures = world.follower.followed().failures;
        until(what, || world.follower.followed().failures > failures + 3).await;
        assert!((0..10).all(|n| world.has(A, n) && world.has(B, n)), "{what}");
        assert!(world.follower.status().fault.unwrap().why.contains("damaged"), "{what}");
        world.made.be_honest();
        until(what, || world.follower.status().fault.is_none()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_is_away_after_a_while() {
    let world = World::new().await;
    world.made.twists.lock().unwrap().hangs = true;
    world.hand.advance(Duration::from_mins(20));
    until("it shows", || world.follower.status().fault.is_some_and(|fault| fault.why.contains("30 s"))).await;
    assert_eq!(world.replica.age(), Some(Duration::from_mins(20)));
    world.made.be_honest();
    until("it goes on", || world.replica.age() == Some(Duration::ZERO)).await;
}

#[tokio::test(start_paused = true)]
async fn a_wake_is_a_hint_only() {
    let world = World::new().await;
    // Without one, the next round finds out.
    world.made.twists.lock().unwrap().deaf = true;
    world.made.publish(at(A), &revocation(10));
    until("it is polled", || world.has(A, 10)).await;
    // One about a partition that is not there makes none.
    let nowhere = Partition::Project(ProjectId::from_bits(99));
    for _ in 0..1000 {
        world.made.ring(nowhere);
        world.made.ring(at(B));
    }
    world.made.publish(at(B), &revocation(11));
    until("it is there", || world.has(B, 11)).await;
    assert_eq!(world.replica.revision(nowhere), 0);
    assert_eq!(world.replica.age_of(nowhere), None);
    assert_eq!(world.follower.status().partitions, 2);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_hints_costs_few_questions() {
    let world = World::new().await;
    world.made.asked.store(0, Ordering::SeqCst);
    for _ in 0..200 {
        world.made.ring(at(A));
    }
    world.made.publish(at(A), &revocation(10));
    until("it is there", || world.has(A, 10)).await;
    let asked = world.made.asked.load(Ordering::SeqCst);
    assert!(asked <= 4, "{asked} questions for 201 hints");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_vanishes_goes_with_all_it_held_and_the_report_names_only_what_is_on_the_disk() {
    let world = World::new().await;
    let reported = |made: &Made| made.reports.lock().unwrap().get(&at(A)).map(|cursor| cursor.revision);
    until("it is reported", || reported(&world.made) == Some(10)).await;
    world.made.twists.lock().unwrap().heads =
        Some(Box::new(|heads| heads.retain(|head| head.partition != at(A))));
    until("it is gone", || world.replica.revision(at(A)) == 0 && !world.has(A, 3)).await;
    until("it is not counted", || world.follower.status().partitions == 1).await;
    world.made.be_honest();
    until("it is back", || (0..10).all(|n| world.has(A, n))).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_life_of_the_primary_is_never_mixed_with_the_old_one() {
    let world = World::new().await;
    world.made.begin_epoch(2);
    // Its documents cannot be had yet: what was of the old life is not served meanwhile.
    world.made.twists.lock().unwrap().page = Some(Box::new(|page| page.cursor.epoch = Epoch(3)));
    until("the old copy is gone", || !(0..10).any(|n| world.has(A, n) || world.has(B, n))).await;
    assert_eq!(world.replica.age(), None, "contact with another feed does not count");
    world.made.be_honest();
    until("the new one is there", || (0..10).all(|n| world.has(A, n) && world.has(B, n))).await;
    assert_eq!(world.follower.followed().begun_anew, 1);
}
