//! Whatever goes wrong: a working certificate stays, an order is not lost, the authority is not asked more than it bears,
//! and people are told what happened.

use sqlx::{Connection as _, Executor as _};

use super::authority::Mischief;
use super::*;
use crate::acme::job::Worker;
use crate::acme::testing::{FAILURES_MAX, fault_codes};

impl Scene {
    /// Works at the shop's certificate, which fails; says how it stands then.
    pub(super) async fn fails_with(&self, mischief: Mischief, code: &str) -> CertificateRow {
        self.authority.misbehave(mischief);
        self.work(SHOP).await.unwrap();
        assert_eq!(self.code().await, code);
        let row = self.row(SHOP).await;
        assert_eq!(row.state, CertificateState::Failed);
        assert!(row.next_at > self.world.hand.clock().now(), "it is tried again, later");
        let error = row.error.as_ref().unwrap();
        assert!(!error.text.is_empty() && !error.hint.is_empty(), "{error:?}");
        assert_eq!(self.challenges().await, 0, "nothing is left open");
        row
    }

    /// Works until the authority has answered so many requests, as a node would that dies there.
    pub(super) async fn cut_off(&self, name: &str, requests: u32) {
        self.authority.misbehave(Mischief { silent_after: Some(requests), ..Mischief::default() });
        let (lease, engine) = (self.lease().await, self.engine());
        tokio::select! {
            ended = engine.work(&lease, name) => ended.unwrap(),
            () = self.authority.went_silent() => {}
        }
    }
}

#[tokio::test]
async fn three_of_four_nonces_refused_cost_time_and_no_second_order() {
    let scene = Scene::new().await;
    scene.authority.misbehave(Mischief { refuses_nonces: true, ..Mischief::default() });
    scene.work(SHOP).await.unwrap();
    assert_eq!(scene.row(SHOP).await.state, CertificateState::Valid);
    assert_eq!((scene.authority.orders(), scene.authority.accounts()), (1, 1));
}

#[tokio::test]
async fn an_order_goes_on_wherever_a_node_died() {
    let scene = Scene::new().await;
    // Each life of the node gets a few requests further than the one before.
    for requests in (3..40).step_by(2) {
        scene.cut_off(SHOP, requests).await;
        if scene.row(SHOP).await.state == CertificateState::Valid {
            break;
        }
    }
    let row = scene.row(SHOP).await;
    assert_eq!((row.state, row.attempts), (CertificateState::Valid, 0));
    assert!(scene.served().await.is_some());
    assert!(
        scene.authority.orders() <= 2,
        "one may be lost before its URL was known: {}",
        scene.authority.orders()
    );
    assert!(scene.events(SHOP).await.contains(&"resume".to_owned()));
    assert_eq!(scene.challenges().await, 0);
}

#[tokio::test]
async fn an_order_that_the_authority_lost_is_made_anew() {
    let scene = Scene::new().await;
    scene
        .fails_with(Mischief { finds: Some("serverInternal"), ..Mischief::default() }, "acme.unreachable")
        .await;
    assert_eq!(scene.row(SHOP).await.order_url, None, "an order that was given up is not gone on with");
    // One that is kept, and lost over there.
    let quick = Pace { order: Duration::from_millis(200), ..PACE };
    scene.authority.misbehave(Mischief { dawdles: true, ..Mischief::default() });
    let lease = scene.lease().await;
    scene.engine_at(quick).work(&lease, SHOP).await.unwrap();
    assert_eq!(scene.code().await, "acme.unreachable");
    assert!(scene.row(SHOP).await.order_url.is_some(), "it may still come to its end");
    scene.authority.misbehave(Mischief { loses_orders: true, ..Mischief::default() });
    let before = scene.authority.orders();
    scene.work(SHOP).await.unwrap();
    assert_eq!(scene.authority.orders(), before + 1);
    scene.authority.misbehave(Mischief::default());
    scene.work(SHOP).await.unwrap();
    assert_eq!(scene.row(SHOP).await.state, CertificateState::Valid);
    assert!(scene.events(SHOP).await.contains(&"lost".to_owned()));
}

