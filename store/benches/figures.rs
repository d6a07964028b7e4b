//! The store's figures: transactions per second, how fast a change reaches a copy, what a look-up costs.
//!
//! `cargo bench -p mezusphere-store --all-features` prints them, with the names of parts after `--` only those; they are
//! for people, nothing is checked here.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a program of its own that measures: it fails by a panic, prints, and reads the clock"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mezusphere_model::document::{Document, Partition};
use mezusphere_model::id::UserId;
use mezusphere_model::identity::Subject;
use mezusphere_model::token::TokenHash;
use mezusphere_store::feed::FeedSource as _;
use mezusphere_store::primary::role::RoleRow;
use mezusphere_store::primary::{role, session, user};
use mezusphere_store::replica::Changed;
use mezusphere_store::{Replica, StoreError};

use support::{Store, Tenant, name, seal, user_row, write};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return; // built and started by a run of all tests
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    if wants("idle") {
        idle().await;
    }
    if wants("writes") {
        writes().await;
    }
    if wants("propagation") {
        propagation().await;
    }
    if wants("lookups") {
        for count in [1_000, 20_000, 100_000] {
            lookups(count).await;
        }
    }
    if wants("churn") {
        churn().await;
    }
    if wants("role") {
        role_change(5_000).await;
    }
}

