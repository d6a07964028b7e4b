//! Edges that are processes of their own: invited, let in once, kept, and shut out.

use std::net::SocketAddr;

use mezusphere_edge_link::join::{JoinRefused, JoinReply, JoinRequest};
use mezusphere_model::bundle::Bundle;
use mezusphere_model::document::NodeAddress;
use mezusphere_model::id::{EdgeId, JoinId};
use mezusphere_model::join_token::JoinToken;
use mezusphere_model::link::{AboutEdge, LinkError};
use mezusphere_model::token::Token;
use mezusphere_pki::trust::root_fingerprint;
use mezusphere_pki::{ExpectedRole, NodeIdentity, NodeKey, Role, Trust, verify_peer};

use super::feed::published;
use super::*;

const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9)), 4433);

/// An installation with a node port.
pub(super) fn clustered() -> ControlConfig {
    let mut config = ControlConfig { node_port_open: true, ..development() };
    config.node.address = Some(NodeAddress { host: "control-1.example".to_owned(), port: 8444 });
    config
}

pub(super) fn about(host: &str) -> AboutEdge {
    AboutEdge {
        version: "0.1.0".to_owned(),
        region: String::new(),
        host: host.to_owned(),
        port: 443,
        draining: false,
    }
}

pub(super) async fn invite(world: &World, name: &str) -> JoinToken {
    let made = world.post("/edge-invitations", json!({ "name": name, "region": "Frankfurt" })).await.ok();
    made["token"].as_str().unwrap().parse().unwrap()
}

fn request(world: &World, token: &JoinToken, node: &NodeKey) -> JoinRequest {
    JoinRequest {
        id: token.id,
        secret: token.secret.clone(),
        csr_der: node.csr_der().unwrap(),
        about: about("eu-1.example"),
        edge_time: world.hand.clock().now(),
    }
}

async fn join(world: &World, token: &JoinToken) -> Result<JoinReply, JoinRefused> {
    let node = NodeKey::generate().unwrap();
    world.control.join(request(world, token, &node), FROM).await
}

/// An edge that joined and said where it is.
pub(super) async fn edge(world: &World, name: &str) -> EdgeId {
    let reply = join(world, &invite(world, name).await).await.unwrap();
    world.control.link(reply.edge).about(about(&format!("{name}.example"))).await.unwrap();
    world.control.shared.reconcile().await.unwrap();
    reply.edge
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, JoinRefused>, code: &str) {
    let why = answer.unwrap_err();
    assert_eq!(why.code, code, "{}", why.message);
    assert!(!why.message.is_empty() && !why.next.is_empty(), "{why:?}");
}

#[tokio::test]
async fn an_invited_edge_gets_its_certificate_and_whom_to_trust() {
    let world = World::with(clustered()).await;
    let token = invite(&world, "eu-1").await;
    assert_eq!(token.controls, [NodeAddress { host: "control-1.example".to_owned(), port: 8444 }]);
    let node = NodeKey::generate().unwrap();
    let reply = world.control.join(request(&world, &token, &node), FROM).await.unwrap();
    assert_eq!((reply.name.as_str(), reply.control_time), ("eu-1", BEGIN));
    assert_eq!(reply.controls, token.controls);
    let roots = reply.trust.roots_pem.iter().map(String::as_str);
    let trust = Trust::from_pem(&reply.trust.trust_domain, roots, []).unwrap();
    assert_eq!(root_fingerprint(&trust.roots()[0]), token.root, "the token's pin is the root's");
    let chain = reply.chain_der.into_iter().map(Into::into).collect();
    let identity = NodeIdentity::new(chain, node).expect("the certificate is for our key");
    verify_peer(identity.chain(), &trust, BEGIN, ExpectedRole::Edge(reply.edge)).unwrap();

    let shown = world.get("/edges/eu-1").await.ok();
    assert_eq!(shown["id"], json!(reply.edge));
    assert_eq!((&shown["region"], &shown["state"]), (&json!("Frankfurt"), &json!("ready")));
    assert_eq!(shown["address"], "", "it has not said yet that it listens");
    let audit = world.get("/audit?limit=1").await.ok();
    assert_eq!(audit["items"][0]["action"], "edge.join");
    assert_eq!(audit["items"][0]["address"], "203.0.113.9");
    let invitations = world.get("/edge-invitations").await.ok();
    assert_eq!(invitations["items"][0]["state"], "used");
    assert_eq!(invitations["items"][0]["edge"], json!(reply.edge));
}

