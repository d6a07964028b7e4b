//! Roles, service accounts, API keys, passwords and operators.

use std::time::Duration;

use mezusphere_model::document::{Document, DocumentKey, Partition, PrincipalDoc, Status};
use mezusphere_model::identity::Subject;
use mezusphere_store::WriteError;
use mezusphere_store::primary::operator::{GrantRow, Scope};
use mezusphere_store::primary::password::PasswordRow;
use mezusphere_store::primary::role::RoleRow;
use mezusphere_store::primary::{
    PageRequest, StoreError, api_key, operator, password, principal, role, service_account,
};

use crate::on_each;
use crate::support::{Store, Tenant, name, published, write};

async fn add_role(db: &Store, tenant: &Tenant, role: &str, permissions: &[&str]) {
    let row = RoleRow {
        project: tenant.project,
        name: name(role),
        description: format!("{role}s"),
        permissions: permissions.iter().map(|text| name(text)).collect(),
        created_at: db.now(),
    };
    write(&db.primary, async |tx| role::insert(tx, &row).await).await.unwrap();
    let stored = db.primary.read(async |tx| role::get(tx, tenant.project, &row.name).await).await.unwrap();
    assert_eq!(stored, Some(row));
}

async fn principal_of(db: &Store, tenant: &Tenant, subject: Subject) -> Option<PrincipalDoc> {
    let p = Partition::Project(tenant.project);
    match published(&db.primary, p, &DocumentKey::principal(subject)).await {
        Some(Document::Principal(doc)) => Some(doc),
        _ => None,
    }
}

fn names(list: &[mezusphere_model::slug::Name]) -> Vec<&str> {
    list.iter().map(mezusphere_model::slug::Name::as_str).collect()
}

#[tokio::test]
async fn r12_what_a_role_gives_follows_every_change_of_it() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        let subject = Subject::User(ann);
        let (sign, _) = db.sign_in(&a, ann).await;
        add_role(&db, &a, "customer", &["orders:read", "orders:write"]).await;
        add_role(&db, &a, "admin", &["orders:read", "users:write"]).await;
        let (customer, admin) = (name("customer"), name("admin"));
        let primary = &db.primary;
        write(primary, async |tx| role::grant(tx, a.project, subject, &customer).await).await.unwrap();
        assert_eq!(principal_of(&db, &a, subject).await, None, "nobody asks for it yet");
        db.session(&a, ann, sign).await;
        let mut version = principal_of(&db, &a, subject).await.unwrap().version;
        let mut expect = async |roles: &[&str], permissions: &[&str]| {
            let doc = principal_of(&db, &a, subject).await.unwrap();
            assert_eq!((names(&doc.roles), names(&doc.permissions)), (roles.to_vec(), permissions.to_vec()));
            let loaded =
                primary.read(async |tx| principal::load(tx, a.project, subject).await).await.unwrap();
            assert_eq!(loaded, Some(doc.clone()), "what is published is what stands");
            assert!(doc.version >= version, "a version never falls");
            version = doc.version;
        };
        expect(&["customer"], &["orders:read", "orders:write"]).await;
        write(primary, async |tx| role::grant(tx, a.project, subject, &admin).await).await.unwrap();
        expect(&["admin", "customer"], &["orders:read", "orders:write", "users:write"]).await;
        write(primary, async |tx| role::revoke(tx, a.project, subject, &customer).await).await.unwrap();
        expect(&["admin"], &["orders:read", "users:write"]).await;
        let fewer = [name("users:read")];
        write(primary, async |tx| role::update(tx, a.project, &admin, "less", &fewer).await).await.unwrap();
        expect(&["admin"], &["users:read"]).await;
        let held = primary.read(async |tx| role::holders(tx, a.project, &admin, &PageRequest::first()).await);
        assert_eq!(held.await.unwrap().rows, [subject]);
        write(primary, async |tx| role::delete(tx, a.project, &admin).await).await.unwrap();
        expect(&[], &[]).await;
        assert_eq!(version, 6, "each change raised it: two grants, a revocation, an update, a deletion");
        let again = write(primary, async |tx| role::revoke(tx, a.project, subject, &customer).await).await;
        assert!(matches!(again, Err(WriteError::NotFound { .. })));
    })
    .await;
}

