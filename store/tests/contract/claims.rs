//! Claims to custom domains: several projects may claim a host, each sees its own, and none outlives its time.

use std::time::Duration;

use mezusphere_model::Host;
use mezusphere_store::WriteError;
use mezusphere_store::primary::host::{self, HostKind, HostRow};
use mezusphere_store::primary::host_claim::{self, ClaimRow, ContestRow, DUE_MAX, ERROR_LEN_MAX};
use mezusphere_store::primary::{StoreError, Taken, prune};

use crate::on_each;
use crate::support::{Store, Tenant, write};

fn claim(db: &Store, tenant: &Tenant, host: &str) -> ClaimRow {
    ClaimRow {
        host: Host::parse(host).unwrap(),
        project: tenant.project,
        environment: tenant.environment,
        token: format!("token-of-{}", tenant.project),
        attempts: 0,
        error: None,
        checked_at: None,
        next_at: db.now().after(Duration::from_mins(1)),
        created_at: db.now(),
        expires_at: db.now().after(Duration::from_hours(1)),
        contested_at: None,
    }
}

async fn insert(db: &Store, row: &ClaimRow) -> Result<(), WriteError> {
    write(&db.primary, async |tx| host_claim::insert(tx, row).await).await
}

async fn get(db: &Store, row: &ClaimRow) -> Option<ClaimRow> {
    let found: Result<_, StoreError> =
        db.primary.read(async |tx| host_claim::get(tx, row.project, &row.host).await).await;
    found.unwrap()
}

async fn due(db: &Store) -> Vec<ClaimRow> {
    let found: Result<_, StoreError> = db.primary.read(async |tx| host_claim::due(tx).await).await;
    found.unwrap()
}

#[tokio::test]
async fn several_claim_a_host_and_each_once() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let (first, second) = (claim(&db, &a, "www.shop.example"), claim(&db, &b, "www.shop.example"));
        insert(&db, &first).await.unwrap();
        insert(&db, &second).await.unwrap();
        assert_eq!(insert(&db, &first).await, Err(WriteError::Conflict { what: Taken::Host }));
        assert_eq!((get(&db, &first).await, get(&db, &second).await), (Some(first.clone()), Some(second)));
        let lost = ClaimRow { environment: b.environment, ..claim(&db, &a, "other.example") };
        assert_eq!(insert(&db, &lost).await, Err(WriteError::NotFound { what: "environment" }));
        let delete = async |row: &ClaimRow| {
            write(&db.primary, async |tx| host_claim::delete(tx, row.project, &row.host).await).await
        };
        delete(&first).await.unwrap();
        assert_eq!(delete(&first).await, Err(WriteError::NotFound { what: "host" }));
    })
    .await;
}

#[tokio::test]
async fn a_claim_is_due_at_its_time_and_a_look_is_noted() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let row = claim(&db, &a, "www.shop.example");
        insert(&db, &row).await.unwrap();
        assert_eq!(due(&db).await, []);
        db.hand.advance(Duration::from_mins(1));
        assert_eq!(due(&db).await, std::slice::from_ref(&row));
        let long = "ä".repeat(ERROR_LEN_MAX);
        let note = write(&db.primary, async |tx| {
            host_claim::note(tx, row.project, &row.host, &long, Duration::from_mins(5)).await
        });
        note.await.unwrap();
        let noted = get(&db, &row).await.unwrap();
        assert_eq!((noted.attempts, noted.checked_at), (1, Some(db.now())));
        assert_eq!(noted.next_at, db.now().after(Duration::from_mins(5)));
        assert_eq!(noted.error.map(|error| error.len()), Some(ERROR_LEN_MAX));
        assert_eq!(due(&db).await, []);
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_is_over_is_as_good_as_none() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let row = claim(&db, &a, "www.shop.example");
        insert(&db, &row).await.unwrap();
        db.hand.advance(Duration::from_hours(1));
        assert_eq!((get(&db, &row).await, due(&db).await), (None, vec![]));
        let again = ClaimRow { token: "another".to_owned(), ..claim(&db, &a, "www.shop.example") };
        insert(&db, &again).await.unwrap();
        assert_eq!(get(&db, &again).await.unwrap().token, "another");
        db.hand.advance(Duration::from_hours(2));
        db.primary.write(async |tx| prune::prune(tx).await).await.unwrap();
        let left =
            write(&db.primary, async |tx| host_claim::delete(tx, again.project, &again.host).await).await;
        assert_eq!(left, Err(WriteError::NotFound { what: "host" }), "pruned");
    })
    .await;
}

