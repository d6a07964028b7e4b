//! One-time links: for addresses that belong to nobody yet, so many at a time, listed, taken back, and swept away.

use std::time::Duration;

use mezusphere_model::id::{FlowId, UserId};
use mezusphere_model::token::Token;
use mezusphere_store::WriteError;
use mezusphere_store::primary::one_time_link::{self, DETAIL_LEN_MAX, LinkRow};
use mezusphere_store::primary::{PageRequest, StoreError, prune, user};
use serde_json::json;

use crate::on_each;
use crate::support::{Store, Tenant, name, write};

/// A link to `email`, and its token.
fn link(db: &Store, tenant: &Tenant, user: Option<UserId>, email: &str) -> (LinkRow, Token) {
    let token = Token::random(&db.entropy);
    let row = LinkRow {
        id: FlowId::random(&db.entropy),
        token_hash: token.hash(),
        purpose: name("sign-up"),
        directory: tenant.directory,
        user,
        email: email.to_owned(),
        detail: json!({ "onward": { "host": "shop.localhost", "return_to": "/ü?a=\"b\"" } }),
        created_at: db.now(),
        expires_at: db.now().after(Duration::from_mins(30)),
    };
    (row, token)
}

async fn insert(db: &Store, row: &LinkRow, live_max: u32) -> Result<(), WriteError> {
    write(&db.primary, async |tx| one_time_link::insert(tx, row, live_max).await).await
}

async fn peek(db: &Store, token: &Token) -> Option<LinkRow> {
    let (hash, purpose) = (token.hash(), name("sign-up"));
    let found: Result<_, StoreError> =
        db.primary.read(async |tx| one_time_link::peek(tx, &hash, &purpose).await).await;
    found.unwrap()
}

async fn ids(db: &Store, tenant: &Tenant) -> Vec<FlowId> {
    let (directory, purpose, page) = (tenant.directory, name("sign-up"), PageRequest::first());
    let list: Result<_, StoreError> =
        db.primary.read(async |tx| one_time_link::list(tx, directory, &purpose, &page).await).await;
    list.unwrap().rows.into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn a_link_for_an_address_keeps_its_detail_and_of_one_address_the_newest_stay() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let mut tokens = Vec::new();
        // The same address, however it is written; another address counts for itself.
        for email in ["Ann@example.org", "ann@example.org", "ben@example.org", "ANN@example.org"] {
            let (row, token) = link(&db, &a, None, email);
            insert(&db, &row, 2).await.unwrap();
            assert_eq!(peek(&db, &token).await, Some(row));
            tokens.push(token);
            db.hand.advance(Duration::from_secs(1));
        }
        let mut live = Vec::new();
        for token in &tokens {
            live.push(peek(&db, token).await.is_some());
        }
        assert_eq!(live, [false, true, true, true]);
    })
    .await;
}

#[tokio::test]
async fn r22_a_directory_lists_and_takes_back_its_own_links() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let (row, token) = link(&db, &a, None, "ann@example.org");
        insert(&db, &row, 1).await.unwrap();
        assert_eq!((ids(&db, &a).await, ids(&db, &b).await), (vec![row.id], vec![]));
        let revoke = async |tenant: &Tenant, purpose: &str| {
            let (directory, purpose, id) = (tenant.directory, name(purpose), row.id);
            write(&db.primary, async |tx| one_time_link::revoke(tx, directory, &purpose, id).await).await
        };
        assert_eq!(revoke(&b, "sign-up").await, Err(WriteError::NotFound { what: "link" }));
        assert_eq!(revoke(&a, "recovery").await, Err(WriteError::NotFound { what: "link" }));
        assert!(peek(&db, &token).await.is_some());
        assert_eq!(revoke(&a, "sign-up").await, Ok(()));
        assert_eq!(peek(&db, &token).await, None);
    })
    .await;
}

#[tokio::test]
async fn links_of_a_user_and_of_their_address_go_together_and_with_the_user() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        let ben = db.user(&a, "ben@example.org").await;
        let whose =
            [(Some(ann), "new@example.org"), (None, "ANN@example.org"), (Some(ben), "ben@example.org")];
        let mut tokens = Vec::new();
        for (user, email) in whose {
            let (row, token) = link(&db, &a, user, email);
            insert(&db, &row, 1).await.unwrap();
            tokens.push(token);
        }
        let directory = a.directory;
        db.primary
            .write(async |tx| one_time_link::remove_of(tx, directory, ann, "Ann@Example.org").await)
            .await
            .unwrap();
        assert!(peek(&db, &tokens[0]).await.is_none() && peek(&db, &tokens[1]).await.is_none());
        assert!(peek(&db, &tokens[2]).await.is_some());
        write(&db.primary, async |tx| user::delete(tx, directory, ben).await).await.unwrap();
        assert!(peek(&db, &tokens[2]).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_link_that_is_over_is_not_found_and_swept_away() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let (row, token) = link(&db, &a, None, "ann@example.org");
        insert(&db, &row, 1).await.unwrap();
        let sweep = async || db.primary.write(async |tx| prune::prune(tx).await).await.unwrap();
        assert_eq!(sweep().await, 0);
        db.hand.advance(Duration::from_mins(30));
        assert_eq!((peek(&db, &token).await, ids(&db, &a).await), (None, vec![]));
        assert_eq!(sweep().await, 1);
        assert_eq!(sweep().await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_detail_has_a_limit() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let (row, _) = link(&db, &a, None, "ann@example.org");
        let fits = LinkRow { detail: json!("a".repeat(DETAIL_LEN_MAX - 2)), ..row.clone() };
        assert_eq!(insert(&db, &fits, 1).await, Ok(()));
        let too_long = LinkRow { detail: json!("a".repeat(DETAIL_LEN_MAX - 1)), ..row };
        let refused = insert(&db, &too_long, 1).await;
        assert!(matches!(refused, Err(WriteError::Store(StoreError::TooLarge(_)))), "{refused:?}");
    })
    .await;
}