#[tokio::test]
async fn nonsense_slowness_and_refusals_are_told_apart() {
    let scene = Scene::new().await;
    let page = |status| Mischief { page: Some(status), ..Mischief::default() };
    scene.fails_with(page(200), "acme.nonsense").await;
    scene.fails_with(page(503), "acme.unreachable").await;
    scene.fails_with(Mischief { is_away: true, ..Mischief::default() }, "acme.unreachable").await;
    scene.fails_with(Mischief { finds: Some("caa"), ..Mischief::default() }, "acme.refused").await;
    scene.fails_with(Mischief { finds: Some("dns"), ..Mischief::default() }, "acme.dns").await;
    scene.fails_with(Mischief { swaps_keys: true, ..Mischief::default() }, "acme.certificate").await;
    assert_eq!(scene.served().await, None, "nobody serves with another one's certificate");
    let attempts = scene.row(SHOP).await.attempts;
    assert_eq!(attempts, 6);
    // A slow answer.
    scene.authority.misbehave(Mischief { delay: Duration::from_secs(5), ..Mischief::default() });
    let lease = scene.lease().await;
    let hasty = Pace { answer: Duration::from_millis(50), ..PACE };
    scene.engine_at(hasty).work(&lease, SHOP).await.unwrap();
    assert_eq!(scene.code().await, "acme.unreachable");
    scene.authority.misbehave(Mischief::default());
    scene.work(SHOP).await.unwrap();
    let row = scene.row(SHOP).await;
    assert_eq!((row.state, row.attempts, row.error), (CertificateState::Valid, 0, None));
}

#[tokio::test]
async fn an_authority_that_wants_fewer_requests_is_left_alone_as_long_as_it_says() {
    let scene = Scene::new().await;
    let row =
        scene.fails_with(Mischief { limits: Some(7200), ..Mischief::default() }, "acme.rate_limited").await;
    assert!(row.next_at >= BEGIN.after(Duration::from_hours(2)), "{}", row.next_at);
}

#[tokio::test]
async fn a_name_that_is_not_found_ours_is_asked_about_five_times_an_hour() {
    let scene = Scene::new().await;
    let broken = Mischief { finds: Some("connection"), ..Mischief::default() };
    for _ in 0..FAILURES_MAX {
        scene.fails_with(broken.clone(), "acme.connection").await;
    }
    let asked = scene.authority.asked("directory");
    let row = scene.fails_with(broken, "acme.budget").await;
    assert_eq!(scene.authority.asked("directory"), asked, "nobody was asked");
    assert_eq!(row.next_at, BEGIN.after(Duration::from_hours(1)));
    assert_eq!(usize::try_from(row.attempts).unwrap(), FAILURES_MAX, "and nothing was tried");
}

#[tokio::test]
async fn an_authority_that_is_away_for_days_takes_no_working_certificate_away() {
    let scene = Scene::new().await;
    scene.work(SHOP).await.unwrap();
    scene.work_when_due(SHOP).await;
    let first = scene.served().await.unwrap();
    let renewal = scene.row(SHOP).await.next_at;
    scene.authority.misbehave(Mischief { is_away: true, ..Mischief::default() });
    let mut tries = 0;
    let clock = scene.world.hand.clock();
    while clock.now().since(renewal) < Duration::from_hours(20 * 24) {
        let row = scene.work_when_due(SHOP).await;
        tries += 1;
        assert_eq!(row.attempts, tries);
        assert_eq!(scene.served().await.as_ref(), Some(&first), "{}", clock.now());
    }
    assert!((70..110).contains(&tries), "four a day, and a few more at first: {tries}");
    scene.authority.misbehave(Mischief::default());
    scene.work_when_due(SHOP).await;
    let second = scene.served().await.unwrap();
    assert!(clock.now() < first.not_after && second.not_after > first.not_after);
    assert_eq!(scene.row(SHOP).await.attempts, 0);
}

