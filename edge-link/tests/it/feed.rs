//! The feed over the link: heads, snapshots, changes, reports, the wake; and what never leaves.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::clock::Timestamp;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::{OrganizationId, ProjectId};
use mezusphere_store::feed::{AppliedReport, Changes, Cursor, Digest, Epoch, FeedError, FeedSource, Woken};
use tokio::time::{Instant, timeout};

use crate::fake::{EPOCH, head};
use crate::world::{Edge, Node, World, within};

const PROJECT: Partition = Partition::Project(ProjectId::from_bits(1));
const ORGANIZATION: Partition = Partition::Organization(OrganizationId::from_bits(2));

const START: Cursor = Cursor { epoch: EPOCH, revision: 0, digest: Digest::EMPTY };

async fn pair() -> (World, Node, Edge) {
    let world = World::new();
    let control = world.control().await;
    let edge = world.link(&[control.at()]);
    edge.connected().await;
    (world, control, edge)
}

#[tokio::test]
async fn heads_name_every_partition_with_its_end() {
    let (_world, control, edge) = pair().await;
    for partition in [PROJECT, ORGANIZATION, Partition::Platform] {
        control.fake.publish(partition, "a", Some("{}"));
    }
    control.fake.publish(PROJECT, "a", None);
    let heads = edge.link.heads().await.unwrap();
    let expected = control.fake.partitions().clone();
    let found: Vec<_> = heads.iter().map(|head| (head.partition, head.cursor)).collect();
    assert_eq!(found, expected.iter().map(|(at, entries)| (*at, head(entries))).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_snapshot_comes_in_pages_and_documents_to_the_letter() {
    let (_world, control, edge) = pair().await;
    // As no serializer of ours would write it: a digest must not depend on one.
    let body = |n: u32| format!("{{ \"kind\":\"x\" , \"doc\":{{\"n\":{n}.00,\"s\":\"\\u0041 é\"}} }}");
    for n in 0..250 {
        control.fake.publish(PROJECT, &format!("k/{n:03}"), Some(&body(n)));
    }
    let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = edge.link.snapshot(PROJECT, after.clone(), 100).await.unwrap();
        assert_eq!(page.cursor, head(&control.fake.partitions()[&PROJECT]));
        pages += 1;
        after = page.documents.last().map(|filed| filed.key.clone());
        found.extend(page.documents);
        if !page.more {
            break;
        }
    }
    assert_eq!((pages, found.len()), (3, 250));
    for (n, filed) in (0..).zip(&found) {
        assert_eq!((filed.key.as_str(), filed.body.get()), (&*format!("k/{n:03}"), &*body(n)));
    }
}

#[tokio::test]
async fn changes_prove_themselves_by_their_digests() {
    let (_world, control, edge) = pair().await;
    control.fake.publish(PROJECT, "a", Some(r#"{"x": 1}"#));
    control.fake.publish(PROJECT, "b", Some(r#"{"y":"  "}"#));
    control.fake.publish(PROJECT, "a", None);
    let Changes::Entries { entries, more } = edge.link.changes(PROJECT, START, 2).await.unwrap() else {
        panic!("the cursor fits")
    };
    assert!(more && entries.len() == 2);
    let last = &entries[1];
    let since = Cursor { epoch: EPOCH, revision: last.revision, digest: last.digest };
    let rest = edge.link.changes(PROJECT, since, 2).await.unwrap();
    let Changes::Entries { entries: rest, more: false } = rest else { panic!("one is left: {rest:?}") };
    let mut digest = Digest::EMPTY;
    for entry in entries.iter().chain(&rest) {
        digest = digest.then(entry.revision, &entry.key, entry.body.as_ref().map(|body| body.get()));
        assert_eq!(digest, entry.digest);
    }
    assert!(rest[0].body.is_none(), "a tombstone stays one");
    let end = Cursor { epoch: EPOCH, revision: 3, digest };
    let none = edge.link.changes(PROJECT, end, 2).await.unwrap();
    assert!(matches!(&none, Changes::Entries { entries, more: false } if entries.is_empty()), "{none:?}");
}

#[tokio::test]
async fn a_cursor_that_does_not_fit_means_start_over() {
    let (_world, control, edge) = pair().await;
    control.fake.publish(PROJECT, "a", Some("{}"));
    for since in [
        Cursor { epoch: Epoch(1), ..START },
        Cursor { revision: 1, digest: Digest([7; 32]), ..START },
        Cursor { revision: u64::MAX, ..START },
    ] {
        let changes = edge.link.changes(PROJECT, since, 10).await.unwrap();
        assert!(matches!(changes, Changes::StartOver), "{since:?}: {changes:?}");
    }
    let foreign = edge.link.changes(ORGANIZATION, START, 10).await.unwrap_err();
    assert_eq!(foreign, FeedError::Damaged("no such partition".to_owned()));
}

#[tokio::test]
async fn large_documents_come_a_few_at_a_time_and_one_at_least() {
    let (_world, control, edge) = pair().await;
    // Repeats only beyond deflate's window of 32 KiB, so that it is the octets on the wire that are many.
    let body = |n: u8| {
        let noise: String = (0..50_000_u32)
            .map(|i| i.wrapping_mul(2_654_435_761).wrapping_add(n.into()) >> 24)
            .map(|byte| char::from(b'a' + u8::try_from(byte).unwrap() % 26))
            .collect();
        format!("\"{}\"", noise.repeat(38))
    };
    for n in 0..5 {
        control.fake.publish(PROJECT, &format!("k/{n}"), Some(&body(n)));
    }
    let mut since = START;
    let mut sizes = Vec::new();
    loop {
        let changes = edge.link.changes(PROJECT, since, 1000).await.unwrap();
        let Changes::Entries { entries, more } = changes else { panic!("the cursor fits") };
        let last = entries.last().unwrap();
        since = Cursor { epoch: EPOCH, revision: last.revision, digest: last.digest };
        sizes.push(entries.len());
        if !more {
            break;
        }
    }
    assert_eq!(sizes, [3, 2]);
    let page = edge.link.snapshot(PROJECT, Some(DocumentKey::from_text("k/0")), 1000).await.unwrap();
    assert!(page.more && page.documents.len() == 3);
    assert_eq!(page.documents[0].body.get(), body(1));
}

#[tokio::test]
async fn r22_reports_carry_the_follower_of_the_certificate() {
    let (_world, control, edge) = pair().await;
    let report = |partition| AppliedReport {
        follower: "edg_somebody_else".to_owned(),
        partition,
        cursor: Cursor { revision: 7, ..START },
        at: Timestamp::from_micros(5),
    };
    let reports: Vec<_> = (0..2500).map(|n| report(Partition::Project(ProjectId::from_bits(n)))).collect();
    edge.link.applied(reports).await.unwrap();
    let applied = control.fake.applied.lock().unwrap().clone();
    assert_eq!(applied.len(), 2500);
    let expected = AppliedReport { follower: edge.id.to_string(), ..report(PROJECT) };
    assert_eq!(applied[1], expected);
}

#[tokio::test]
async fn r20_the_control_partition_never_leaves_whatever_the_source_says() {
    let (_world, control, edge) = pair().await;
    let mut wake = edge.link.wake();
    control.fake.publish(Partition::Control, "certificate/login", Some(r#"{"key":"secret"}"#));
    control.fake.publish(PROJECT, "a", Some("{}"));
    let heads = edge.link.heads().await.unwrap();
    assert_eq!(heads.iter().map(|head| head.partition).collect::<Vec<_>>(), [PROJECT]);
    let page = edge.link.snapshot(Partition::Control, None, 10).await;
    assert!(matches!(page, Err(FeedError::Damaged(_))), "{page:?}");
    let changes = edge.link.changes(Partition::Control, START, 10).await;
    assert!(matches!(changes, Err(FeedError::Damaged(_))), "{changes:?}");
    assert_eq!(within(wake.woken()).await, Woken::Changed([PROJECT].into()), "and not what came before");
    let report = AppliedReport {
        follower: String::new(),
        partition: Partition::Control,
        cursor: START,
        at: Timestamp::default(),
    };
    edge.link.applied(vec![report]).await.unwrap();
    assert_eq!(*control.fake.applied.lock().unwrap(), []);
    assert_eq!(control.fake.batches.load(std::sync::atomic::Ordering::SeqCst), 0, "the source was not asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_heard_within_50_ms() {
    let (_world, control, edge) = pair().await;
    let mut wake = edge.link.wake();
    let mut slow = 0;
    for n in 0..20 {
        let begun = Instant::now();
        control.fake.publish(PROJECT, &format!("k/{n}"), Some("{}"));
        assert_eq!(within(wake.woken()).await, Woken::Changed([PROJECT].into()));
        if begun.elapsed() > Duration::from_millis(50) {
            slow += 1;
        }
    }
    assert!(slow <= 2, "{slow} of 20 changes were heard late; a busy machine explains one or two");
}

#[tokio::test]
async fn what_changed_while_the_link_was_down_is_heard_when_it_is_back() {
    let world = World::new();
    let (one, two) = (world.control().await, world.control().await);
    for control in [&one, &two] {
        control.fake.publish(PROJECT, "a", Some("{}"));
        control.fake.publish(ORGANIZATION, "a", Some("{}"));
    }
    let edge = world.link(&[one.at()]);
    edge.connected().await;
    edge.link.heads().await.unwrap();
    let mut wake = edge.link.wake();
    // The other node's feed is the same one, and has gone on.
    two.fake.publish(PROJECT, "b", Some("{}"));
    edge.controls.send_replace(vec![two.at()]);
    one.kill().await;
    assert_eq!(within(wake.woken()).await, Woken::Changed([PROJECT].into()), "and only that");
    let more = timeout(Duration::from_millis(200), wake.woken()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn every_listener_of_an_edge_hears_the_wake() {
    let (_world, control, edge) = pair().await;
    let mut wakes = [edge.link.wake(), edge.link.wake()];
    control.fake.bell.ring(Arc::new([PROJECT, Partition::Platform]));
    for wake in &mut wakes {
        assert_eq!(within(wake.woken()).await, Woken::Changed([PROJECT, Partition::Platform].into()));
    }
}
