//! The audit log shows when anything in it was altered.

use mezusphere_model::id::OrganizationId;
use mezusphere_store::primary::audit::{AuditEntry, AuditVerdict};
use mezusphere_store::primary::{PageRequest, StoreError, audit};
use serde_json::json;

use crate::on_each;
use crate::support::Store;

fn entry(organization: OrganizationId, n: u32) -> AuditEntry {
    AuditEntry {
        organization,
        project: None,
        actor: "local".to_owned(),
        action: "project.create".to_owned(),
        target: format!("thing-{n}"),
        address: n.is_multiple_of(2).then(|| "192.0.2.1".to_owned()),
        detail: json!({"n": n, "name": "é \"quoted\"", "a": [1, null]}),
    }
}

async fn verdict(db: &Store, organization: OrganizationId) -> AuditVerdict {
    db.primary.read(async |tx| audit::verify(tx, organization).await).await.unwrap()
}

#[tokio::test]
async fn r25_the_chain_of_an_organization_is_intact_and_its_own() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        assert!(matches!(verdict(&db, a.organization).await, AuditVerdict::Intact { entries: 0, .. }));
        for n in 0..10 {
            db.primary
                .write(async |tx| {
                    tx.audit(entry(b.organization, n));
                    tx.audit(entry(a.organization, n));
                    tx.audit(entry(a.organization, n + 100));
                    Ok::<_, StoreError>(())
                })
                .await
                .unwrap();
        }
        assert!(matches!(verdict(&db, a.organization).await, AuditVerdict::Intact { entries: 20, .. }));
        assert!(matches!(verdict(&db, b.organization).await, AuditVerdict::Intact { entries: 10, .. }));

        let page = PageRequest { after: None, limit: 15 };
        let newest = db.primary.read(async |tx| audit::list(tx, a.organization, &page).await).await.unwrap();
        assert_eq!(newest.rows[0].entry, entry(a.organization, 109));
        assert_eq!(newest.rows[0].sequence, 20);
        let page = PageRequest { after: newest.next, limit: 15 };
        let rest = db.primary.read(async |tx| audit::list(tx, a.organization, &page).await).await.unwrap();
        assert_eq!(rest.rows.last().unwrap().entry, entry(a.organization, 0));
        assert_eq!((rest.rows.len(), rest.next), (5, None));
    })
    .await;
}

#[tokio::test]
async fn r25_a_change_that_is_rolled_back_is_not_in_the_log() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let failed = db.primary.write(async |tx| {
            tx.audit(entry(a.organization, 1));
            Err::<(), _>(StoreError::Unavailable("no".to_owned()))
        });
        assert!(failed.await.is_err());
        assert!(matches!(verdict(&db, a.organization).await, AuditVerdict::Intact { entries: 0, .. }));
    })
    .await;
}

/// Alters the file behind the store's back, as somebody with access to the disk could.
#[cfg(test)]
async fn tamper(db: &Store, sql: &'static str) {
    use sqlx::Connection as _;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(db.dir.path().join("primary.db"));
    let mut connection = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    let done = sqlx::query(sql).execute(&mut connection).await.unwrap();
    assert!(done.rows_affected() > 0, "{sql}");
    connection.close().await.unwrap();
}

#[tokio::test]
async fn r25_every_way_of_altering_the_log_shows() {
    let rows = [
        ("UPDATE audit_entries SET actor = 'somebody' WHERE sequence = 3", 3),
        ("UPDATE audit_entries SET detail = '{\"n\":7}' WHERE sequence = 1", 1),
        ("UPDATE audit_entries SET detail = 'not json' WHERE sequence = 2", 2),
        ("UPDATE audit_entries SET at = at + 1 WHERE sequence = 5", 5),
        ("UPDATE audit_entries SET address = NULL WHERE sequence = 1", 1),
        ("DELETE FROM audit_entries WHERE sequence = 4", 4),
        ("DELETE FROM audit_entries WHERE sequence > 4", 5),
        ("UPDATE audit_entries SET sequence = 9 WHERE sequence = 5", 5),
    ];
    for (sql, sequence) in rows {
        let db = Store::sqlite().await;
        let a = db.tenant("shop").await;
        for n in 0..5 {
            let write = db.primary.write(async |tx| {
                tx.audit(entry(a.organization, n));
                Ok::<_, StoreError>(())
            });
            write.await.unwrap();
        }
        assert!(matches!(verdict(&db, a.organization).await, AuditVerdict::Intact { entries: 5, .. }));
        tamper(&db, sql).await;
        assert_eq!(verdict(&db, a.organization).await, AuditVerdict::Broken { sequence }, "{sql}");
    }
}