#[tokio::test]
async fn r22_a_project_sees_and_changes_its_own_claims_only() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let row = claim(&db, &a, "www.shop.example");
        insert(&db, &row).await.unwrap();
        let theirs: Result<_, StoreError> =
            db.primary.read(async |tx| host_claim::list(tx, b.project, a.environment).await).await;
        assert_eq!(theirs.unwrap(), []);
        let taken = write(&db.primary, async |tx| host_claim::delete(tx, b.project, &row.host).await).await;
        assert_eq!(taken, Err(WriteError::NotFound { what: "host" }));
        assert!(get(&db, &row).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn r23_a_project_with_many_claims_takes_no_other_ones_turn() {
    on_each(async |db: Store| {
        let (many, one) = (db.tenant("shop").await, db.tenant("blog").await);
        for number in 0..=DUE_MAX {
            insert(&db, &claim(&db, &many, &format!("n{number:02}.shop.example"))).await.unwrap();
        }
        db.hand.advance(Duration::from_secs(1));
        insert(&db, &claim(&db, &one, "www.blog.example")).await.unwrap();
        db.hand.advance(Duration::from_mins(2));
        let hosts: Vec<_> = due(&db).await.into_iter().map(|row| row.host.to_string()).collect();
        assert_eq!(hosts[..3], ["n00.shop.example", "www.blog.example", "n01.shop.example"]);
        assert_eq!(hosts.len(), DUE_MAX);
    })
    .await;
}

#[tokio::test]
async fn a_contest_is_told_until_it_is_over() {
    on_each(async |db: Store| {
        let (holder, other) = (db.tenant("shop").await, db.tenant("blog").await);
        let host = Host::parse("www.shop.example").unwrap();
        let held = HostRow {
            host: host.clone(),
            project: holder.project,
            environment: holder.environment,
            kind: HostKind::Custom,
            created_at: db.now(),
        };
        let row = claim(&db, &other, "www.shop.example");
        insert(&db, &row).await.unwrap();
        write(&db.primary, async |tx| host::insert(tx, &held).await).await.unwrap();
        let contests = async || {
            let found: Result<_, StoreError> =
                db.primary.read(async |tx| host_claim::contests(tx).await).await;
            found.unwrap()
        };
        assert_eq!(contests().await, []);
        let (since, until) = (db.now(), db.now().after(Duration::from_hours(9)));
        let begun = write(&db.primary, async |tx| {
            host_claim::keep_holder_token(tx, held.project, &held.host, "theirs").await?;
            host_claim::contest(tx, &row, Some(since), until).await
        });
        begun.await.unwrap();
        let token = Some("theirs".to_owned());
        assert_eq!(contests().await, [ContestRow { host, holder: holder.project, token, since }]);
        let noted = get(&db, &row).await.unwrap();
        assert_eq!((noted.contested_at, noted.expires_at), (Some(since), until));
        write(&db.primary, async |tx| host_claim::contest(tx, &row, None, since).await).await.unwrap();
        let noted = get(&db, &row).await.unwrap();
        assert_eq!((noted.contested_at, noted.expires_at), (None, until), "it ends no sooner");
        assert_eq!(contests().await, []);
    })
    .await;
}