/// What a node with little to do holds in memory, step by step.
async fn idle() {
    println!("memory at the start: {} KiB", resident_kib());
    let db = Store::sqlite().await;
    println!("  primary open: {} KiB", resident_kib());
    let tenant = db.tenant("shop").await;
    let user = db.user(&tenant, "ann@example.org").await;
    let (sign_in, _) = db.sign_in(&tenant, user).await;
    println!("  a few rows written: {} KiB", resident_kib());
    let replica = Arc::new(Replica::open(&db.dir.path().join("replica"), db.hand.clock(), seal()).unwrap());
    println!("  replica open: {} KiB", resident_kib());
    let follower = replica.follow(Arc::new(db.primary.clone()), "edg".to_owned(), db.entropy.clone());
    follower.caught_up().await;
    println!("  caught up: {} KiB", resident_kib());
    for sessions in [10, 90, 900] {
        for _ in 0..sessions {
            db.session(&tenant, user, sign_in).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        println!("  {sessions} sessions more: {} KiB", resident_kib());
    }
}

/// How large the replica's file becomes when the same documents change all the time.
async fn churn() {
    let db = Store::sqlite().await;
    let tenant = db.tenant("shop").await;
    let partition = Partition::Project(tenant.project);
    let dir = db.dir.path().join("replica");
    let replica = Arc::new(Replica::open(&dir, db.hand.clock(), seal()).unwrap());
    let follower = replica.follow(Arc::new(db.primary.clone()), "edg".to_owned(), db.entropy.clone());
    follower.caught_up().await;
    let user = db.user(&tenant, "ann@example.org").await;
    let (sign_in, _) = db.sign_in(&tenant, user).await;
    let docs: Vec<_> = (0..500).map(|_| db.session_doc(&tenant, user, sign_in).0).collect();
    let begun = Instant::now();
    for round in 0..100 {
        let mut revision = 0;
        for part in docs.chunks(50) {
            let ((), published) = db
                .primary
                .write_published(async |tx| {
                    for doc in part {
                        let mut doc = doc.clone();
                        doc.seen_at = doc.seen_at.after(Duration::from_secs(round));
                        tx.publish(partition, &Document::Session(doc))?;
                    }
                    Ok::<_, StoreError>(())
                })
                .await
                .unwrap();
            revision = published.revision(partition).unwrap();
        }
        while replica.revision(partition) < revision {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if round % 25 == 24 {
            println!("after {} changes: memory {} MiB", (round + 1) * 500, resident_kib() / 1024);
        }
    }
    println!(
        "500 documents changed 100 times each in {:?}: {} MiB on disk, memory {} MiB",
        begun.elapsed(),
        disk_mib(&dir),
        resident_kib() / 1024
    );
}

/// Time this thread has spent on a processor: unlike a clock's it does not grow while others use the machine.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// Time on a processor since an earlier [`on_cpu`].
fn since(begun: Duration) -> Duration {
    on_cpu().saturating_sub(begun)
}

/// Resident memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn quantile(sorted: &[Duration], at: f64) -> Duration {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
    let index = ((sorted.len() - 1) as f64 * at) as usize;
    sorted[index]
}

async fn add_user(db: &Store, tenant: &Tenant, n: usize) {
    let id = UserId::random(&db.entropy);
    let row = user_row(id, tenant.directory, &format!("user{n}@example.org"), db.now());
    write(&db.primary, async |tx| user::insert(tx, &row).await).await.unwrap();
}

async fn writes() {
    let db = Arc::new(Store::sqlite().await);
    let tenant = db.tenant("shop").await;
    let (begun, count) = (Instant::now(), 1000);
    for n in 0..count {
        add_user(&db, &tenant, n).await;
    }
    println!("write transactions, one after another: {:.0}/s", count as f64 / begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let tasks: Vec<_> = (0..16)
        .map(|writer| {
            let (db, tenant) = (Arc::clone(&db), tenant.clone());
            tokio::spawn(async move {
                for n in 0..100 {
                    add_user(&db, &tenant, 10_000 + writer * 1000 + n).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    println!("write transactions, 16 at once: {:.0}/s", 1600.0 / begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    for n in 0..1000 {
        let email = format!("user{n}@example.org");
        db.primary.read(async |tx| user::find(tx, tenant.directory, &email).await).await.unwrap().unwrap();
    }
    println!("read transactions, one after another: {:.0}/s", 1000.0 / begun.elapsed().as_secs_f64());
    println!("memory with the primary open: {} MiB", resident_kib() / 1024);
}

async fn propagation() {
    let db = Store::sqlite().await;
    let tenant = db.tenant("shop").await;
    let user = db.user(&tenant, "ann@example.org").await;
    let (sign_in, _) = db.sign_in(&tenant, user).await;
    let replica = Arc::new(Replica::open(&db.dir.path().join("replica"), db.hand.clock(), seal()).unwrap());
    let follower = replica.follow(Arc::new(db.primary.clone()), "edg".to_owned(), db.entropy.clone());
    follower.caught_up().await;
    let mut changes = replica.subscribe();
    let (mut commits, mut arrivals) = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        let (doc, _) = db.session_doc(&tenant, user, sign_in);
        let begun = Instant::now();
        write(&db.primary, async |tx| session::insert(tx, &doc).await).await.unwrap();
        commits.push(begun.elapsed());
        let committed = Instant::now();
        while replica.session(&doc.token_hash).unwrap().is_none() {
            assert!(matches!(changes.changed().await, Changed::Keys(_)));
        }
        arrivals.push(committed.elapsed());
    }
    commits.sort();
    arrivals.sort();
    let show = |what: &str, times: &[Duration]| {
        println!("{what}: p50 {:?}, p99 {:?}", quantile(times, 0.5), quantile(times, 0.99));
    };
    show("commit of a session, published", &commits);
    show("from there until the replica has it", &arrivals);
    println!("memory with primary and replica open: {} MiB", resident_kib() / 1024);
}

async fn lookups(count: usize) {
    let db = Store::sqlite().await;
    let tenant = db.tenant("shop").await;
    let user = db.user(&tenant, "ann@example.org").await;
    let (sign_in, _) = db.sign_in(&tenant, user).await;
    let mut hashes: Vec<TokenHash> = Vec::with_capacity(count);
    while hashes.len() < count {
        let docs: Vec<_> = (0..1000.min(count)).map(|_| db.session_doc(&tenant, user, sign_in).0).collect();
        write(&db.primary, async |tx| {
            for doc in &docs {
                session::insert(tx, doc).await?;
            }
            Ok(())
        })
        .await
        .unwrap();
        hashes.extend(docs.iter().map(|doc| doc.token_hash));
    }
    let dir = db.dir.path().join("replica");
    let replica = Arc::new(Replica::open(&dir, db.hand.clock(), seal()).unwrap());
    let begun = Instant::now();
    let follower = replica.follow(Arc::new(db.primary.clone()), "edg".to_owned(), db.entropy.clone());
    follower.caught_up().await;
    println!("{count} sessions fetched in {:?}, memory {} MiB", begun.elapsed(), resident_kib() / 1024);
    let hot = &hashes[..1000];
    let rounds = 100;
    for _ in 0..2 {
        for hash in hot {
            assert!(replica.session(hash).unwrap().is_some());
        }
    }
    let begun = on_cpu();
    for _ in 0..rounds {
        for hash in hot {
            assert!(replica.session(hash).unwrap().is_some());
        }
    }
    println!("  look-up of a hot session: {:?} of a processor", since(begun) / (rounds * 1000));
    let begun = on_cpu();
    for _ in 0..rounds {
        for _ in hot {
            assert!(replica.principal(tenant.project, Subject::User(user)).unwrap().is_some());
        }
    }
    println!("  look-up of a principal: {:?} of a processor", since(begun) / (rounds * 1000));
    let mut cold: Vec<_> = (0..2000)
        .map(|n| {
            let hash = &hashes[n * 7919 % hashes.len()];
            let begun = Instant::now();
            assert!(replica.session(hash).unwrap().is_some());
            begun.elapsed()
        })
        .collect();
    cold.sort();
    println!("  scattered over all: p50 {:?}, p99 {:?}", quantile(&cold, 0.5), quantile(&cold, 0.99));
    follower.stop().await;
    drop(replica);
    let begun = Instant::now();
    let replica = Replica::open(&dir, db.hand.clock(), seal()).unwrap();
    println!("  opened and checked in {:?}, {} MiB on disk", begun.elapsed(), disk_mib(&dir));
    assert!(replica.revision(Partition::Project(tenant.project)) > 0);
}

fn disk_mib(dir: &std::path::Path) -> u64 {
    let mut total = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                total += entry.metadata().unwrap().len();
            }
        }
    }
    total / 1024 / 1024
}

async fn role_change(holders: usize) {
    let db = Store::sqlite().await;
    let tenant = db.tenant("shop").await;
    let customer = name("customer");
    let row = RoleRow {
        project: tenant.project,
        name: customer.clone(),
        description: String::new(),
        permissions: Vec::new(),
        created_at: db.now(),
    };
    write(&db.primary, async |tx| role::insert(tx, &row).await).await.unwrap();
    for n in 0..holders {
        let id = db.user(&tenant, &format!("user{n}@example.org")).await;
        let (row, _) = db.sign_in_row(&tenant, id);
        let (doc, _) = db.session_doc(&tenant, id, row.id);
        write(&db.primary, async |tx| {
            mezusphere_store::primary::sign_in::insert(tx, &row).await?;
            session::insert(tx, &doc).await?;
            role::grant(tx, tenant.project, Subject::User(id), &customer).await
        })
        .await
        .unwrap();
    }
    let begun = Instant::now();
    let permissions = [name("orders:read")];
    write(&db.primary, async |tx| role::update(tx, tenant.project, &customer, "", &permissions).await)
        .await
        .unwrap();
    println!("permissions of a role {holders} signed-in users hold, changed in {:?}", begun.elapsed());
    drop(db.primary.heads().await.unwrap());
}
