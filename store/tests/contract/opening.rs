//! Opening a data directory: whose it is, what is in it, and what is said when it cannot be used.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mezusphere_model::Entropy;
use mezusphere_model::clock::ManualClock;
use mezusphere_store::Primary;
use mezusphere_store::primary::secret::SecretState;
use mezusphere_store::primary::{OpenError, StoreError, project, secret};
use std::sync::Arc;

use crate::support::{START, Store, TestSeal, seal, write};

async fn open(dir: &Path) -> Result<Primary, OpenError> {
    Primary::open_sqlite(dir, ManualClock::at(START).clock(), Entropy::counting(), seal()).await
}

/// Runs SQL on a database file that nobody has open.
async fn sql(file: &Path, sql: &'static str) {
    use sqlx::Connection as _;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let mut connection = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_directory() {
    let db = Store::sqlite().await;
    let why = open(db.dir.path()).await.unwrap_err();
    let OpenError::Locked { holder, .. } = &why else { panic!("{why:?}") };
    assert_eq!(*holder, Some(std::process::id()));
    assert!(why.to_string().contains(&format!("in use by process {}", std::process::id())), "{why}");
}

#[tokio::test]
async fn what_was_written_is_there_when_it_is_opened_again() {
    let db = Store::sqlite().await;
    let tenant = db.tenant("shop").await;
    let (dir, epoch) = (db.dir, db.primary.epoch());
    db.primary.close().await;
    drop(db.primary);
    let again = open(dir.path()).await.unwrap();
    assert_eq!(again.epoch(), epoch);
    assert!(again.read(async |tx| project::get(tx, tenant.project).await).await.unwrap().is_some());
}

#[tokio::test]
async fn the_database_is_for_its_owner_only() {
    let db = Store::sqlite().await;
    db.tenant("shop").await;
    for file in ["primary.db", "primary.db-wal"] {
        let mode = std::fs::metadata(db.dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file} has mode {mode:o}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.unwrap().close().await;
    let file = dir.path().join("primary.db");
    sql(&file, "INSERT INTO schema_versions VALUES (99, 'future', 0)").await;
    let before = std::fs::read(&file).unwrap();
    let why = open(dir.path()).await.unwrap_err();
    assert!(matches!(why, OpenError::Newer { found: 99, known: 1..99, .. }), "{why:?}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[tokio::test]
async fn a_database_of_another_product_is_refused_and_left_as_it_is() {
    for theirs in ["PRAGMA application_id = 7; CREATE TABLE t (x)", "CREATE TABLE t (x)"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("primary.db");
        sql(&file, theirs).await;
        let before = std::fs::read(&file).unwrap();
        let why = open(dir.path()).await.unwrap_err();
        assert!(matches!(why, OpenError::Foreign { .. }), "{why:?}");
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("primary.db"), "hello ".repeat(1000)).unwrap();
    let why = open(dir.path()).await.unwrap_err();
    assert!(matches!(why, OpenError::Damaged { .. }), "{why:?}");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let why = open(&file.join("data")).await.unwrap_err();
    assert!(matches!(&why, OpenError::Unwritable { path, .. } if *path == file.join("data")), "{why:?}");
}

#[tokio::test]
async fn a_start_that_was_cut_short_is_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("primary.db"), "").unwrap(); // killed between creating and writing
    open(dir.path()).await.unwrap();
}

#[tokio::test]
async fn secrets_and_certificates_are_not_on_the_disk_in_the_clear() {
    let db = Store::sqlite().await;
    let canary = b"canary-9e1f-the-secret-itself";
    write(&db.primary, async |tx| {
        secret::add(tx, "ca/root", SecretState::Current, canary).await?;
        let doc = mezusphere_model::document::CertificateDoc {
            names: vec!["*.localhost".to_owned()],
            chain_pem: "chain".to_owned(),
            key_pem: String::from_utf8(canary.to_vec()).unwrap(),
            not_after: START,
        };
        tx.publish(
            mezusphere_model::document::Partition::Platform,
            &mezusphere_model::document::Document::Certificate(doc),
        )?;
        Ok(())
    })
    .await
    .unwrap();
    db.primary.close().await;
    let mut files = 0;
    for entry in std::fs::read_dir(db.dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(canary.len()).any(|window| window == canary));
        files += usize::from(!bytes.is_empty());
    }
    assert!(files > 0);
    let dir = db.dir;
    drop(db.primary);
    let other_key = Arc::new(TestSeal(2));
    let clock = ManualClock::at(START).clock();
    let opened = Primary::open_sqlite(dir.path(), clock, Entropy::counting(), other_key).await.unwrap();
    let why = opened.read(async |tx| secret::current(tx, "ca/root").await).await.unwrap_err();
    assert!(matches!(why, StoreError::Damaged(_)), "{why:?}");
}