#[tokio::test]
async fn r20_a_join_token_lets_exactly_one_edge_in() {
    let world = World::with(clustered()).await;
    let token = invite(&world, "eu-1").await;
    join(&world, &token).await.unwrap();
    refused(join(&world, &token).await, "join.used");
    let again = World::restart(world, clustered()).await;
    refused(join(&again, &token).await, "join.used");
    let edges = again.get("/edges").await.ok();
    assert_eq!(
        edges["items"].as_array().unwrap().len(),
        2,
        "the one beside control, and the one that joined"
    );
}

#[tokio::test]
async fn r20_a_token_that_is_not_good_is_refused_with_its_own_reason() {
    let world = World::with(clustered()).await;
    let other = World::with(clustered()).await;
    let good = invite(&world, "eu-1").await;
    let foreign = invite(&other, "eu-1").await;
    let revoked = invite(&world, "eu-2").await;
    world.delete(&format!("/edge-invitations/{}", revoked.id)).await.ok();
    let guessed = JoinToken { secret: Token::random(&world.entropy), ..good.clone() };
    let node = NodeKey::generate().unwrap();
    refused(join(&world, &foreign).await, "join.unknown");
    refused(join(&world, &revoked).await, "join.used");
    refused(join(&world, &guessed).await, "join.unknown");
    let base = request(&world, &good, &node);
    let late = BEGIN.before(Duration::from_secs(301));
    let ahead = BEGIN.after(Duration::from_secs(301));
    let mut old = base.clone();
    old.about.version = "0.0.9".to_owned();
    let rows = [
        (JoinRequest { edge_time: late, ..base.clone() }, "join.clock"),
        (JoinRequest { edge_time: ahead, ..base.clone() }, "join.clock"),
        (JoinRequest { csr_der: b"no request".to_vec(), ..base.clone() }, "join.malformed"),
        (old, "join.too_old"),
    ];
    for (request, code) in rows {
        refused(world.control.join(request, FROM).await, code);
    }
    world.advance(15 * 60);
    refused(join(&world, &good).await, "join.expired");
    let edges = world.get("/edges").await.ok();
    assert_eq!(edges["items"].as_array().unwrap().len(), 1, "none of the refused left a trace");
}

#[tokio::test]
async fn a_join_that_failed_leaves_the_invitation_good() {
    let world = World::with(clustered()).await;
    let token = invite(&world, "eu-1").await;
    let node = NodeKey::generate().unwrap();
    let bad = JoinRequest { csr_der: vec![0; 64], ..request(&world, &token, &node) };
    refused(world.control.join(bad, FROM).await, "join.malformed");
    join(&world, &token).await.unwrap();
}

#[tokio::test]
async fn an_invitation_is_refused_where_it_cannot_work() {
    let alone = World::new().await;
    alone.post("/edge-invitations", json!({ "name": "eu-1" })).await.refused(409, "edge.no_control");
    let world = World::with(clustered()).await;
    let rows = [
        (json!({ "name": "EU 1" }), 422, "name.invalid"),
        (json!({ "name": "eu-1", "region": "x".repeat(65) }), 422, "name.invalid"),
        (json!({ "name": "eu-1", "expires_in_s": 0 }), 400, "request.invalid"),
        (json!({ "name": "eu-1", "expires_in_s": 86_401 }), 400, "request.invalid"),
        (json!({ "name": "edge-1" }), 409, "object.exists"),
    ];
    for (body, status, code) in rows {
        world.post("/edge-invitations", body).await.refused(status, code);
    }
    let token = invite(&world, "eu-1").await;
    world.post("/edge-invitations", json!({ "name": "eu-1" })).await.refused(409, "object.exists");
    world.delete(&format!("/edge-invitations/{}", token.id)).await.ok();
    let token = invite(&world, "eu-1").await;
    join(&world, &token).await.unwrap();
    let used = format!("/edge-invitations/{}", token.id);
    assert!(world.delete(&used).await.refused(409, "object.in_use").text("/next").contains("evict"));
    let ghost = JoinId::random(&world.entropy);
    world.delete(&format!("/edge-invitations/{ghost}")).await.refused(404, "object.not_found");
}