#[tokio::test]
async fn an_authority_that_is_away_until_a_certificate_ends_is_asked_again_until_it_is_back() {
    let scene = Scene::new().await;
    scene.work(SHOP).await.unwrap();
    scene.work_when_due(SHOP).await;
    let end = scene.served().await.unwrap().not_after;
    scene.authority.misbehave(Mischief { is_away: true, ..Mischief::default() });
    scene.work_when_due(SHOP).await;
    let clock = scene.world.hand.clock();
    scene.world.hand.advance(end.before(Duration::from_hours(48)).since(clock.now()));
    while clock.now() < end.after(Duration::from_hours(24)) {
        let row = scene.work_when_due(SHOP).await;
        assert!(row.next_at.since(clock.now()) < Duration::from_hours(7), "{}", row.next_at);
    }
    scene.authority.misbehave(Mischief::default());
    let row = scene.work_when_due(SHOP).await;
    assert_eq!((row.state, row.attempts), (CertificateState::Valid, 0));
    assert!(scene.served().await.unwrap().not_after > clock.now());
}

#[tokio::test]
async fn what_is_worse_than_the_certificate_in_use_does_not_take_its_place() {
    let scene = Scene::new().await;
    scene.work(SHOP).await.unwrap();
    let first = scene.served().await.unwrap();
    scene.world.hand.advance(Duration::from_hours(61 * 24));
    let stale = Mischief { stale: Duration::from_hours(85 * 24), ..Mischief::default() };
    scene.fails_with(stale, "acme.certificate").await;
    let surplus = Mischief { adds: Some("login.mezu.example"), ..Mischief::default() };
    scene.fails_with(surplus, "acme.certificate").await;
    assert_eq!(scene.served().await.as_ref(), Some(&first), "what works stays");
    scene.authority.misbehave(Mischief::default());
    scene.work_when_due(SHOP).await;
    assert!(scene.served().await.unwrap().not_after > first.not_after);
}

/// Lets no statement write this column of certificates, as a full disk would: it fails, and its transaction with it.
async fn fill_the_disk(scene: &Scene, column: &str) -> sqlx::SqliteConnection {
    let file = scene.world.dir.path().join("primary.db");
    let mut beside = sqlx::SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    let trigger = format!(
        "CREATE TRIGGER full BEFORE UPDATE OF {column} ON acme_certificates
         BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    );
    beside.execute(sqlx::AssertSqlSafe(trigger)).await.unwrap();
    beside
}

#[tokio::test]
async fn a_certificate_that_cannot_be_stored_costs_neither_the_old_one_nor_the_order() {
    let scene = Scene::new().await;
    scene.work(SHOP).await.unwrap();
    scene.work_when_due(SHOP).await;
    let first = scene.served().await.unwrap();
    scene.world.hand.advance(Duration::from_hours(61 * 24));
    let mut beside = fill_the_disk(&scene, "sealed_certificate").await;
    let why = scene.work(SHOP).await.unwrap_err();
    assert!(matches!(why, Stopped::Store(_)), "{why}");
    assert_eq!(scene.served().await.as_ref(), Some(&first), "what works stays");
    let row = scene.row(SHOP).await;
    assert!(row.order_url.is_some() && row.certificate.is_some(), "{row:?}");
    beside.execute("DROP TRIGGER full").await.unwrap();
    scene.work(SHOP).await.unwrap();
    assert_eq!(scene.authority.orders(), 2, "the same order came to its end");
    assert!(scene.served().await.unwrap().not_after > first.not_after);
}

#[tokio::test]
async fn a_disk_that_is_full_when_an_order_or_its_failure_is_noted_changes_nothing() {
    let scene = Scene::new().await;
    scene.work(SHOP).await.unwrap();
    let first = scene.served().await.unwrap();
    scene.world.hand.advance(Duration::from_hours(61 * 24));
    let before = scene.row(SHOP).await;
    // The order's key cannot be kept; then not even that the authority was away.
    for (column, is_away) in [("sealed_order_key", false), ("next_at", true)] {
        scene.authority.misbehave(Mischief { is_away, ..Mischief::default() });
        let mut beside = fill_the_disk(&scene, column).await;
        let why = scene.work(SHOP).await.unwrap_err();
        assert!(matches!(why, Stopped::Store(_)), "{why}");
        assert_eq!(scene.row(SHOP).await, before, "it is still due");
        assert_eq!(scene.served().await.as_ref(), Some(&first), "what works stays");
        beside.execute("DROP TRIGGER full").await.unwrap();
    }
    scene.authority.misbehave(Mischief::default());
    scene.work(SHOP).await.unwrap();
    assert!(scene.served().await.unwrap().not_after > first.not_after);
}

