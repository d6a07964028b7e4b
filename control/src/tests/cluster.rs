//! Two control nodes on one database: what they share, what each does once for both, what each notices of the other.

use mezusphere_model::document::NodeAddress;
use mezusphere_model::id::EdgeId;
use mezusphere_pki::{Role, SpiffeName};

use super::edges::{about, clustered, edge};
use super::feed::published;
use super::*;

/// How long a node may take to notice what another did.
const NOTICED: Duration = Duration::from_secs(10);

/// The configuration of the second control node.
fn second() -> ControlConfig {
    let mut config = clustered();
    config.node.id = ControlId::from_bits(2);
    config.node.address = Some(NodeAddress { host: "control-2.example".to_owned(), port: 8444 });
    config.edge = None;
    config
}

/// A second control node on the world's database.
pub(super) async fn join(world: &World, config: ControlConfig) -> Control {
    let seal = sealer(7);
    Control::open(config, world.primary.clone(), seal, world.hand.clock(), world.entropy.clone())
        .await
        .unwrap()
}

/// Waits until it holds.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let held = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(NOTICED, held).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn two_control_nodes_share_the_installation_and_keep_their_own_names() {
    let world = World::with(clustered()).await;
    let other = join(&world, second()).await;
    let (a, b) = (&world.control.shared, &other.shared);
    assert_eq!(a.signer.load().fingerprint, b.signer.load().fingerprint);
    assert_eq!(world.control.roots_pem(), other.roots_pem());
    let role = |control: &Control| control.node_identity().get().name().role;
    assert_eq!(role(&world.control), Role::Control(ControlId::from_bits(1)));
    assert_eq!(role(&other), Role::Control(ControlId::from_bits(2)));
    let listed = world.get("/controls").await.ok();
    let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|node| node["name"].clone()).collect();
    assert_eq!(names, ["control-1", "control-1-2"], "the second was given the name of the first");
    assert_eq!(listed["items"][0]["answering"], true);
    assert_eq!(listed["items"][1]["answering"], false);
    assert_eq!(listed["items"][1]["address"], "control-2.example:8444");
    // Edges learn where both are.
    let documents = world.documents(Partition::Platform).await;
    let controls = documents.into_iter().find_map(|document| match document {
        Document::Platform(doc) => Some(doc.controls),
        _ => None,
    });
    let hosts: Vec<_> = controls.unwrap().into_iter().map(|at| at.host).collect();
    assert_eq!(hosts, ["control-1.example", "control-2.example"]);
}

