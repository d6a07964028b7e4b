//! What is good once is good exactly once, however many ask at the same moment.

use std::time::Duration;

use mezusphere_model::Host;
use mezusphere_model::id::FlowId;
use mezusphere_model::token::Token;
use mezusphere_store::WriteError;
use mezusphere_store::primary::hand_off::{HandOffRow, Redemption};
use mezusphere_store::primary::one_time_link::LinkRow;
use mezusphere_store::primary::{StoreError, hand_off, one_time_link, sign_in};

use crate::on_each;
use crate::support::{Store, Tenant, name, write};

/// Attempts at the same moment.
const AT_ONCE: usize = 20;

async fn code(db: &Store, tenant: &Tenant) -> (HandOffRow, Token) {
    let user = db.user(tenant, "ann@example.org").await;
    let (sign_in, _) = db.sign_in(tenant, user).await;
    let code = Token::random(&db.entropy);
    let row = HandOffRow {
        code_hash: code.hash(),
        sign_in,
        project: tenant.project,
        environment: tenant.environment,
        host: tenant.host.clone(),
        state_hash: "state".to_owned(),
        return_to: "/orders?page=2".to_owned(),
        created_at: db.now(),
        expires_at: db.now().after(Duration::from_mins(1)),
    };
    write(&db.primary, async |tx| hand_off::insert(tx, &row).await).await.unwrap();
    (row, code)
}

async fn redeem(db: &Store, code: &Token, host: &Host, state: &str) -> Redemption {
    let hash = code.hash();
    db.primary.write(async |tx| hand_off::redeem(tx, &hash, host, state).await).await.unwrap()
}

#[tokio::test]
async fn r11_of_many_who_redeem_a_code_at_once_one_gets_it() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let (row, code) = code(&db, &a).await;
        let attempts = (0..AT_ONCE).map(|_| {
            let (primary, host, hash) = (db.primary.clone(), a.host.clone(), code.hash());
            tokio::spawn(async move {
                let redeemed =
                    primary.write(async |tx| hand_off::redeem(tx, &hash, &host, "state").await).await;
                redeemed.unwrap()
            })
        });
        let mut won = 0;
        for attempt in attempts.collect::<Vec<_>>() {
            match attempt.await.unwrap() {
                Redemption::Redeemed(got) => {
                    assert_eq!(*got, row);
                    won += 1;
                }
                other => assert_eq!(other, Redemption::Used(row.sign_in)),
            }
        }
        assert_eq!(won, 1);
    })
    .await;
}

#[tokio::test]
async fn r11_a_code_is_good_on_its_own_host_and_in_its_own_browser_only() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let elsewhere = Host::parse("evil.localhost").unwrap();
        let b = db.tenant("blog").await;
        for (tenant, host, state) in [(&a, &elsewhere, "state"), (&b, &b.host, "other")] {
            let (row, code) = code(&db, tenant).await;
            assert_eq!(redeem(&db, &code, host, state).await, Redemption::Mismatch);
            // A wrong try spends it.
            assert_eq!(redeem(&db, &code, &tenant.host, "state").await, Redemption::Used(row.sign_in));
        }
        let unknown = Token::random(&db.entropy);
        assert_eq!(redeem(&db, &unknown, &a.host, "state").await, Redemption::Unknown);
    })
    .await;
}

#[tokio::test]
async fn a_code_ends_after_its_time_and_with_its_sign_in() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let (_, late) = code(&db, &a).await;
        let (row, orphan) = code(&db, &b).await;
        write(&db.primary, async |tx| sign_in::end(tx, b.directory, row.sign_in).await).await.unwrap();
        assert_eq!(redeem(&db, &orphan, &b.host, "state").await, Redemption::Unknown);
        db.hand.advance(Duration::from_mins(1));
        assert_eq!(redeem(&db, &late, &a.host, "state").await, Redemption::Expired);
    })
    .await;
}

#[tokio::test]
async fn r17_a_one_time_link_is_taken_once_and_the_newest_counts() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let user = db.user(&a, "ann@example.org").await;
        let first_sign_in = name("first-sign-in");
        let link = |token: &Token| LinkRow {
            id: FlowId::from_bits(u128::from(token.as_bytes()[0])),
            token_hash: token.hash(),
            purpose: first_sign_in.clone(),
            directory: a.directory,
            user: Some(user),
            email: String::new(),
            detail: serde_json::json!({}),
            created_at: db.now(),
            expires_at: db.now().after(Duration::from_mins(30)),
        };
        let (old, new) = (Token::random(&db.entropy), Token::random(&db.entropy));
        for token in [&old, &new] {
            let row = link(token);
            write(&db.primary, async |tx| one_time_link::insert(tx, &row, 1).await).await.unwrap();
        }
        let recovery = name("recovery");
        db.primary
            .read(async |tx| {
                assert_eq!(one_time_link::peek(tx, &old.hash(), &first_sign_in).await?, None, "replaced");
                assert_eq!(one_time_link::peek(tx, &new.hash(), &recovery).await?, None, "other purpose");
                assert_eq!(one_time_link::peek(tx, &new.hash(), &first_sign_in).await?, Some(link(&new)));
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
        let attempts = (0..AT_ONCE).map(|_| {
            let (primary, hash, purpose) = (db.primary.clone(), new.hash(), first_sign_in.clone());
            tokio::spawn(async move {
                let taken = primary.write(async |tx| one_time_link::take(tx, &hash, &purpose).await).await;
                taken.unwrap()
            })
        });
        let mut taken = 0;
        for attempt in attempts.collect::<Vec<_>>() {
            taken += usize::from(attempt.await.unwrap().is_some());
        }
        assert_eq!(taken, 1);

        let row = link(&old);
        write(&db.primary, async |tx| one_time_link::insert(tx, &row, 1).await).await.unwrap();
        db.hand.advance(Duration::from_mins(30));
        let late = db.primary.write(async |tx| one_time_link::take(tx, &old.hash(), &first_sign_in).await);
        assert_eq!(late.await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_link_for_a_user_of_another_directory_is_refused() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let row = LinkRow {
            id: FlowId::random(&db.entropy),
            token_hash: Token::random(&db.entropy).hash(),
            purpose: name("first-sign-in"),
            directory: b.directory,
            user: Some(db.user(&a, "ann@example.org").await),
            email: String::new(),
            detail: serde_json::json!({}),
            created_at: db.now(),
            expires_at: db.now().after(Duration::from_mins(30)),
        };
        let refused = write(&db.primary, async |tx| one_time_link::insert(tx, &row, 1).await).await;
        assert_eq!(refused, Err(WriteError::NotFound { what: "user" }));
    })
    .await;
}
