//! Sign-ins and sessions: what edges learn of them, and that an end reaches everything.

use std::time::Duration;

use mezusphere_model::document::{Document, DocumentKey, Partition, PrincipalDoc, Status};
use mezusphere_model::id::UserId;
use mezusphere_model::identity::Subject;
use mezusphere_model::link::Activity;
use mezusphere_store::primary::{PageRequest, StoreError, session, sign_in, user};
use mezusphere_store::{WriteError, primary::user::UserChange};

use crate::on_each;
use crate::support::{Store, Tenant, published, write};

async fn principal(db: &Store, tenant: &Tenant, user: UserId) -> Option<PrincipalDoc> {
    let key = DocumentKey::principal(Subject::User(user));
    match published(&db.primary, Partition::Project(tenant.project), &key).await {
        Some(Document::Principal(doc)) => Some(doc),
        None => None,
        Some(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_is_published_with_its_principal() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        assert_eq!(principal(&db, &a, ann).await, None, "not before the first session");
        let (sign, token) = db.sign_in(&a, ann).await;
        let (doc, _) = db.session(&a, ann, sign).await;
        let p = Partition::Project(a.project);
        let found = published(&db.primary, p, &DocumentKey::session(&doc.token_hash)).await;
        assert_eq!(found, Some(Document::Session(doc.clone())));
        let who = principal(&db, &a, ann).await.unwrap();
        assert_eq!((who.email.as_str(), who.status, who.version), ("ann@example.org", Status::Active, 1));
        db.primary
            .read(async |tx| {
                assert_eq!(session::find(tx, &doc.token_hash).await?.unwrap().doc, doc);
                assert_eq!(sign_in::find(tx, &token.hash()).await?.unwrap().id, sign);
                assert_eq!(user::get(tx, a.directory, ann).await?.unwrap().signed_in_at, Some(db.now()));
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn r12_an_ended_sign_in_ends_every_session_of_it() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        let (sign, token) = db.sign_in(&a, ann).await;
        let (other_sign, _) = db.sign_in(&a, ann).await;
        let (first, _) = db.session(&a, ann, sign).await;
        let (second, _) = db.session(&a, ann, sign).await;
        let (kept, _) = db.session(&a, ann, other_sign).await;
        let p = Partition::Project(a.project);

        assert!(write(&db.primary, async |tx| sign_in::end(tx, a.directory, sign).await).await.unwrap());
        assert!(!write(&db.primary, async |tx| sign_in::end(tx, a.directory, sign).await).await.unwrap());
        for doc in [&first, &second] {
            assert_eq!(published(&db.primary, p, &DocumentKey::session(&doc.token_hash)).await, None);
            let row = db.primary.read(async |tx| session::get(tx, a.project, doc.id).await).await.unwrap();
            assert_eq!(row.unwrap().ended_at, Some(db.now()));
        }
        let Some(Document::Revocation(revocation)) =
            published(&db.primary, p, &DocumentKey::revocation(sign)).await
        else {
            panic!("no revocation")
        };
        assert_eq!((revocation.user, revocation.forget_at), (ann, first.expires_at));
        assert!(published(&db.primary, p, &DocumentKey::session(&kept.token_hash)).await.is_some());
        let found = db.primary.read(async |tx| sign_in::find(tx, &token.hash()).await).await.unwrap();
        assert_eq!(found, None);

        let (late, _) = db.session_doc(&a, ann, sign);
        let refused = write(&db.primary, async |tx| session::insert(tx, &late).await).await;
        assert_eq!(refused, Err(WriteError::NotFound { what: "sign-in" }));

        let ended = write(&db.primary, async |tx| sign_in::end_all(tx, a.directory, ann, None).await).await;
        assert_eq!(ended, Ok(1));
        let left = db
            .primary
            .read(async |tx| sign_in::list(tx, a.directory, ann, &PageRequest::first()).await)
            .await
            .unwrap();
        assert_eq!(left.rows, []);
    })
    .await;
}

#[tokio::test]
async fn one_session_can_be_ended_alone() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        let (sign, _) = db.sign_in(&a, ann).await;
        let (doc, _) = db.session(&a, ann, sign).await;
        let (kept, _) = db.session(&a, ann, sign).await;
        assert!(write(&db.primary, async |tx| session::end(tx, a.project, doc.id).await).await.unwrap());
        assert!(!write(&db.primary, async |tx| session::end(tx, a.project, doc.id).await).await.unwrap());
        let p = Partition::Project(a.project);
        assert_eq!(published(&db.primary, p, &DocumentKey::session(&doc.token_hash)).await, None);
        let page = PageRequest::first();
        let left = db.primary.read(async |tx| session::list(tx, a.project, ann, &page).await).await.unwrap();
        assert_eq!(left.rows.into_iter().map(|row| row.doc).collect::<Vec<_>>(), [kept]);
    })
    .await;
}