#[tokio::test]
async fn a_control_node_that_is_gone_is_not_offered_and_gives_its_name_up() {
    let world = World::with(clustered()).await;
    drop(join(&world, second()).await);
    let hosts = async || {
        let documents = world.documents(Partition::Platform).await;
        let doc = documents.into_iter().find_map(|document| match document {
            Document::Platform(doc) => Some(doc),
            _ => None,
        });
        doc.unwrap().controls.len()
    };
    assert_eq!(hosts().await, 2);
    world.advance(11 * 60);
    world.control.shared.beat().await.unwrap();
    assert_eq!(hosts().await, 1);
    let mut third = second();
    third.node.id = ControlId::from_bits(3);
    third.node.name = "control-1-2".to_owned();
    let _third = join(&world, third).await;
    let listed = world.get("/controls").await.ok();
    let named = |id: u128| {
        let id = json!(ControlId::from_bits(id));
        let items = listed["items"].as_array().unwrap();
        items.iter().find(|node| node["id"] == id).unwrap()["name"].clone()
    };
    assert_eq!(named(3), "control-1-2");
    assert_eq!(named(2), json!(ControlId::from_bits(2)));
    world.advance(8 * 24 * 3600);
    world.control.shared.beat().await.unwrap();
    world.control.shared.prune().await.unwrap();
    assert_eq!(world.get("/controls").await.ok()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_signs_bundles_is_renewed_once_and_both_sign_with_it() {
    let ttl = Duration::from_mins(1);
    let world = World::with(ControlConfig { leaf_ttl: ttl.into(), ..clustered() }).await;
    let other = join(&world, ControlConfig { leaf_ttl: ttl.into(), ..second() }).await;
    let project = world.project("shop").await;
    let (a, b) = (&world.control.shared, &other.shared);
    let before = a.signer.load().fingerprint.clone();
    world.advance(40);
    assert!(a.renew_signer().await.unwrap());
    assert!(!b.renew_signer().await.unwrap(), "the other one holds the lease");
    let after = a.signer.load().fingerprint.clone();
    assert_ne!(before, after);
    assert_eq!(b.signer.load().fingerprint, before, "it has not looked yet");
    // The other node signs a change with the new one, although nobody has told it.
    let made = json!({ "path": "/*", "auth": "public" });
    let path = "/projects/shop/environments/production/routes";
    send(other.local_admin(), request(Method::POST, path, Some(made))).await.ok();
    assert_eq!(b.signer.load().fingerprint, after);
    published(&world, project).await;
    // Once the lease is over, the other one is free to renew; what was renewed meanwhile it takes over instead.
    world.advance(31);
    assert!(!b.signer.load().fingerprint.is_empty());
    assert!(b.renew_signer().await.unwrap());
    assert!(!a.renew_signer().await.unwrap());
}

#[tokio::test]
async fn bundles_are_brought_into_line_by_one_node_at_a_time() {
    let world = World::with(clustered()).await;
    let other = join(&world, second()).await;
    let (a, b) = (&world.control.shared, &other.shared);
    world.project("shop").await;
    let id = edge(&world, "eu-1").await;
    world.control.link(id).about(about("moved.example")).await.unwrap();
    let held =
        world.primary.write(async |tx| b.take_lease(tx, crate::lease::Job::Bundles).await).await.unwrap();
    let done = a.reconcile().await.unwrap();
    assert_eq!((done.bundles, done.elsewhere), (0, true));
    // The holder slept past its lease: the next one does everything, and the sleeper notices and writes nothing.
    world.advance(31);
    let done = a.reconcile().await.unwrap();
    assert_eq!((done.bundles, done.elsewhere), (1, false));
    let held = held.unwrap();
    let kept = world.primary.write(async |tx| b.keep_lease(tx, &held).await).await.unwrap();
    assert!(!kept, "its token is an older one");
    assert_eq!(b.reconcile().await.unwrap().bundles, 0, "there is nothing left to do");
}

#[tokio::test]
async fn r20_an_edge_evicted_on_one_control_node_is_refused_by_all() {
    let world = World::with(clustered()).await;
    let other = join(&world, second()).await;
    let id = edge(&world, "eu-1").await;
    let name = SpiffeName::new(other.node_trust().get().domain().clone(), Role::Edge(id));
    let jobs = other.start_jobs();
    let trust = other.node_trust();
    assert!(!trust.get().denies(&name));
    let asked = tokio::time::Instant::now();
    world.delete("/edges/eu-1").await.ok();
    until("the other node refuses it", async || trust.get().denies(&name)).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    jobs.stop().await;
}

#[tokio::test]
async fn bundles_follow_an_eviction_by_themselves() {
    let world = World::with(clustered()).await;
    let project = world.project("shop").await;
    edge(&world, "eu-1").await;
    let jobs = world.control.start_jobs();
    assert_eq!(published(&world, project).await.1.edges.len(), 2);
    world.delete("/edges/eu-1").await.ok();
    until("the edge leaves the bundle", async || published(&world, project).await.1.edges.len() == 1).await;
    jobs.stop().await;
}

#[tokio::test]
async fn a_control_node_without_an_edge_writes_none_down() {
    let world = World::with(ControlConfig { edge: None, ..clustered() }).await;
    assert_eq!(world.control.edge_id(), None);
    assert_eq!(world.get("/edges").await.ok()["items"], json!([]));
    let project = world.project("shop").await;
    assert_eq!(published(&world, project).await.1.edges, []);
}

#[tokio::test]
async fn an_edge_beside_each_of_two_control_nodes_has_a_name_and_tunnels_of_its_own() {
    let world = World::with(clustered()).await;
    let mut config = second();
    config.edge = clustered().edge;
    let same = Control::open(
        config.clone(),
        world.primary.clone(),
        sealer(7),
        world.hand.clock(),
        world.entropy.clone(),
    );
    assert!(matches!(same.await, Err(OpenError::EdgeTaken(_))), "one edge in two processes");
    let own = EdgeId::random(&world.entropy);
    config.edge.as_mut().unwrap().id = Some(own);
    let other = join(&world, config).await;
    assert_eq!(other.edge_id(), Some(own));
    let edges = world.get("/edges").await.ok();
    let mut names: Vec<_> =
        edges["items"].as_array().unwrap().iter().map(|edge| edge["name"].to_string()).collect();
    names.sort();
    assert_eq!(names, ["\"edge-1\"", "\"edge-1-2\""]);
}

#[tokio::test]
async fn a_sign_out_at_one_control_node_is_known_to_the_other() {
    let world = World::with(clustered()).await;
    let other = join(&world, second()).await;
    let client = session::client(&world, "shop").await;
    let redeemed = session::session(&world, &client).await;
    let token = mezusphere_model::token::Token::parse(&redeemed.token).unwrap();
    let edge = other.link(world.control.edge_id().unwrap());
    let found = edge.find_session(token.clone()).await.unwrap().expect("whichever node is asked");
    assert_eq!(found, redeemed.found);
    world.link().sign_out(token.clone()).await.unwrap();
    assert_eq!(edge.find_session(token).await.unwrap(), None);
}

#[tokio::test]
async fn keys_that_one_node_changed_are_used_by_the_other() {
    use mezusphere_model::token::CookieKey;
    use mezusphere_store::primary::secret::{self, SecretState};
    let world = World::with(clustered()).await;
    let other = join(&world, second()).await;
    let key = CookieKey::random(&world.entropy);
    let text = serde_json::to_vec(&key).unwrap();
    let name = crate::installation::secret_name::COOKIE;
    world.primary.write(async |tx| secret::add(tx, name, SecretState::Current, &text).await).await.unwrap();
    assert!(other.shared.refresh_keys().await.unwrap());
    assert!(!other.shared.refresh_keys().await.unwrap(), "nothing new any more");
    let cookies = other.shared.keys().cookies.clone();
    assert_eq!(
        (cookies.len(), cookies.first()),
        (2, Some(&key)),
        "the newest signs, the old one still verifies"
    );
}

#[tokio::test]
async fn control_and_the_edge_beside_it_may_be_given_one_name() {
    let mut config = clustered();
    config.node.name = "host-1".to_owned();
    config.edge.as_mut().unwrap().name = "host-1".to_owned();
    let world = World::with(config).await;
    assert_eq!(world.get("/edges").await.ok()["items"][0]["name"], "host-1");
    assert_eq!(world.get("/controls").await.ok()["items"][0]["name"], "host-1-control");
}
