//! `kill -9` at any moment: every acknowledged write is there afterwards, whole, and a replica opens and goes on.
//!
//! The test runs itself as a child that writes without pause and says what was acknowledged.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::Document;
use mezusphere_model::id::{DirectoryId, OrganizationId, UserId};
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::feed::FeedSource as _;
use mezusphere_store::primary::audit::{AuditEntry, AuditVerdict};
use mezusphere_store::primary::directory::DirectoryRow;
use mezusphere_store::primary::organization::OrganizationRow;
use mezusphere_store::primary::{audit, directory, organization, user};
use mezusphere_store::{Primary, Replica, WriteError};

use crate::following::{P, PROJECT, sign_in};
use crate::support::{START, seal, user_row};
use crate::{open, within};

/// Tells the child what it is and where to write.
const CHILD: &str = "MEZU_STORE_KILLED_CHILD";

/// How long a primary or a replica may take to be there again after a kill, with everything in it.
const STARTS_WITHIN: Duration = Duration::from_secs(2);

const ORGANIZATION: OrganizationId = OrganizationId::from_bits(1);
const DIRECTORY: DirectoryId = DirectoryId::from_bits(2);

async fn primary(dir: &Path) -> Primary {
    Primary::open_sqlite(dir, ManualClock::at(START).clock(), Entropy::counting(), seal()).await.unwrap()
}

/// The child: writes user, audit entry and document number 1, 2, 3… in one change each, says each number once it is
/// acknowledged, and lets a replica follow meanwhile. Does nothing when run as an ordinary test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let primary = primary(dir).await;
    let replica = open(&dir.join("replica"), ManualClock::at(START).clock());
    let _follower = replica.follow(Arc::new(primary.clone()), "edg_test".to_owned(), Entropy::counting());
    let first = last_number(&primary).await + 1;
    let mut out = std::io::stdout();
    for n in first.. {
        primary.write(async |tx| change(tx, n).await).await.unwrap();
        writeln!(out, "acknowledged {n}").unwrap();
        out.flush().unwrap();
    }
}

async fn change(tx: &mut mezusphere_store::primary::Tx, n: u64) -> Result<(), WriteError> {
    let id = UserId::from_bits(u128::from(n));
    user::insert(tx, &user_row(id, DIRECTORY, &format!("user{n}@example.org"), START)).await?;
    tx.audit(AuditEntry {
        organization: ORGANIZATION,
        project: None,
        actor: "local".to_owned(),
        action: "user.create".to_owned(),
        target: id.to_string(),
        address: None,
        detail: serde_json::Value::Null,
    });
    let doc = mezusphere_model::document::RevocationDoc {
        sign_in: sign_in(u128::from(n)),
        user: id,
        at: START,
        forget_at: Timestamp::from_seconds(i64::try_from(n).unwrap_or(0)),
    };
    Ok(tx.publish(P, &Document::Revocation(doc))?)
}

/// How many changes there are, by three counts that must agree because each change makes all three.
async fn last_number(primary: &Primary) -> u64 {
    let verdict = primary.read(async |tx| audit::verify(tx, ORGANIZATION).await).await.unwrap();
    let AuditVerdict::Intact { entries, .. } = verdict else {
        panic!("the audit chain is broken: {verdict:?}")
    };
    let heads = primary.heads().await.unwrap();
    let published = heads.iter().find(|head| head.partition == P).map_or(0, |head| head.cursor.revision);
    assert_eq!(published, entries, "a change is on the feed or not at all");
    let exists = async |n: u64| {
        let id = UserId::from_bits(u128::from(n));
        primary.read(async |tx| user::get(tx, DIRECTORY, id).await).await.unwrap().is_some()
    };
    assert!(entries == 0 || exists(entries).await);
    assert!(!exists(entries + 1).await);
    entries
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_to_kill_9() {
    let kills: u64 = if std::env::var_os("MEZU_FULL").is_some() { 200 } else { 5 };
    let dir = tempfile::tempdir().unwrap();
    let fresh = primary(dir.path()).await;
    fresh
        .write(async |tx| {
            let (id, name, created_at) = (ORGANIZATION, "shop".to_owned(), START);
            let slug = mezusphere_model::slug::Slug::parse("shop").unwrap();
            organization::insert(tx, &OrganizationRow { id, slug, name: name.clone(), created_at }).await?;
            let row = DirectoryRow {
                id: DIRECTORY,
                organization: id,
                project: None,
                name,
                settings: directory::Settings::default(),
                created_at,
            };
            directory::insert(tx, &row).await
        })
        .await
        .unwrap();
    fresh.close().await;
    drop(fresh);

    let (mut total, mut kept) = (0, 0);
    for kill in 0..kills {
        let acknowledged = run_and_kill(dir.path(), Duration::from_millis(30 + kill * 61 % 250));
        let began = Instant::now();
        let primary = primary(dir.path()).await;
        let last = last_number(&primary).await;
        assert!(began.elapsed() <= STARTS_WITHIN, "kill {kill}: the primary took {:?}", began.elapsed());
        assert!(last >= acknowledged, "kill {kill}: {acknowledged} were acknowledged, {last} are there");
        assert!(last <= acknowledged.max(total) + 1, "kill {kill}: at most one was not acknowledged yet");
        total = last;
        kept += u64::from(replica_is_level_with_itself(dir.path(), &primary, last).await);
        primary.close().await;
    }
    assert!(total > kills, "the children wrote: {total}");
    assert!(kept * 2 > kills, "most replicas were used as they were: {kept} of {kills}");
}

/// Whatever a killed replica holds is exactly the feed up to its revision, and it can follow on. Says whether it held anything.
async fn replica_is_level_with_itself(dir: &Path, primary: &Primary, last: u64) -> bool {
    let began = Instant::now();
    let replica = open(&dir.join("replica"), ManualClock::at(START).clock());
    let revision = replica.revision(P);
    assert!(began.elapsed() <= STARTS_WITHIN, "the replica took {:?}", began.elapsed());
    let there = |replica: &Replica, n: u64| {
        replica.revocation(PROJECT, sign_in(u128::from(n))).is_ok_and(|doc| doc.is_some())
    };
    let wrong = (1..=last).find(|n| there(&replica, *n) != (*n <= revision));
    assert_eq!(wrong, None, "at revision {revision}");
    let follower = replica.follow(Arc::new(primary.clone()), "edg_test".to_owned(), Entropy::counting());
    within(follower.caught_up()).await;
    assert_eq!(replica.revision(P), last);
    assert!((1..=last).all(|n| there(&replica, n)));
    within(async {
        while primary.applied_by(P).await.unwrap().len() != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    follower.stop().await;
    revision > 0
}

/// Runs the child, kills it this long after its first word, and tells the last number it acknowledged.
fn run_and_kill(dir: &Path, after: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kills::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let number = |line: &str| line.split_once("acknowledged ").and_then(|(_, n)| n.trim().parse().ok());
    let mut last = loop {
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
    // A last line may be cut off; it was not acknowledged to anybody then.
    for line in lines.map_while(Result::ok) {
        last = number(&line).unwrap_or(last);
    }
    let status = killer.join().unwrap();
    assert!(!status.success(), "it was killed, not done");
    last
}