#[tokio::test]
async fn an_account_that_the_authority_forgot_is_made_anew() {
    let scene = Scene::new().await;
    scene.work(SHOP).await.unwrap();
    assert_eq!(scene.authority.accounts(), 1);
    // It was away before, as when it is set up anew.
    scene.authority.misbehave(Mischief { is_away: true, ..Mischief::default() });
    scene.work(CONSOLE).await.unwrap();
    scene.authority.misbehave(Mischief { loses_accounts: true, ..Mischief::default() });
    scene.work(CONSOLE).await.unwrap();
    let failed = scene.row(CONSOLE).await;
    assert_eq!(failed.error.unwrap().code, "acme.account");
    let now = scene.world.hand.clock().now();
    assert!(failed.next_at <= now, "another account is all it takes");
    scene.work(CONSOLE).await.unwrap();
    assert!(
        scene.row(CONSOLE).await.next_at > now,
        "an authority that forgets the next one too is left alone"
    );
    scene.authority.misbehave(Mischief::default());
    scene.work(CONSOLE).await.unwrap();
    assert!(scene.authority.accounts() > 1);
    assert_eq!(scene.row(CONSOLE).await.state, CertificateState::Valid);
}

#[tokio::test]
async fn without_an_edge_that_answers_nobody_is_told_to_look() {
    let scene = Scene::new().await;
    let Scene { world, authority, project, edge } = scene;
    edge.stop().await;
    let idle = Edge(tokio::spawn(std::future::pending()));
    let scene = Scene { world, authority, project, edge: idle };
    let lease = scene.lease().await;
    let hasty = Pace { edges: Duration::from_millis(50), ..PACE };
    scene.engine_at(hasty).work(&lease, SHOP).await.unwrap();
    assert_eq!(scene.code().await, "acme.edges");
    assert_eq!(scene.authority.asked("challenge"), 0);
    assert!(scene.row(SHOP).await.order_url.is_some(), "the order can go on once an edge is back");
}

#[tokio::test]
async fn a_host_that_goes_in_the_middle_of_its_order_leaves_nothing_open() {
    let scene = Scene::new().await;
    let hosts = "/projects/shop/environments/production/hosts";
    scene.world.post(hosts, json!({ "host": "www.shop.example" })).await.ok();
    // Directory, nonce, account, nonce, order, authorization, and the challenge that was published before.
    scene.cut_off("www.shop.example", 7).await;
    assert_eq!(scene.challenges().await, 1);
    scene.world.delete(&format!("{hosts}/www.shop.example")).await.ok();
    scene.authority.misbehave(Mischief { is_away: true, ..Mischief::default() });
    let mut worker = Worker::new(Arc::new(scene.engine()));
    until("nothing is open", async || {
        worker.look().await.unwrap();
        scene.challenges().await == 0
    })
    .await;
}

#[tokio::test]
async fn r25_no_key_of_an_order_an_account_or_a_certificate_is_on_the_disk_in_the_clear() {
    let scene = Scene::new().await;
    scene.cut_off(SHOP, 8).await;
    let key = scene.world.primary.read(async |tx| acme::order_key(tx, SHOP).await).await.unwrap();
    let key = key.expect("the key of an order under way");
    scene.authority.misbehave(Mischief::default());
    scene.work(SHOP).await.unwrap();
    let served = scene.served().await.unwrap();
    let body: String = served.key_pem.lines().nth(1).unwrap().to_owned();
    for entry in std::fs::read_dir(scene.world.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let content = std::fs::read(&path).unwrap();
        let holds = |needle: &[u8]| content.windows(needle.len()).any(|window| window == needle);
        assert!(!holds(&key) && !holds(body.as_bytes()) && !holds(b"key_pkcs8"), "{}", path.display());
    }
    let row = scene.row(SHOP).await;
    assert!(!format!("{row:?}").contains(&body));
}

#[test]
fn every_code_of_a_failed_try_is_documented() {
    let documented =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md")).unwrap();
    for code in fault_codes() {
        assert!(documented.contains(&format!("`{code}`")), "{code} is missing in docs/errors.md");
    }
}
