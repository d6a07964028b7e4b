//! What only PostgreSQL has: writers beside each other, the second wall between tenants, and other nodes to wake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use mezusphere_model::Entropy;
use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::Partition;
use mezusphere_model::id::ProjectId;
use mezusphere_store::feed::{FeedSource as _, Woken};
use mezusphere_store::primary::environment::{self, EnvironmentRow};
use mezusphere_store::primary::{
    PageRequest, Primary, StoreError, Tx, WriteError, directory, host, operator, organization, project,
    reseal, route, secret, setting, user,
};
use sqlx::Executor as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::feed_log::{SLOW, document, read_in_order};
use crate::on_postgres;
use crate::postgres::fresh;
use crate::support::{START, Store, name, seal, write};

/// Another node on the same database.
async fn second(database: &crate::postgres::Database) -> Primary {
    let clock = ManualClock::at(START).clock();
    Primary::open_postgres(database.config(), clock, Entropy::counting(), seal()).await.unwrap()
}

#[tokio::test]
async fn r22_the_wall_holds_when_a_query_names_the_wrong_tenant() {
    on_postgres(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let ann = db.user(&a, "ann@example.org").await;
        let doc = db.route("/api/*");
        write(&db.primary, async |tx| route::insert(tx, a.project, a.environment, &doc).await).await.unwrap();
        // Every query below is wrong on purpose: it runs for b and asks for what is a's.
        db.primary
            .read(async |tx| {
                tx.confine(b.organization, Some(b.project)).await?;
                assert_eq!(project::get(tx, a.project).await?, None);
                let all = project::list_all(tx, &PageRequest::first()).await?.rows;
                assert_eq!(all.iter().map(|row| row.id).collect::<Vec<_>>(), [b.project]);
                assert_eq!(organization::get(tx, a.organization).await?, None);
                assert_eq!(directory::get(tx, a.organization, a.directory).await?, None);
                assert_eq!(environment::list(tx, a.project).await?, []);
                assert_eq!(host::find(tx, &a.host).await?, None);
                assert_eq!(route::list(tx, a.project, a.environment).await?, []);
                assert_eq!(user::get(tx, a.directory, ann).await?, None);
                assert_eq!(operator::held_by(tx, ann).await?, []);
                assert!(project::get(tx, b.project).await?.is_some(), "its own is there");
                assert_eq!(environment::list(tx, b.project).await?.len(), 1);
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
        let renamed = write(&db.primary, async |tx| {
            tx.confine(b.organization, None).await?;
            project::rename(tx, a.organization, a.project, "mine").await
        })
        .await;
        assert_eq!(renamed, Err(WriteError::NotFound { what: "project" }));
        let row = EnvironmentRow {
            id: mezusphere_model::id::EnvironmentId::random(&db.entropy),
            project: a.project,
            slug: mezusphere_model::slug::Slug::parse("theirs").unwrap(),
            site_revision: 0,
            created_at: db.now(),
        };
        let put_in = write(&db.primary, async |tx| {
            tx.confine(b.organization, Some(b.project)).await?;
            environment::insert(tx, &row).await
        })
        .await;
        assert_eq!(put_in, Err(WriteError::NotFound { what: "project" }));
        let deleted = write(&db.primary, async |tx| {
            tx.confine(b.organization, Some(b.project)).await?;
            project::delete(tx, a.organization, a.project).await
        })
        .await;
        assert_eq!(deleted, Err(WriteError::NotFound { what: "project" }));
        assert_eq!(
            db.primary.read(async |tx| environment::list(tx, a.project).await).await.unwrap().len(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn r22_every_table_with_a_tenant_has_a_wall_and_a_session_that_says_nothing_sees_nothing() {
    let Some(database) = fresh().await else { return };
    let db = Store::postgres(database.config()).await;
    let a = db.tenant("shop").await;
    let ann = db.user(&a, "ann@example.org").await;
    let (sign, _) = db.sign_in(&a, ann).await;
    db.session(&a, ann, sign).await;
    db.key(&a, "ci").await;
    let mut connection = database.connect().await;
    // What belongs to the installation itself is named here; a new table must be put on one side or the other.
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
         AND NOT (relrowsecurity AND relforcerowsecurity) ORDER BY relname",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(
        open,
        ["applied", "invitations", "leases", "meta", "nodes", "schema_versions", "settings", "write_queue"]
    );
    let walled: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
         AND relrowsecurity AND relforcerowsecurity",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(walled.len() > 20);
    for table in &walled {
        let count = format!("SELECT COUNT(*) FROM {table}");
        let seen: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&mut connection).await.unwrap();
        assert_eq!(seen, 0, "{table}");
    }
    let all: i64 = {
        connection.execute("SET mezusphere.scope = 'installation'").await.unwrap();
        sqlx::query_scalar("SELECT COUNT(*) FROM users").fetch_one(&mut connection).await.unwrap()
    };
    assert_eq!(all, 1, "the rows are there");
    drop(connection);
    database.remove().await;
}

#[tokio::test]
async fn the_keys_of_the_installation_are_behind_the_wall() {
    on_postgres(async |db: Store| {
        let a = db.tenant("shop").await;
        write(&db.primary, async |tx| secret::add(tx, "ca/root", secret::SecretState::Current, b"key").await)
            .await
            .unwrap();
        let seen = db
            .primary
            .read(async |tx| {
                tx.confine(a.organization, Some(a.project)).await?;
                secret::current(tx, "ca/root").await
            })
            .await
            .unwrap();
        assert!(seen.is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_meet_each_other_all_get_through() {
    on_postgres(async |db: Store| {
        db.primary.write(async |tx| setting::put(tx, "counter", &0_u32).await).await.unwrap();
        let runs = Arc::new(AtomicU32::new(0));
        let writers: Vec<_> = (0..6)
            .map(|_| {
                let (primary, runs) = (db.primary.clone(), Arc::clone(&runs));
                tokio::spawn(async move {
                    for _ in 0..10 {
                        primary
                            .write(async |tx| {
                                runs.fetch_add(1, Ordering::Relaxed);
                                let count: Option<u32> = setting::get(tx, "counter").await?;
                                setting::put(tx, "counter", &(count.unwrap_or(0) + 1)).await
                            })
                            .await
                            .unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let count: Option<u32> = db.primary.read(async |tx| setting::get(tx, "counter").await).await.unwrap();
        assert_eq!(count, Some(60), "no update was lost");
        assert!(runs.load(Ordering::Relaxed) > 60, "some had to be run again");
    })
    .await;
}

/// The commit itself takes long, after everything was written and the partition's head was locked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_commit_is_never_read_out_of_order() {
    let Some(database) = fresh().await else { return };
    let db = Store::postgres(database.config()).await;
    database
        .sql(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON feed_entries DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW WHEN (NEW.body LIKE '%rev%' AND NEW.revision = 1) EXECUTE FUNCTION dawdle()",
        )
        .await;
    let p = Partition::Project(ProjectId::from_bits(1));
    let (primary, inside) = (db.primary.clone(), Arc::new(Notify::new()));
    let slow = {
        let inside = Arc::clone(&inside);
        tokio::spawn(async move {
            primary
                .write(async |tx| {
                    tx.publish(p, &document(SLOW))?;
                    inside.notify_one();
                    Ok::<_, StoreError>(())
                })
                .await
                .unwrap();
        })
    };
    inside.notified().await;
    read_in_order(&db, p, slow).await;
    database.remove().await;
}

#[tokio::test]
async fn a_change_whose_connection_dies_is_made_once() {
    let Some(database) = fresh().await else { return };
    let db = Store::postgres(database.config()).await;
    let runs = AtomicU32::new(0);
    db.primary
        .write(async |tx| {
            setting::put(tx, "n", &1).await?;
            if runs.fetch_add(1, Ordering::Relaxed) == 0 {
                // As an administrator or a failing server does: every connection of this database.
                database
                    .sql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                         WHERE datname = current_database() AND pid <> pg_backend_pid()",
                    )
                    .await;
            }
            setting::put(tx, "n", &2).await
        })
        .await
        .unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    let n: Option<i32> = db.primary.read(async |tx| setting::get(tx, "n").await).await.unwrap();
    assert_eq!(n, Some(2));
    database.remove().await;
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_not_made_twice_and_says_that_it_is_not_known() {
    let Some(database) = fresh().await else { return };
    let direct = Store::postgres(database.config()).await;
    let cut = Arc::new(AtomicBool::new(false));
    let port = cutting_commits(&database, Arc::clone(&cut)).await;
    let url = database.url();
    let (user, rest) = url.rsplit_once('@').unwrap();
    let name = rest.split_once('/').unwrap().1;
    let through = format!("{user}@127.0.0.1:{port}/{name}?sslmode=disable");
    let config = mezusphere_store::primary::PostgresConfig::parse(&through).unwrap();
    let clock = ManualClock::at(START).clock();
    let node = Primary::open_postgres(config, clock, Entropy::counting(), seal()).await.unwrap();
    node.write(async |tx| setting::put(tx, "n", &0).await).await.unwrap();
    let runs = AtomicU32::new(0);
    cut.store(true, Ordering::SeqCst);
    let lost = node
        .write(async |tx| {
            runs.fetch_add(1, Ordering::Relaxed);
            let n: Option<u32> = setting::get(tx, "n").await?;
            setting::put(tx, "n", &(n.unwrap_or(0) + 1)).await
        })
        .await;
    assert!(matches!(lost, Err(StoreError::OutcomeUnknown(_))), "{lost:?}");
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    cut.store(false, Ordering::SeqCst);
    // It did happen here, once, and the node goes on with another connection.
    let n = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let n: Option<u32> = direct.primary.read(async |tx| setting::get(tx, "n").await).await.unwrap();
            if n == Some(1) {
                return n;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(n.await.expect("the server had the commit"), Some(1));
    node.write(async |tx| setting::put(tx, "n", &2).await).await.unwrap();
    database.remove().await;
}

/// A port before the server that, once `cut` is set, passes a COMMIT on and hangs up before the answer.
async fn cutting_commits(database: &crate::postgres::Database, cut: Arc<AtomicBool>) -> u16 {
    let url = database.url();
    let server = url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(&server).await.unwrap();
            let cut = Arc::clone(&cut);
            tokio::spawn(async move {
                let ((mut from, mut back), (mut answers, mut to)) =
                    (client.into_split(), upstream.into_split());
                let asked = async {
                    let mut buffer = vec![0; 64 * 1024];
                    loop {
                        let len = from.read(&mut buffer).await.unwrap_or(0);
                        if len == 0 || to.write_all(&buffer[..len]).await.is_err() {
                            return;
                        }
                        let commits = buffer[..len].windows(7).any(|bytes| bytes == b"COMMIT\0");
                        if commits && cut.load(Ordering::SeqCst) {
                            return;
                        }
                    }
                };
                let answered = tokio::io::copy(&mut answers, &mut back);
                tokio::select! {
                    biased;
                    () = asked => {}
                    _ = answered => {}
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn another_node_is_woken_by_a_commit_and_again_after_its_listener_died() {
    let Some(database) = fresh().await else { return };
    let db = Store::postgres(database.config()).await;
    let other = second(&database).await;
    let mut wake = other.wake();
    let partition = Partition::Project(ProjectId::from_bits(7));
    for round in 0..2 {
        // Said once by a node that has begun to listen; until then nothing told is heard.
        loop {
            let heard =
                tokio::time::timeout(Duration::from_secs(20), wake.woken()).await.expect("it listens");
            if heard == Woken::Anything {
                break;
            }
        }
        db.primary
            .write(async |tx| tx.retract(partition, mezusphere_model::document::DocumentKey::trust()))
            .await
            .unwrap();
        let doc =
            mezusphere_model::document::Document::Revocation(mezusphere_model::document::RevocationDoc {
                sign_in: mezusphere_model::id::SignInId::from_bits(round),
                user: mezusphere_model::id::UserId::from_bits(1),
                at: START,
                forget_at: START,
            });
        db.primary.write(async |tx| tx.publish(partition, &doc)).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(20), wake.woken()).await.expect("it is told");
        assert_eq!(heard, Woken::Changed([partition].into()));
        database
            .sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
    }
    database.remove().await;
}

#[tokio::test]
async fn a_storm_of_notices_wakes_a_few_times() {
    let Some(database) = fresh().await else { return };
    let node = second(&database).await;
    let mut wake = node.wake();
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(20), wake.woken()).await,
        Ok(Woken::Anything),
        "it listens"
    );
    let mut stranger = database.connect().await;
    let began = std::time::Instant::now();
    for _ in 0..20 {
        stranger
            .execute(
                "SELECT pg_notify('mezusphere_feed', repeat('x', 500) || n) FROM generate_series(1, 1000) n",
            )
            .await
            .unwrap();
    }
    let mut wakes = 0;
    while let Ok(heard) = tokio::time::timeout(Duration::from_millis(500), wake.woken()).await {
        assert_eq!(heard, Woken::Anything);
        wakes += 1;
    }
    let most = began.elapsed().as_millis() / 50 + 2;
    assert!(wakes >= 1 && wakes <= most, "{wakes} wakes in {:?}", began.elapsed());
    drop(stranger);
    database.remove().await;
}

#[tokio::test]
async fn what_a_follower_told_one_node_the_others_know() {
    let Some(database) = fresh().await else { return };
    let db = Store::postgres(database.config()).await;
    let other = second(&database).await;
    let partition = Partition::Platform;
    let cursor = mezusphere_store::feed::Cursor {
        epoch: db.primary.epoch(),
        revision: 3,
        digest: mezusphere_store::feed::Digest::EMPTY,
    };
    let report = mezusphere_store::feed::AppliedReport {
        follower: name("edg-1").to_string(),
        partition,
        cursor,
        at: START,
    };
    db.primary.applied(vec![report.clone()]).await.unwrap();
    assert_eq!(db.primary.applied_by(partition).await.unwrap(), std::slice::from_ref(&report));
    let known = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let known = other.applied_by(partition).await.unwrap();
            if !known.is_empty() {
                return known;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(known.await.expect("within a second or so"), [report]);
    database.remove().await;
}

#[tokio::test]
async fn r20_what_an_open_transaction_may_still_bring_is_known_of_when_all_is_sealed_anew() {
    on_postgres(async |db: Store| {
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let writing = tokio::spawn({
            let (primary, begun, go) = (db.primary.clone(), Arc::clone(&begun), Arc::clone(&go));
            async move {
                let work = async |tx: &mut Tx| {
                    setting::put(tx, "slow", &1).await?;
                    begun.notify_one();
                    go.notified().await;
                    Ok::<_, StoreError>(())
                };
                primary.write(work).await
            }
        });
        begun.notified().await;
        let moment = db.primary.read(async |tx| reseal::moment(tx).await).await.unwrap();
        let is_quiet =
            async || db.primary.read(async |tx| reseal::is_quiet_since(tx, moment).await).await.unwrap();
        assert!(!is_quiet().await);
        go.notify_one();
        writing.await.unwrap().unwrap();
        assert!(is_quiet().await);
    })
    .await;
}
