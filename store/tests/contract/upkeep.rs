//! What keeps an installation going: secrets, settings, leases, nodes, warpgates, certificates, sites, pruning.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::document::{Document, DocumentKey, Partition};
use mezusphere_model::id::{ControlId, EdgeId, WarpgateId};
use mezusphere_model::identity::Subject;
use mezusphere_store::WriteError;
use mezusphere_store::primary::certificate::IssuedRow;
use mezusphere_store::primary::node::{NodeId, NodeRow};
use mezusphere_store::primary::secret::SecretState;
use mezusphere_store::primary::warpgate::{TunnelRow, WarpgateRow};
use mezusphere_store::primary::{
    PageRequest, StoreError, Taken, api_key, certificate, lease, node, prune, route, secret, session,
    setting, sign_in, site, warpgate,
};

use crate::on_each;
use crate::support::{Store, published, write};

#[tokio::test]
async fn a_secret_has_versions_of_which_one_is_current() {
    on_each(async |db: Store| {
        let primary = &db.primary;
        let add = async |state, value: &'static [u8]| {
            write(primary, async |tx| secret::add(tx, "assertion", state, value).await).await.unwrap().version
        };
        assert_eq!(add(SecretState::Current, b"one").await, 1);
        assert_eq!(add(SecretState::Next, b"two").await, 2);
        let current = async || primary.read(async |tx| secret::current(tx, "assertion").await).await.unwrap();
        assert_eq!(&*current().await.unwrap().value, b"one");
        write(primary, async |tx| secret::set_state(tx, "assertion", 2, SecretState::Current).await)
            .await
            .unwrap();
        let now = current().await.unwrap();
        assert_eq!((now.version, now.value.as_slice()), (2, b"two".as_slice()));
        assert!(!format!("{now:?}").contains("116"), "the value does not show: {now:?}");
        let all = primary.read(async |tx| secret::list(tx, "assertion").await).await.unwrap();
        let states: Vec<_> = all.iter().map(|row| (row.version, row.state)).collect();
        assert_eq!(states, [(2, SecretState::Current), (1, SecretState::Retiring)]);
        write(primary, async |tx| secret::delete(tx, "assertion", 1).await).await.unwrap();
        let gone = primary.read(async |tx| secret::get(tx, "assertion", 1).await).await.unwrap();
        assert!(gone.is_none());
        assert_eq!(add(SecretState::Current, b"three").await, 3);
        assert!(primary.read(async |tx| secret::current(tx, "pepper").await).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_setting_reads_back_as_what_it_was() {
    on_each(async |db: Store| {
        for value in [vec![1, 2], vec![3]] {
            db.primary.write(async |tx| setting::put(tx, "numbers", &value).await).await.unwrap();
            let read = db.primary.read(async |tx| setting::get::<Vec<i32>>(tx, "numbers").await).await;
            assert_eq!(read.unwrap(), Some(value));
        }
        let wrong = db.primary.read(async |tx| setting::get::<String>(tx, "numbers").await).await;
        assert!(matches!(wrong, Err(StoreError::Damaged(_))));
        let missing = db.primary.read(async |tx| setting::get::<String>(tx, "nothing").await).await;
        assert_eq!(missing.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_held_by_one_and_a_late_holder_is_fenced_off() {
    on_each(async |db: Store| {
        let ttl = Duration::from_secs(10);
        let acquire = async |holder: &str| {
            db.primary.write(async |tx| lease::acquire(tx, "acme", holder, ttl).await).await.unwrap()
        };
        let holds = async |held: &lease::Lease| {
            db.primary.read(async |tx| lease::check(tx, held).await).await.unwrap()
        };
        let first = acquire("a").await.unwrap();
        assert_eq!(acquire("b").await, None);
        db.hand.advance(Duration::from_secs(6));
        let renewed = acquire("a").await.unwrap();
        assert_eq!(renewed.token, first.token);
        db.hand.advance(Duration::from_secs(6));
        assert!(holds(&first).await, "renewed, with the same token");
        db.hand.advance(Duration::from_secs(5));
        assert!(!holds(&renewed).await);
        let second = acquire("b").await.unwrap();
        assert!(second.token > first.token);
        assert!(!holds(&renewed).await);
        db.primary.write(async |tx| lease::release(tx, &renewed).await).await.unwrap();
        assert!(holds(&second).await, "who lost it cannot give it back");
        db.primary.write(async |tx| lease::release(tx, &second).await).await.unwrap();
        assert!(!holds(&second).await);
        let third = acquire("b").await.unwrap();
        assert!(third.token > second.token);
    })
    .await;
}

#[tokio::test]
async fn nodes_are_known_by_id_and_name_and_stay_evicted() {
    on_each(async |db: Store| {
        let edge = NodeId::Edge(EdgeId::random(&db.entropy));
        let row = |id, name: &str| NodeRow {
            id,
            name: name.to_owned(),
            region: "home".to_owned(),
            host: "edge.example".to_owned(),
            port: 8443,
            version: "0.1.0".to_owned(),
            node: None,
            connected_to: None,
            draining_at: None,
            created_at: db.now(),
            seen_at: db.now(),
            denied_at: None,
        };
        let first = row(edge, "one");
        write(&db.primary, async |tx| node::put(tx, &first).await).await.unwrap();
        write(&db.primary, async |tx| node::deny(tx, edge).await).await.unwrap();
        let moved = NodeRow { host: "elsewhere.example".to_owned(), ..first.clone() };
        write(&db.primary, async |tx| node::put(tx, &moved).await).await.unwrap();
        let stored = db.primary.read(async |tx| node::get(tx, edge).await).await.unwrap().unwrap();
        assert_eq!((stored.host.as_str(), stored.denied_at), ("elsewhere.example", Some(db.now())));
        let other = row(NodeId::Control(ControlId::random(&db.entropy)), "one");
        let taken = write(&db.primary, async |tx| node::put(tx, &other).await).await;
        assert_eq!(taken, Err(WriteError::Conflict { what: Taken::NodeName }));
        assert_eq!(db.primary.read(async |tx| node::list(tx).await).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn r22_a_warpgate_and_its_tunnels_belong_to_one_environment_for_ever() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let (account, key) = db.key(&a, "ci").await;
        let edge = EdgeId::random(&db.entropy);
        let row = WarpgateRow {
            id: WarpgateId::random(&db.entropy),
            project: a.project,
            environment: a.environment,
            account,
            key: key.id,
            hostname: "laptop".to_owned(),
            agent: "0.1.0".to_owned(),
            created_at: db.now(),
            enrolled_at: db.now(),
            not_after: db.now().after(Duration::from_hours(1)),
        };
        write(&db.primary, async |tx| warpgate::put(tx, &row).await).await.unwrap();
        let stolen = WarpgateRow { project: b.project, environment: b.environment, ..row.clone() };
        let refused = write(&db.primary, async |tx| warpgate::put(tx, &stolen).await).await;
        assert_eq!(refused, Err(WriteError::Conflict { what: Taken::Id }));
        let newer = WarpgateRow { agent: "0.2.0".to_owned(), ..row.clone() };
        write(&db.primary, async |tx| warpgate::put(tx, &newer).await).await.unwrap();

        let tunnel = |connected, after_s| TunnelRow {
            warpgate: row.id,
            edge,
            project: a.project,
            environment: a.environment,
            remote: "192.0.2.7:4000".to_owned(),
            agent: "0.2.0".to_owned(),
            upstreams: vec!["default".to_owned()],
            connected,
            since: db.now().after(Duration::from_secs(after_s)),
        };
        for report in [tunnel(true, 0), tunnel(false, 5), tunnel(true, 3)] {
            write(&db.primary, async |tx| warpgate::report_tunnel(tx, &report).await).await.unwrap();
        }
        let list = async |project, environment| {
            let tunnels = db.primary.read(async |tx| warpgate::list_tunnels(tx, project, environment).await);
            tunnels.await.unwrap()
        };
        assert_eq!(
            list(a.project, a.environment).await,
            [tunnel(false, 5)],
            "the late report changed nothing"
        );
        assert_eq!(list(b.project, a.environment).await, []);
        let foreign = TunnelRow { project: b.project, environment: b.environment, ..tunnel(true, 9) };
        write(&db.primary, async |tx| warpgate::report_tunnel(tx, &foreign).await).await.ok();
        assert_eq!(list(b.project, b.environment).await, []);
        let again = tunnel(true, 9);
        write(&db.primary, async |tx| warpgate::report_tunnel(tx, &again).await).await.unwrap();
        db.primary.write(async |tx| warpgate::edge_started(tx, edge).await).await.unwrap();
        assert!(!list(a.project, a.environment).await[0].connected);

        // What an edge holds as a whole: a tunnel made before it started again is back, another is gone.
        let at = db.now().after(Duration::from_secs(20));
        let hold = async |held: Vec<TunnelRow>, at| {
            db.primary.write(async |tx| warpgate::hold_tunnels(tx, edge, &held, at).await).await.unwrap();
        };
        let unknown = TunnelRow { warpgate: WarpgateId::random(&db.entropy), ..tunnel(true, 9) };
        hold(vec![unknown, tunnel(true, 9)], at).await;
        assert_eq!(list(a.project, a.environment).await, [tunnel(true, 9)]);
        hold(Vec::new(), db.now().after(Duration::from_secs(8))).await;
        assert!(list(a.project, a.environment).await[0].connected, "an older report ends nothing newer");
        hold(Vec::new(), at).await;
        assert_eq!(list(a.project, a.environment).await, [tunnel(false, 20)]);
        db.primary
            .read(async |tx| {
                assert_eq!(warpgate::get(tx, a.project, row.id).await?, Some(newer.clone()));
                assert_eq!(warpgate::get(tx, b.project, row.id).await?, None);
                let page = PageRequest::first();
                assert_eq!(
                    warpgate::list(tx, a.project, a.environment, &page).await?.rows,
                    std::slice::from_ref(&newer)
                );
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn issued_certificates_are_listed_newest_first() {
    on_each(async |db: Store| {
        let row = |n: u8| IssuedRow {
            fingerprint: [n; 32],
            name: format!("spiffe://t/edge/{}", n % 2),
            project: None,
            not_before: db.now(),
            not_after: db.now().after(Duration::from_mins(1)),
            issued_at: db.now().after(Duration::from_secs(u64::from(n / 3))),
            issuer: (n > 3).then_some([n; 32]),
        };
        for n in 0..10 {
            write(&db.primary, async |tx| certificate::insert(tx, &row(n)).await).await.unwrap();
        }
        let (mut page, mut seen) = (PageRequest { after: None, limit: 4 }, Vec::new());
        loop {
            let part = db.primary.read(async |tx| certificate::list(tx, &page).await).await.unwrap();
            seen.extend(part.rows.into_iter().map(|row| row.fingerprint[0]));
            let Some(next) = part.next else { break };
            page.after = Some(next);
        }
        assert_eq!(seen, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
        let of =
            db.primary.read(async |tx| certificate::list_of(tx, "spiffe://t/edge/1").await).await.unwrap();
        assert_eq!(of.len(), 5);
    })
    .await;
}

#[tokio::test]
async fn r20_a_certificate_is_the_latest_until_one_that_was_issued_later_is_seen() {
    on_each(async |db: Store| {
        let name = "spiffe://t/edge/1";
        let row = |n: u8| IssuedRow {
            fingerprint: [n; 32],
            name: name.to_owned(),
            project: None,
            not_before: db.now(),
            not_after: db.now().after(Duration::from_mins(1)),
            issued_at: db.now().after(Duration::from_secs(n.into())),
            issuer: None,
        };
        for n in 1..=3 {
            write(&db.primary, async |tx| certificate::insert(tx, &row(n)).await).await.unwrap();
        }
        let ask = async |n: u8, name: &str| {
            let both = db.primary.read(async |tx| {
                let seen = certificate::is_seen(tx, name, &[n; 32]).await?;
                Ok::<_, StoreError>((seen, certificate::is_latest(tx, name, &[n; 32]).await?))
            });
            both.await.unwrap()
        };
        assert_eq!(ask(1, name).await, (Some(false), true));
        for _ in 0..2 {
            db.primary.write(async |tx| certificate::seen(tx, &[2; 32]).await).await.unwrap();
        }
        assert_eq!(ask(1, name).await, (Some(false), false));
        assert_eq!((ask(2, name).await, ask(3, name).await), ((Some(true), true), (Some(false), true)));
        assert_eq!(ask(3, "spiffe://t/edge/2").await, (None, false), "another's");
        assert_eq!(ask(9, name).await, (None, false), "nobody's");
    })
    .await;
}

#[tokio::test]
async fn what_nodes_hold_is_the_newest_of_each_that_has_not_ended() {
    on_each(async |db: Store| {
        let row = |n: u8, name: &str, issued_s: u64, issuer: Option<u8>| IssuedRow {
            fingerprint: [n; 32],
            name: name.to_owned(),
            project: None,
            not_before: db.now(),
            not_after: db.now().after(Duration::from_mins(1 + issued_s)),
            issued_at: db.now().after(Duration::from_secs(issued_s)),
            issuer: issuer.map(|octet| [octet; 32]),
        };
        let ended = IssuedRow { not_after: db.now(), ..row(7, "spiffe://t/edge/3", 0, Some(1)) };
        let rows = [
            row(1, "spiffe://t/edge/2", 0, Some(1)),
            row(2, "spiffe://t/edge/2", 5, Some(2)),
            row(3, "spiffe://t/edge/1", 9, None),
            row(4, "login.mezu.example", 9, Some(2)),
            ended,
        ];
        for row in rows {
            write(&db.primary, async |tx| certificate::insert(tx, &row).await).await.unwrap();
        }
        let held = db.primary.read(async |tx| certificate::held(tx, "").await).await.unwrap();
        let seen: Vec<_> = held.iter().map(|row| (row.fingerprint[0], row.issuer.map(|by| by[0]))).collect();
        let first = async |since: Timestamp| {
            db.primary.read(async |tx| certificate::first_of(tx, &[2; 32], since, "").await).await.unwrap()
        };
        let last = async |issuer: u8| {
            db.primary.read(async |tx| certificate::last_end(tx, &[issuer; 32]).await).await.unwrap()
        };
        assert_eq!(last(1).await, Some(db.now().after(Duration::from_mins(1))));
        assert_eq!((last(2).await, last(9).await), (Some(db.now().after(Duration::from_mins(6))), None));
        let second = db.now().after(Duration::from_secs(5));
        assert_eq!(
            first(db.now()).await.into_iter().collect::<Vec<_>>(),
            [("spiffe://t/edge/2".to_owned(), second)]
        );
        assert!(first(second.after(Duration::from_secs(1))).await.is_empty());
        let behind = "spiffe://t/edge/1";
        let rest = db.primary.read(async |tx| {
            let first = certificate::first_of(tx, &[2; 32], db.now(), "spiffe://t/edge/2").await?;
            Ok::<_, StoreError>((certificate::held(tx, behind).await?, first))
        });
        let (rest, none) = rest.await.unwrap();
        assert_eq!((rest.len(), rest[0].fingerprint[0], none.len()), (1, 2, 0), "behind a name");
        assert_eq!(
            seen,
            [(3, None), (2, Some(2))],
            "neither what was replaced, nor what ended, nor a website's"
        );
    })
    .await;
}

#[tokio::test]
async fn a_site_is_published_with_a_revision_that_grows_and_its_bundle_beside_it() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let doc = db.route("/api/*");
        let p = Partition::Project(a.project);
        let first = write(&db.primary, async |tx| {
            route::insert(tx, a.project, a.environment, &doc).await?;
            let site = site::publish(tx, a.project, a.environment).await?;
            let bundle =
                SignedBundle { environment: a.environment, revision: site.revision, jws: "x.y.z".to_owned() };
            site::publish_bundle(tx, a.project, &bundle).await?;
            Ok(site)
        })
        .await
        .unwrap();
        assert_eq!(
            (first.revision, &first.hosts, &first.routes),
            (1, &vec![a.host.clone()], &vec![doc.clone()])
        );
        assert_eq!((first.organization, first.directory), (a.organization, a.directory));
        let found = published(&db.primary, p, &DocumentKey::site(a.environment)).await;
        assert_eq!(found, Some(Document::Site(Box::new(first.clone()))));
        let bundle =
            db.primary.read(async |tx| site::bundle(tx, a.project, a.environment).await).await.unwrap();
        assert_eq!(bundle.unwrap().revision, 1);
        let second = write(&db.primary, async |tx| site::publish(tx, a.project, a.environment).await).await;
        assert_eq!(second.unwrap().revision, 2);
        write(&db.primary, async |tx| {
            mezusphere_store::primary::environment::delete(tx, a.project, a.environment).await
        })
        .await
        .unwrap();
        for key in [DocumentKey::site(a.environment), DocumentKey::bundle(a.environment)] {
            assert_eq!(published(&db.primary, p, &key).await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_over_is_pruned_and_leaves_the_feed() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let (ann, bob) = (db.user(&a, "ann@example.org").await, db.user(&a, "bob@example.org").await);
        let (sign, _) = db.sign_in(&a, ann).await;
        let (old, _) = db.session(&a, ann, sign).await;
        let (ended, _) = db.sign_in(&a, bob).await;
        db.session(&a, bob, ended).await;
        write(&db.primary, async |tx| sign_in::end(tx, a.directory, ended).await).await.unwrap();
        let (account, key) = db.key(&a, "ci").await;
        write(&db.primary, async |tx| api_key::revoke(tx, a.project, key.id).await).await.unwrap();
        let p = Partition::Project(a.project);
        let prune_all = async || {
            let mut removed = 0;
            loop {
                match db.primary.write(async |tx| prune::prune(tx).await).await.unwrap() {
                    0 => return removed,
                    some => removed += some,
                }
            }
        };
        assert_eq!(prune_all().await, 0, "nothing is over yet");
        db.hand.advance(Duration::from_hours(8));
        let (young, _) = db.session(&a, ann, sign).await;
        assert_eq!(prune_all().await, 3, "two sessions and a revocation");
        assert_eq!(published(&db.primary, p, &DocumentKey::revocation(ended)).await, None);
        assert_eq!(published(&db.primary, p, &DocumentKey::session(&old.token_hash)).await, None);
        assert!(published(&db.primary, p, &DocumentKey::session(&young.token_hash)).await.is_some());
        assert!(published(&db.primary, p, &DocumentKey::principal(Subject::User(ann))).await.is_some());
        assert_eq!(published(&db.primary, p, &DocumentKey::principal(Subject::User(bob))).await, None);
        db.hand.advance(Duration::from_hours(31 * 24));
        assert_eq!(prune_all().await, 4, "a session, two sign-ins, a key");
        db.primary
            .read(async |tx| {
                assert_eq!(session::find(tx, &young.token_hash).await?, None);
                assert_eq!(api_key::list(tx, a.project, account).await?, []);
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    })
    .await;
}
