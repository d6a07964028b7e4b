//! Moving a live SQLite to PostgreSQL: everything arrives, followers go on, and there are never two installations.

use std::time::Duration;

use mezusphere_model::Entropy;
use mezusphere_model::clock::ManualClock;
use mezusphere_store::Primary;
use mezusphere_store::feed::{Changes, FeedSource as _};
use mezusphere_store::primary::audit::{AuditEntry, AuditVerdict};
use mezusphere_store::primary::secret::SecretState;
use mezusphere_store::primary::{
    OpenError, StoreError, TransferError, TransferStep, audit, project, route, secret, site, user,
};

use crate::postgres::{Database, fresh};
use crate::support::{START, Store, Tenant, seal, write};

/// An installation with something of everything that matters.
async fn filled() -> (Store, Tenant) {
    let db = Store::sqlite().await;
    let tenant = db.tenant("shop").await;
    db.tenant("blog").await;
    for n in 0..60 {
        let id = db.user(&tenant, &format!("user{n}@example.org")).await;
        let (sign, _) = db.sign_in(&tenant, id).await;
        db.session(&tenant, id, sign).await;
    }
    db.key(&tenant, "ci").await;
    let doc = db.route("/api/*");
    write(&db.primary, async |tx| {
        route::insert(tx, tenant.project, tenant.environment, &doc).await?;
        site::publish(tx, tenant.project, tenant.environment).await?;
        secret::add(tx, "ca/root", SecretState::Current, b"the root's key").await?;
        for n in 0..5 {
            tx.audit(AuditEntry {
                organization: tenant.organization,
                project: Some(tenant.project),
                actor: "local".to_owned(),
                action: "route.create".to_owned(),
                target: n.to_string(),
                address: None,
                detail: serde_json::json!({ "n": n, "text": "ü\u{1F600}" }),
            });
        }
        Ok(())
    })
    .await
    .unwrap();
    (db, tenant)
}

async fn opened(database: &Database) -> Primary {
    let clock = ManualClock::at(START).clock();
    Primary::open_postgres(database.config(), clock, Entropy::counting(), seal()).await.unwrap()
}

