//! What a cluster keeps of its nodes: invitations, where they are, how far they are.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::document::NodeAddress;
use mezusphere_model::id::{ControlId, EdgeId, JoinId};
use mezusphere_model::token::Token;
use mezusphere_store::WriteError;
use mezusphere_store::primary::invitation::{Admission, InvitationRow};
use mezusphere_store::primary::node::{NodeId, NodeRow};
use mezusphere_store::primary::{PageRequest, StoreError, invitation, node};

use crate::on_each;
use crate::support::{Store, write};

fn invite(db: &Store, secret: &Token) -> InvitationRow {
    InvitationRow {
        id: JoinId::random(&db.entropy),
        name: "fra-1".to_owned(),
        region: "fra".to_owned(),
        secret_hash: secret.hash(),
        created_by: "local".to_owned(),
        created_at: db.now(),
        expires_at: db.now().after(Duration::from_mins(15)),
        used_at: None,
        used_by: None,
        revoked_at: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_lets_exactly_one_of_many_in() {
    on_each(async |db: Store| {
        let secret = Token::random(&db.entropy);
        let row = invite(&db, &secret);
        write(&db.primary, async |tx| invitation::insert(tx, &row).await).await.unwrap();
        let attempts: Vec<_> = (0..6)
            .map(|n| {
                let (primary, id, secret) = (db.primary.clone(), row.id, secret.hash());
                tokio::spawn(async move {
                    primary
                        .write(async |tx| invitation::admit(tx, id, &secret, EdgeId::from_bits(n)).await)
                        .await
                        .unwrap()
                })
            })
            .collect();
        let mut admitted = 0;
        for attempt in attempts {
            match attempt.await.unwrap() {
                Admission::Admitted(now) => {
                    assert_eq!((now.id, now.used_at), (row.id, Some(db.now())));
                    admitted += 1;
                }
                other => assert_eq!(other, Admission::Used),
            }
        }
        assert_eq!(admitted, 1);
    })
    .await;
}

#[tokio::test]
async fn an_invitation_that_is_over_says_why_and_only_to_who_has_its_secret() {
    on_each(async |db: Store| {
        let (secret, wrong) = (Token::random(&db.entropy), Token::random(&db.entropy));
        let (late, revoked) = (invite(&db, &secret), invite(&db, &secret));
        let edge = EdgeId::random(&db.entropy);
        write(&db.primary, async |tx| {
            invitation::insert(tx, &late).await?;
            invitation::insert(tx, &revoked).await?;
            invitation::revoke(tx, revoked.id).await?;
            invitation::revoke(tx, revoked.id).await
        })
        .await
        .unwrap();
        let admit = async |id, secret: &Token| {
            let hash = secret.hash();
            db.primary.write(async |tx| invitation::admit(tx, id, &hash, edge).await).await.unwrap()
        };
        assert_eq!(admit(revoked.id, &secret).await, Admission::Revoked);
        assert_eq!(admit(late.id, &wrong).await, Admission::Unknown);
        assert_eq!(admit(JoinId::random(&db.entropy), &secret).await, Admission::Unknown);
        db.hand.advance(Duration::from_mins(15));
        assert_eq!(admit(late.id, &secret).await, Admission::Expired);
        assert_eq!(admit(late.id, &wrong).await, Admission::Unknown);
        let page =
            db.primary.read(async |tx| invitation::list(tx, &PageRequest::first()).await).await.unwrap();
        assert_eq!(page.rows.len(), 2);
        let gone = JoinId::random(&db.entropy);
        let none = write(&db.primary, async |tx| invitation::revoke(tx, gone).await).await;
        assert_eq!(none, Err(WriteError::NotFound { what: "open invitation" }));
    })
    .await;
}

#[tokio::test]
async fn an_edge_is_connected_to_one_control_node_at_a_time() {
    on_each(async |db: Store| {
        let edge = EdgeId::random(&db.entropy);
        let (one, two) = (ControlId::random(&db.entropy), ControlId::random(&db.entropy));
        let row = NodeRow {
            id: NodeId::Edge(edge),
            name: "fra-1".to_owned(),
            region: "fra".to_owned(),
            host: "edge.example".to_owned(),
            port: 443,
            version: "0.2.0".to_owned(),
            node: Some(NodeAddress { host: "control.example".to_owned(), port: 8444 }),
            connected_to: None,
            draining_at: Some(db.now()),
            created_at: db.now(),
            seen_at: db.now(),
            denied_at: None,
        };
        write(&db.primary, async |tx| {
            node::put(tx, &row).await?;
            node::connected(tx, edge, one).await?;
            node::connected(tx, edge, two).await?;
            // The first one notices late that the link is gone.
            node::disconnected(tx, edge, one).await?;
            Ok(())
        })
        .await
        .unwrap();
        let stored = async || {
            db.primary.read(async |tx| node::get(tx, NodeId::Edge(edge)).await).await.unwrap().unwrap()
        };
        assert_eq!(stored().await, NodeRow { connected_to: Some(two), ..row.clone() });
        db.hand.advance(Duration::from_secs(10));
        write(&db.primary, async |tx| {
            node::seen(tx, NodeId::Edge(edge)).await?;
            node::put(tx, &NodeRow { draining_at: None, seen_at: Timestamp::default(), ..row.clone() })
                .await?;
            node::seen(tx, NodeId::Edge(edge)).await?;
            Ok(())
        })
        .await
        .unwrap();
        let now = stored().await;
        assert_eq!((now.connected_to, now.draining_at, now.seen_at), (Some(two), None, db.now()));
        write(&db.primary, async |tx| Ok(node::control_started(tx, two).await?)).await.unwrap();
        assert_eq!(stored().await.connected_to, None);
        write(&db.primary, async |tx| node::delete(tx, NodeId::Edge(edge)).await).await.unwrap();
        assert_eq!(db.primary.read(async |tx| node::list(tx).await).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_confined_transaction_is_narrowed_and_never_widened() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let ann = db.user(&a, "ann@example.org").await;
        let (sign, _) = db.sign_in(&a, ann).await;
        db.primary
            .read(async |tx| {
                tx.confine(a.organization, None).await?;
                tx.confine(a.organization, Some(a.project)).await?;
                tx.confine(a.organization, Some(a.project)).await?;
                assert_eq!(tx.confine(a.organization, None).await, Err(StoreError::Confined));
                assert_eq!(tx.confine(a.organization, Some(b.project)).await, Err(StoreError::Confined));
                assert_eq!(tx.confine(b.organization, None).await, Err(StoreError::Confined));
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
        // A sign-in has sessions in any project of the organization: one of them alone cannot end it.
        let half = write(&db.primary, async |tx| {
            tx.confine(a.organization, Some(a.project)).await?;
            mezusphere_store::primary::sign_in::end(tx, a.directory, sign).await
        })
        .await;
        assert_eq!(half, Err(WriteError::Store(StoreError::Confined)));
        let whole = write(&db.primary, async |tx| {
            tx.confine(a.organization, None).await?;
            mezusphere_store::primary::sign_in::end(tx, a.directory, sign).await
        })
        .await;
        assert_eq!(whole, Ok(true));
    })
    .await;
}