#[tokio::test]
async fn r21_a_revoked_key_leaves_the_feed_and_only_its_hash_was_ever_there() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let (account, key) = db.key(&a, "ci").await;
        let p = Partition::Project(a.project);
        let Some(Document::ApiKey(doc)) = published(&db.primary, p, &DocumentKey::api_key(key.id)).await
        else {
            panic!("the key is not published")
        };
        assert_eq!((doc.secret_hash, doc.account), (key.secret_hash, account));
        assert!(principal_of(&db, &a, Subject::ServiceAccount(account)).await.is_some());
        let count = async || {
            db.primary.read(async |tx| api_key::count_live(tx, a.project, account).await).await.unwrap()
        };
        assert_eq!(count().await, 1);
        let mut second = db.key_row(&a, account);
        second.expires_at = Some(db.now().after(Duration::from_mins(1)));
        second.environment = Some(a.environment);
        write(&db.primary, async |tx| api_key::insert(tx, &second).await).await.unwrap();
        assert_eq!(count().await, 2);
        db.hand.advance(Duration::from_mins(1));
        assert_eq!(count().await, 1, "expired");
        write(&db.primary, async |tx| api_key::revoke(tx, a.project, key.id).await).await.unwrap();
        assert_eq!(count().await, 0);
        assert_eq!(published(&db.primary, p, &DocumentKey::api_key(key.id)).await, None);
        let row = db.primary.read(async |tx| api_key::find(tx, key.id).await).await.unwrap().unwrap();
        assert_eq!(row.revoked_at, Some(db.now()));
        let listed = db.primary.read(async |tx| api_key::list(tx, a.project, account).await).await.unwrap();
        assert_eq!(listed.len(), 2);
        let used = db.now();
        for at in [used, used.before(Duration::from_secs(9))] {
            write(&db.primary, async |tx| api_key::used(tx, a.project, second.id, at).await).await.unwrap();
        }
        let row = db.primary.read(async |tx| api_key::get(tx, a.project, second.id).await).await.unwrap();
        assert_eq!(row.unwrap(), api_key::ApiKeyRow { last_used_at: Some(used), ..second });
    })
    .await;
}

#[tokio::test]
async fn a_suspended_service_account_is_published_so_and_a_deleted_one_is_gone() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let (account, key) = db.key(&a, "ci").await;
        let subject = Subject::ServiceAccount(account);
        add_role(&db, &a, "reader", &["orders:read"]).await;
        let reader = name("reader");
        write(&db.primary, async |tx| role::grant(tx, a.project, subject, &reader).await).await.unwrap();
        let doc = principal_of(&db, &a, subject).await.unwrap();
        assert_eq!((doc.name.as_str(), names(&doc.permissions)), ("ci", vec!["orders:read"]));
        write(&db.primary, async |tx| {
            service_account::set_status(tx, a.project, account, Status::Suspended).await
        })
        .await
        .unwrap();
        assert_eq!(principal_of(&db, &a, subject).await.unwrap().status, Status::Suspended);
        let found = db.primary.read(async |tx| service_account::find(tx, a.project, "ci").await).await;
        assert_eq!(found.unwrap().unwrap().id, account);
        write(&db.primary, async |tx| service_account::delete(tx, a.project, account).await).await.unwrap();
        assert_eq!(principal_of(&db, &a, subject).await, None);
        let p = Partition::Project(a.project);
        assert_eq!(published(&db.primary, p, &DocumentKey::api_key(key.id)).await, None);
    })
    .await;
}

#[tokio::test]
async fn a_password_is_replaced_whole_and_rehashed_only_if_unchanged() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let ann = db.user(&a, "ann@example.org").await;
        let row = |hash: &str| PasswordRow {
            user: ann,
            hash: hash.to_owned(),
            pepper_version: 1,
            changed_at: db.now(),
        };
        let put = async |directory, row| {
            write(&db.primary, async |tx| password::put(tx, directory, &row).await).await
        };
        assert_eq!(put(b.directory, row("x")).await, Err(WriteError::NotFound { what: "user" }));
        put(a.directory, row("one")).await.unwrap();
        put(a.directory, row("two")).await.unwrap();
        let rehash = async |old: &str, new: &str| {
            let new = row(new);
            db.primary.write(async |tx| password::rehash(tx, a.directory, old, &new).await).await.unwrap()
        };
        assert!(!rehash("one", "three").await);
        assert!(rehash("two", "three").await);
        let stored = db.primary.read(async |tx| password::get(tx, a.directory, ann).await).await.unwrap();
        assert_eq!(stored, Some(row("three")));
        assert!(!format!("{:?}", row("secret-hash")).contains("secret-hash"));
    })
    .await;
}

#[tokio::test]
async fn an_operator_has_grants_by_scope() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        let scopes = [Scope::Installation, Scope::Organization(a.organization), Scope::Project(a.project)];
        for scope in scopes {
            let row = GrantRow { user: ann, scope, role: name("owner"), granted_at: db.now() };
            for _ in 0..2 {
                write(&db.primary, async |tx| operator::grant(tx, &row).await).await.unwrap();
            }
        }
        let owner = name("owner");
        write(&db.primary, async |tx| operator::revoke(tx, ann, scopes[1], &owner).await).await.unwrap();
        db.primary
            .read(async |tx| {
                let mut held: Vec<_> =
                    operator::held_by(tx, ann).await?.into_iter().map(|row| row.scope).collect();
                held.sort();
                assert_eq!(held, [scopes[0], scopes[2]]);
                assert_eq!(operator::list(tx, scopes[0]).await?.len(), 1);
                assert_eq!(operator::list(tx, scopes[1]).await?, []);
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    })
    .await;
}