#[tokio::test]
async fn everything_arrives_and_followers_go_on_where_they_were() {
    let Some(database) = fresh().await else { return };
    let (db, tenant) = filled().await;
    let before = db.primary.heads().await.unwrap();
    let mut copied = Vec::new();
    let report = db
        .primary
        .transfer_to(&database.config(), &mut |step| {
            if let TransferStep::Copying { table, rows } = step {
                copied.push((table.to_owned(), rows));
            }
        })
        .await
        .unwrap();
    let rows = |table: &str| report.tables.iter().find(|(name, _)| name == table).unwrap().1;
    assert_eq!((rows("users"), rows("sessions"), rows("organizations"), rows("nodes")), (60, 60, 2, 0));
    assert_eq!((report.audit_chains, report.partitions), (2, before.len() as u64));
    assert!(!report.to.contains('@'), "{}", report.to);
    assert!(copied.contains(&("users".to_owned(), 60)), "{copied:?}");

    let there = opened(&database).await;
    assert_eq!(there.epoch(), db.primary.epoch());
    assert_eq!(there.heads().await.unwrap(), before);
    for head in &before {
        let since = there.changes(head.partition, head.cursor, 10).await.unwrap();
        let Changes::Entries { entries, more: false } = since else { panic!("start over") };
        assert!(entries.is_empty());
        let from = db.primary.snapshot(head.partition, None, 1000).await.unwrap();
        let to = there.snapshot(head.partition, None, 1000).await.unwrap();
        assert_eq!(format!("{from:?}"), format!("{to:?}"));
    }
    there
        .read(async |tx| {
            let row = secret::current(tx, "ca/root").await?.unwrap();
            assert_eq!(row.value.as_slice(), b"the root's key");
            let verdict = audit::verify(tx, tenant.organization).await?;
            assert!(matches!(verdict, AuditVerdict::Intact { entries: 5, .. }), "{verdict:?}");
            assert_eq!(
                user::list(tx, tenant.directory, &mezusphere_store::primary::PageRequest::first())
                    .await?
                    .rows
                    .len(),
                60
            );
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    // It goes on there: the next entry fits the last.
    let site = write(&there, async |tx| site::publish(tx, tenant.project, tenant.environment).await).await;
    assert_eq!(site.unwrap().revision, 2);
    there.close().await;
    database.remove().await;
}

#[tokio::test]
async fn what_was_moved_takes_no_writes_and_is_not_opened_again() {
    let Some(database) = fresh().await else { return };
    let (db, tenant) = filled().await;
    db.primary.transfer_to(&database.config(), &mut |_| {}).await.unwrap();
    let row = crate::support::user_row(
        mezusphere_model::id::UserId::random(&db.entropy),
        tenant.directory,
        "late@example.org",
        db.now(),
    );
    let late = write(&db.primary, async |tx| user::insert(tx, &row).await).await;
    assert!(late.is_err(), "nobody would read it");
    assert!(db.primary.read(async |tx| project::get(tx, tenant.project).await).await.unwrap().is_some());
    let again = db.primary.transfer_to(&database.config(), &mut |_| {}).await;
    assert!(matches!(again, Err(TransferError::NotEmpty { same: true, .. })), "{again:?}");
    db.primary.close().await;
    let Store { primary, dir, .. } = db;
    drop(primary);
    let clock = ManualClock::at(START).clock();
    let why = Primary::open_sqlite(dir.path(), clock, Entropy::counting(), seal()).await.unwrap_err();
    assert!(
        matches!(&why, OpenError::Moved { to, .. } if to.starts_with("postgres://") && !to.contains('@')),
        "{why:?}"
    );
    database.remove().await;
}

#[tokio::test]
async fn a_target_that_holds_something_is_left_as_it_is() {
    let Some(database) = fresh().await else { return };
    let (db, tenant) = filled().await;
    let other = Store::postgres(database.config()).await;
    other.primary.new_epoch().await.unwrap(); // the tests' randomness gives every first one the same
    let theirs = other.tenant("theirs").await;
    let refused = db.primary.transfer_to(&database.config(), &mut |_| {}).await;
    assert!(matches!(refused, Err(TransferError::NotEmpty { same: false, .. })), "{refused:?}");
    assert!(other.primary.read(async |tx| project::get(tx, theirs.project).await).await.unwrap().is_some());
    let Some(foreign) = fresh().await else { return };
    foreign.sql("CREATE TABLE t (x INT)").await;
    let refused = db.primary.transfer_to(&foreign.config(), &mut |_| {}).await;
    assert!(matches!(refused, Err(TransferError::Target(OpenError::Foreign { .. }))), "{refused:?}");
    let refused = other.primary.transfer_to(&foreign.config(), &mut |_| {}).await;
    assert!(matches!(refused, Err(TransferError::NotSqlite)), "{refused:?}");
    // The source goes on.
    db.user(&tenant, "later@example.org").await;
    foreign.remove().await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_cut_short_leaves_both_sides_as_they_were() {
    let Some(database) = fresh().await else { return };
    let (db, tenant) = filled().await;
    let half_way = tokio::sync::Notify::new();
    let config = database.config();
    let mut progress = |step: TransferStep<'_>| {
        if matches!(step, TransferStep::Copying { table: "feed_entries", rows } if rows > 0) {
            half_way.notify_one();
        }
    };
    tokio::select! {
        done = db.primary.transfer_to(&config, &mut progress) => panic!("{done:?}"),
        () = half_way.notified() => {}
    }
    db.user(&tenant, "later@example.org").await;
    // The server ends the abandoned transaction when it notices; then there is nothing, and the move can be made.
    let moved = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match db.primary.transfer_to(&config, &mut |_| {}).await {
                Err(TransferError::TargetBusy(_)) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    });
    let report = moved.await.unwrap().unwrap();
    assert!(report.tables.contains(&("users".to_owned(), 61)));
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_go_on_during_a_move_and_a_writer_is_never_lost() {
    let Some(database) = fresh().await else { return };
    let (db, tenant) = filled().await;
    let writing = {
        let (primary, entropy, directory, at) =
            (db.primary.clone(), db.entropy.clone(), tenant.directory, db.now());
        tokio::spawn(async move {
            // Every acknowledged user is in the target, or the writer was told that it was not written.
            let mut acknowledged = 0_u64;
            for n in 0.. {
                let id = mezusphere_model::id::UserId::random(&entropy);
                let row = crate::support::user_row(id, directory, &format!("w{n}@example.org"), at);
                match write(&primary, async |tx| user::insert(tx, &row).await).await {
                    Ok(()) => acknowledged += 1,
                    Err(_) => return acknowledged,
                }
            }
            acknowledged
        })
    };
    let reading = {
        let (primary, id) = (db.primary.clone(), tenant.project);
        tokio::spawn(async move {
            let mut reads = 0;
            loop {
                assert!(primary.read(async |tx| project::get(tx, id).await).await.unwrap().is_some());
                reads += 1;
                if reads > 200 {
                    return;
                }
            }
        })
    };
    let report = db.primary.transfer_to(&database.config(), &mut |_| {}).await.unwrap();
    reading.await.unwrap();
    let acknowledged = writing.await.unwrap();
    let users = report.tables.iter().find(|(name, _)| name == "users").unwrap().1;
    assert_eq!(users, 60 + acknowledged);
    database.remove().await;
}
