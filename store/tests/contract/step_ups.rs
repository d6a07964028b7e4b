//! A sign-in that is proved again: a new token, and what hangs on the old proof ends when its host asks again.

use std::time::Duration;

use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::identity::{Assurance, Method};
use mezusphere_model::token::Token;
use mezusphere_store::primary::sign_in::Renewal;
use mezusphere_store::primary::{StoreError, session, sign_in};

use crate::on_each;
use crate::support::{Store, published, write};

#[tokio::test]
async fn r11_a_renewed_sign_in_is_found_by_its_new_token_only_and_is_renewed_once() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        let (id, old) = db.sign_in(&a, ann).await;
        let begun = db.now();
        db.hand.advance(Duration::from_mins(5));
        let new = Token::random(&db.entropy);
        let renewal = Renewal {
            token_hash: new.hash(),
            methods: vec![Method::Password, Method::OneTimeCode],
            assurance: Assurance::Aal2,
            authenticated_at: db.now(),
        };
        let (directory, held) = (a.directory, old.hash());
        let renew = async || {
            write(&db.primary, async |tx| sign_in::renew(tx, directory, id, &held, &renewal).await).await
        };
        let row = renew().await.unwrap().unwrap();
        assert_eq!(
            (row.id, row.created_at, row.authenticated_at, row.seen_at),
            (id, begun, db.now(), db.now())
        );
        assert_eq!((&row.methods, row.assurance), (&renewal.methods, Assurance::Aal2));
        let find = async |token: &Token| {
            let hash = token.hash();
            let found: Result<_, StoreError> =
                db.primary.read(async |tx| sign_in::find(tx, &hash).await).await;
            found.unwrap()
        };
        assert_eq!((find(&old).await, find(&new).await), (None, Some(row)));
        assert_eq!(renew().await, Ok(None), "what was held is not held any more");
    })
    .await;
}

#[tokio::test]
async fn r11_a_newer_proof_ends_the_session_before_it_on_that_host_and_no_other() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        let (sign_in, _) = db.sign_in(&a, ann).await;
        let (elsewhere, _) = db.sign_in(&a, ann).await;
        let (one, _) = db.session(&a, ann, sign_in).await;
        let (two, _) = db.session(&a, ann, sign_in).await;
        let (other, _) = db.session(&a, ann, elsewhere).await;
        let p = Partition::Project(a.project);
        let is_published = async |doc: &mezusphere_model::session::SessionDoc| {
            published(&db.primary, p, &DocumentKey::session(&doc.token_hash)).await.is_some()
        };
        assert!(is_published(&one).await && is_published(&two).await, "two tabs with one proof");
        db.hand.advance(Duration::from_mins(5));
        let (fresh, _) = db.session(&a, ann, sign_in).await;
        assert!(!is_published(&one).await && !is_published(&two).await);
        assert!(is_published(&fresh).await && is_published(&other).await);
        let (directory, project) = (a.directory, a.project);
        db.primary
            .read(async |tx| {
                assert_eq!(session::get(tx, project, one.id).await?.unwrap().ended_at, Some(db.now()));
                let of_user = session::of_user(tx, directory, ann).await?;
                let mut ids: Vec<_> = of_user.into_iter().map(|row| row.doc.id).collect();
                ids.sort_unstable();
                let mut live = vec![fresh.id, other.id];
                live.sort_unstable();
                assert_eq!(ids, live);
                let foreign = db.tenant("blog").await.directory;
                assert!(session::of_user(tx, foreign, ann).await?.is_empty());
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    })
    .await;
}