#[tokio::test]
async fn r25_a_join_token_is_shown_once_and_kept_as_a_hash() {
    let world = World::with(clustered()).await;
    let made = world.post("/edge-invitations", json!({ "name": "eu-1" })).await.ok();
    let token: JoinToken = made["token"].as_str().unwrap().parse().unwrap();
    let secret = token.secret.reveal();
    for path in ["/edge-invitations", "/audit", "/edges"] {
        let shown = world.get(path).await.ok().to_string();
        assert!(!shown.contains(&secret) && !shown.contains("mzj_"), "{path}");
    }
    world.primary.close().await;
    let database = std::fs::read_dir(world.dir.path()).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        path.is_file().then(|| std::fs::read(path).unwrap())
    });
    for bytes in database {
        assert!(!bytes.windows(32).any(|window| window == token.secret.as_bytes()));
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

fn names(bundle: &Bundle) -> Vec<String> {
    bundle.edges.iter().map(|edge| format!("{} {}:{}", edge.name, edge.host, edge.port)).collect()
}

#[tokio::test]
async fn bundles_carry_exactly_the_edges_that_are_in() {
    let world = World::with(clustered()).await;
    let project = world.project("shop").await;
    let own = "edge-1 connect.mezu.localhost:8443".to_owned();
    let carried = async || {
        let (_, bundle) = published(&world, project).await;
        let mut names = names(&bundle);
        names.sort();
        (names, bundle.denied)
    };
    assert_eq!(carried().await, (vec![own.clone()], vec![]));
    let first = edge(&world, "eu-1").await;
    edge(&world, "eu-2").await;
    let [eu_1, eu_2] = ["eu-1", "eu-2"].map(|name| format!("{name} {name}.example:443"));
    assert_eq!(carried().await.0, [own.clone(), eu_1, eu_2.clone()]);

    let (site, _) = published(&world, project).await;
    world.control.link(first).about(about("eu-1.example")).await.unwrap();
    world.control.shared.reconcile().await.unwrap();
    assert_eq!(published(&world, project).await.0.revision, site.revision, "nothing new, nothing signed");
    world.control.link(first).about(about("moved.example")).await.unwrap();
    world.control.shared.reconcile().await.unwrap();
    assert_eq!(carried().await.0, [own.clone(), "eu-1 moved.example:443".to_owned(), eu_2.clone()]);

    world.delete("/edges/eu-1").await.ok();
    world.control.shared.reconcile().await.unwrap();
    let uri = format!("spiffe://mezu.localhost/edge/{first}");
    assert_eq!(carried().await, (vec![own.clone(), eu_2.clone()], vec![uri]));
    // Its certificates have ended by then, so nobody needs to know of it any more.
    world.advance(24 * 3600);
    world.control.shared.beat().await.unwrap();
    world.control.shared.reconcile().await.unwrap();
    assert_eq!(carried().await, (vec![own, eu_2], vec![]));
    assert_eq!(world.trust().await.denied, [""; 0]);
}

#[tokio::test]
async fn r20_an_evicted_edge_gets_no_certificate_and_no_answer() {
    let world = World::with(clustered()).await;
    let evicted = edge(&world, "eu-1").await;
    let link = world.control.link(evicted);
    let csr = || NodeKey::generate().unwrap().csr_der().unwrap();
    let chain = link.certify(csr()).await.unwrap();
    let chain: Vec<_> = chain.into_iter().map(Into::into).collect();
    let trust = world.control.node_trust();
    verify_peer(&chain, &trust.get(), BEGIN, ExpectedRole::Edge(evicted)).unwrap();
    assert_eq!(link.find_session(Token::random(&world.entropy)).await, Ok(None));

    world.delete(&format!("/edges/{evicted}")).await.ok();
    let name = mezusphere_pki::SpiffeName::new(trust.get().domain().clone(), Role::Edge(evicted));
    assert!(trust.get().denies(&name), "this node refuses it at once");
    assert_eq!(world.trust().await.denied, [name.to_string()]);
    let refused = |answer: Result<(), LinkError>| match answer {
        Err(LinkError::Refused(why)) => assert!(why.starts_with("edge.evicted"), "{why}"),
        other => panic!("{other:?}"),
    };
    refused(link.certify(csr()).await.map(drop));
    refused(link.about(about("eu-1.example")).await);
    refused(link.find_session(Token::random(&world.entropy)).await.map(drop));
    refused(link.sign_out(Token::random(&world.entropy)).await);
    refused(link.activity(Vec::new()).await);
    refused(link.denials(Vec::new()).await);
    refused(link.connect(b"{}".to_vec(), FROM).await.map(drop));
    // After every deny list has forgotten it, its row still says no.
    world.advance(2 * 24 * 3600);
    world.control.shared.refresh_trust().await.unwrap();
    refused(link.certify(csr()).await.map(drop));
    let shown = world.get(&format!("/edges/{evicted}")).await.ok();
    assert_eq!((&shown["state"], &shown["connected"]), (&json!("evicted"), &json!(false)));
}

#[tokio::test]
async fn an_evicted_edge_comes_back_only_by_a_new_invitation_and_as_another() {
    let world = World::with(clustered()).await;
    let first = edge(&world, "eu-1").await;
    world.delete("/edges/eu-1").await.ok();
    let second = edge(&world, "eu-1").await;
    assert_ne!(first, second);
    assert_eq!(world.get("/edges/eu-1").await.ok()["id"], json!(second), "the name is the new one's");
    let denied = world.trust().await.denied;
    assert_eq!(denied, [format!("spiffe://mezu.localhost/edge/{first}")]);
}

#[tokio::test]
async fn an_unknown_edge_is_not_served() {
    let world = World::with(clustered()).await;
    let ghost = world.control.link(EdgeId::random(&world.entropy));
    let csr = NodeKey::generate().unwrap().csr_der().unwrap();
    assert!(
        matches!(ghost.certify(csr).await, Err(LinkError::Refused(why)) if why.starts_with("edge.unknown"))
    );
    let told = ghost.about(about("ghost.example")).await;
    assert!(matches!(told, Err(LinkError::Refused(why)) if why.starts_with("edge.unknown")));
}

#[tokio::test]
async fn an_edge_that_says_nothing_for_half_a_minute_is_shown_as_away() {
    let world = World::with(clustered()).await;
    let id = edge(&world, "eu-1").await;
    let state = async || world.get("/edges/eu-1").await.ok()["state"].clone();
    assert_eq!(state().await, "ready");
    world.advance(31);
    assert_eq!(state().await, "away");
    world.control.link(id).about(AboutEdge { draining: true, ..about("eu-1.example") }).await.unwrap();
    assert_eq!(state().await, "draining");
    let nonsense = AboutEdge { port: 0, ..about("eu-1.example") };
    assert!(matches!(world.control.link(id).about(nonsense).await, Err(LinkError::Refused(_))));
    let shown = world.get("/edges/eu-1").await.ok();
    assert_eq!(shown["address"], "eu-1.example:443");
    assert_eq!(shown["control"], json!(world.control.control_id()));
}

#[tokio::test]
async fn the_list_tells_how_far_an_edge_is_behind() {
    use mezusphere_store::feed::AppliedReport;
    let world = World::with(clustered()).await;
    let id = edge(&world, "eu-1").await;
    world.project("shop").await;
    let behind = async || world.get("/edges/eu-1").await.ok()["behind"].as_u64().unwrap();
    let heads = world.primary.heads().await.unwrap();
    let open = heads.iter().filter(|head| head.partition != Partition::Control);
    assert_eq!(behind().await, open.clone().map(|head| head.cursor.revision).sum::<u64>());
    let at = world.hand.clock().now();
    let report = |head: &mezusphere_store::feed::Head| AppliedReport {
        follower: id.to_string(),
        partition: head.partition,
        cursor: head.cursor,
        at,
    };
    world.primary.applied(open.map(report).collect()).await.unwrap();
    // Reports are written within a second.
    let caught_up = async {
        while behind().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), caught_up).await.expect("nothing behind");
}