#[tokio::test]
async fn r12_a_suspension_and_a_password_change_reach_the_published_principal() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        let (sign, _) = db.sign_in(&a, ann).await;
        db.session(&a, ann, sign).await;
        let suspend = UserChange { status: Some(Status::Suspended), ..UserChange::default() };
        write(&db.primary, async |tx| user::update(tx, a.directory, ann, &suspend).await).await.unwrap();
        let who = principal(&db, &a, ann).await.unwrap();
        assert_eq!((who.status, who.version), (Status::Suspended, 2));
        db.hand.advance(Duration::from_secs(1));
        write(&db.primary, async |tx| user::invalidate_sessions(tx, a.directory, ann).await).await.unwrap();
        let who = principal(&db, &a, ann).await.unwrap();
        assert_eq!((who.sessions_valid_from, who.version), (db.now(), 3));

        write(&db.primary, async |tx| user::delete(tx, a.directory, ann).await).await.unwrap();
        assert_eq!(principal(&db, &a, ann).await, None);
        let p = Partition::Project(a.project);
        assert!(published(&db.primary, p, &DocumentKey::revocation(sign)).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn the_published_principal_of_who_is_signed_in_has_the_display_name_while_there_is_one() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        let (sign, _) = db.sign_in(&a, ann).await;
        db.session(&a, ann, sign).await;
        let before = principal(&db, &a, ann).await.unwrap();
        for (called, shown) in [("Countess", "Countess"), ("", before.name.as_str())] {
            let change = UserChange { display_name: Some(called.to_owned()), ..UserChange::default() };
            write(&db.primary, async |tx| user::update(tx, a.directory, ann, &change).await).await.unwrap();
            assert_eq!(principal(&db, &a, ann).await.unwrap().name, shown);
        }
    })
    .await;
}

#[tokio::test]
async fn a_change_of_address_takes_its_verification_with_it() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        write(&db.primary, async |tx| user::verify_email(tx, a.directory, ann).await).await.unwrap();
        let change = async |email: &str| {
            let change = UserChange { email: Some(email.to_owned()), ..UserChange::default() };
            write(&db.primary, async |tx| user::update(tx, a.directory, ann, &change).await).await.unwrap();
            db.primary.read(async |tx| user::get(tx, a.directory, ann).await).await.unwrap().unwrap()
        };
        let row = change("Ann@example.org").await;
        assert_eq!((row.email.as_str(), row.email_verified_at), ("Ann@example.org", Some(db.now())));
        let row = change("anna@example.org").await;
        assert_eq!((row.email.as_str(), row.email_verified_at), ("anna@example.org", None));
    })
    .await;
}

#[tokio::test]
async fn activity_moves_last_seen_forward_only_and_reaches_other_edges_in_time() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let ann = db.user(&a, "ann@example.org").await;
        let (sign, _) = db.sign_in(&a, ann).await;
        let (doc, _) = db.session(&a, ann, sign).await;
        let p = Partition::Project(a.project);
        let key = DocumentKey::session(&doc.token_hash);
        let seen = async |project, after_s: u64| {
            let seen_at = doc.seen_at.after(Duration::from_secs(after_s));
            let batch = [Activity { session: doc.id, project, seen_at }];
            db.primary.write(async |tx| session::seen(tx, &batch).await).await.unwrap();
            let row = db.primary.read(async |tx| session::get(tx, a.project, doc.id).await).await.unwrap();
            let Some(Document::Session(edge)) = published(&db.primary, p, &key).await else { panic!() };
            let since = |at: mezusphere_model::Timestamp| at.since(doc.seen_at).as_secs();
            (since(row.unwrap().doc.seen_at), since(edge.seen_at))
        };
        let quarter = u64::from(doc.idle_s_max / 4);
        assert_eq!(seen(b.project, 50).await, (0, 0), "another project's edge has no say");
        assert_eq!(seen(a.project, 60).await, (60, 0), "too soon to publish");
        assert_eq!(seen(a.project, 30).await, (60, 0), "older than what is known");
        assert_eq!(seen(a.project, quarter).await, (quarter, quarter));
        assert_eq!(seen(a.project, quarter + 10).await, (quarter + 10, quarter));
        let row = db.primary.read(async |tx| sign_in::get(tx, a.directory, sign).await).await.unwrap();
        assert_eq!(row.unwrap().seen_at.since(doc.seen_at).as_secs(), quarter + 10);
    })
    .await;
}
