//! The connect service: who gets a certificate and a bundle, and what everybody else is told.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_model::id::{EnvironmentId, WarpgateId};
use mezusphere_model::token::{ApiKeyToken, Token};
use mezusphere_pki::{ExpectedRole, NodeIdentity, NodeKey, Role, Trust, verify_peer};
use tunnel_proto::connect::{BundleQuery, Check, Enroll, Enrolled, Refusal, Reply, Request};

use super::*;

const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9)), 4433);

pub(super) async fn ask(world: &World, request: &Request) -> Reply {
    let reply = world.link().connect(request.to_json().unwrap(), FROM).await.unwrap();
    Reply::from_json(&reply).unwrap()
}

pub(super) async fn connection_key(world: &World, body: Value) -> (ConnectionKey, String) {
    key_of(world, "shop", body).await
}

async fn key_of(world: &World, project: &str, body: Value) -> (ConnectionKey, String) {
    let made = world.post(&format!("/projects/{project}/api-keys"), body).await.ok();
    (made["secret"].as_str().unwrap().parse().unwrap(), made["key"]["id"].as_str().unwrap().to_owned())
}

/// A warpgate of the project's production environment, with a key of its own.
pub(super) async fn warpgate(world: &World, project: &str) -> Enrolled {
    let (key, _) = key_of(world, project, json!({ "scopes": ["connect"] })).await;
    enrolled(ask(world, &Request::Enroll(enroll(&key, &NodeKey::generate().unwrap()))).await)
}

pub(super) fn enroll(key: &ConnectionKey, node: &NodeKey) -> Enroll {
    Enroll {
        key: key.key.clone(),
        environment: key.environment,
        csr_der: BASE64.encode(node.csr_der().unwrap()),
        instance: None,
        agent: "warpgate/0.1.0".to_owned(),
        hostname: "shed".to_owned(),
    }
}

#[track_caller]
pub(super) fn enrolled(reply: Reply) -> Enrolled {
    match reply {
        Reply::Enrolled(done) => *done,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(super) fn refused(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => {
            assert!(!refusal.message.is_empty() && !refusal.next.is_empty(), "{refusal:?}");
            refusal
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_warpgate_with_a_connection_key_gets_its_certificate_and_bundle() {
    let world = World::new().await;
    let project = world.project("shop").await;
    let (key, id) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    let node = NodeKey::generate().unwrap();
    let done = enrolled(ask(&world, &Request::Enroll(enroll(&key, &node))).await);
    assert_eq!(done.bundle.environment, key.environment);
    assert_eq!((done.account.as_str(), done.project.as_str()), ("connect-production", "shop"));
    assert_eq!(done.control_time, BEGIN);
    let identity = NodeIdentity::from_pem(&done.chain_pem, node).expect("the certificate is for our key");
    assert_eq!(identity.name().to_string(), done.spiffe);
    let expected = Role::Warpgate { project, environment: key.environment, id: done.warpgate };
    assert_eq!(identity.name().role, expected);
    let trust = Trust::from_pem("mezu.localhost", done.roots_pem.iter().map(String::as_str), []).unwrap();
    verify_peer(identity.chain(), &trust, BEGIN, ExpectedRole::AnyWarpgate).unwrap();

    let listed = world.get("/projects/shop/warpgates").await.ok();
    assert_eq!(listed["items"][0]["id"], json!(done.warpgate));
    assert_eq!(listed["items"][0]["hostname"], "shed");
    assert_eq!(listed["items"][0]["connected"], false);
    let audit = world.get("/projects/shop/audit?limit=1").await.ok();
    assert_eq!(audit["items"][0]["action"], "warpgate.enroll");
    assert_eq!(audit["items"][0]["actor"], json!(id));
    assert_eq!(audit["items"][0]["address"], "203.0.113.9");
    let used = world.get(&format!("/projects/shop/api-keys/{id}")).await.ok();
    assert_eq!(used["last_used_at"], BEGIN.to_string());
}

#[tokio::test]
async fn a_renewal_keeps_the_instance() {
    let world = World::new().await;
    world.project("shop").await;
    let (key, _) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    let first = enrolled(ask(&world, &Request::Enroll(enroll(&key, &NodeKey::generate().unwrap()))).await);
    world.advance(3600);
    let again = Enroll { instance: Some(first.warpgate), ..enroll(&key, &NodeKey::generate().unwrap()) };
    let second = enrolled(ask(&world, &Request::Enroll(again)).await);
    assert_eq!((second.warpgate, &second.spiffe), (first.warpgate, &first.spiffe));
    assert!(second.not_after > first.not_after);
    let listed = world.get("/projects/shop/warpgates").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let audit = world.get("/projects/shop/audit?limit=1").await.ok();
    assert_eq!(audit["items"][0]["action"], "warpgate.renew");
}

#[tokio::test]
async fn r21_each_bad_key_is_refused_with_its_own_reason() {
    let world = World::new().await;
    world.project("shop").await;
    world.post("/projects/shop/environments", json!({ "slug": "staging" })).await.ok();
    let node = NodeKey::generate().unwrap();
    let (good, _) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    let body = json!({ "scopes": ["connect"], "environment": "staging", "expires_in_s": 60 });
    let (short, _) = connection_key(&world, body).await;
    let (revoked, id) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    world.delete(&format!("/projects/shop/api-keys/{id}")).await.ok();
    let caller: ApiKeyToken = world.key("shop", &["request", "routes:write"]).await.parse().unwrap();
    world.advance(60);

    let unknown = ApiKeyToken { id: good.key.id, secret: Token::random(&world.entropy) };
    let ghost = EnvironmentId::random(&world.entropy);
    let base = enroll(&good, &node);
    let rows = [
        (Enroll { key: unknown, ..base.clone() }, "key.unknown"),
        (enroll(&revoked, &node), "key.revoked"),
        (enroll(&short, &node), "key.expired"),
        (Enroll { key: caller, ..base.clone() }, "key.scope"),
        (Enroll { environment: short.environment, ..base.clone() }, "key.scope"),
        (Enroll { environment: ghost, ..base.clone() }, "key.scope"),
        (Enroll { csr_der: "!".to_owned(), ..base.clone() }, "csr.invalid"),
        (Enroll { csr_der: BASE64.encode(b"no request"), ..base.clone() }, "csr.invalid"),
        (Enroll { agent: "warpgate/0.0.9".to_owned(), ..base.clone() }, "agent.too_old"),
    ];
    for (request, code) in rows {
        let refusal = refused(ask(&world, &Request::Enroll(request)).await);
        assert_eq!(refusal.code, code, "{}", refusal.message);
    }
    enrolled(ask(&world, &Request::Enroll(base)).await);
    let listed = world.get("/projects/shop/warpgates?limit=200").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "none of the refused left a trace");
}

#[tokio::test]
async fn r20_a_request_signed_with_another_key_is_refused() {
    let world = World::new().await;
    world.project("shop").await;
    let (key, _) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    let mut csr = NodeKey::generate().unwrap().csr_der().unwrap();
    let last = csr.len() - 1;
    csr[last] ^= 1;
    let request = Enroll { csr_der: BASE64.encode(csr), ..enroll(&key, &NodeKey::generate().unwrap()) };
    assert_eq!(refused(ask(&world, &Request::Enroll(request)).await).code, "csr.invalid");
}

#[tokio::test]
async fn r22_an_instance_of_another_environment_is_not_taken_over() {
    let world = World::new().await;
    world.project("shop").await;
    world.post("/projects/shop/environments", json!({ "slug": "staging" })).await.ok();
    let (production, _) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    let (staging, _) =
        connection_key(&world, json!({ "scopes": ["connect"], "environment": "staging" })).await;
    let node = NodeKey::generate().unwrap();
    let first = enrolled(ask(&world, &Request::Enroll(enroll(&production, &node))).await);
    let thief = Enroll { instance: Some(first.warpgate), ..enroll(&staging, &node) };
    assert_eq!(refused(ask(&world, &Request::Enroll(thief)).await).code, "key.scope");
}

/// SPIFFE URIs that edges refuse now.
async fn denied(world: &World) -> Vec<String> {
    world.trust().await.denied
}

#[tokio::test]
async fn r21_a_revoked_key_ends_the_tunnels_of_its_warpgates_and_of_no_others() {
    let world = World::new().await;
    world.project("shop").await;
    let (first, first_id) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    let (second, _) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    let node = NodeKey::generate().unwrap();
    let lost = enrolled(ask(&world, &Request::Enroll(enroll(&first, &node))).await);
    let kept = enrolled(ask(&world, &Request::Enroll(enroll(&second, &node))).await);
    assert_eq!(denied(&world).await, [""; 0]);
    world.delete(&format!("/projects/shop/api-keys/{first_id}")).await.ok();
    assert_eq!(denied(&world).await, [lost.spiffe.as_str()]);
    // The machine comes back with a good key: under another name, so that its old certificate stays worthless.
    let back = Enroll { instance: Some(lost.warpgate), ..enroll(&second, &node) };
    let back = enrolled(ask(&world, &Request::Enroll(back)).await);
    assert_ne!(back.warpgate, lost.warpgate);
    let same = Enroll { instance: Some(kept.warpgate), ..enroll(&second, &node) };
    assert_eq!(enrolled(ask(&world, &Request::Enroll(same)).await).warpgate, kept.warpgate);
    // The name is forgotten when its last certificate has ended.
    world.advance(24 * 3600);
    world
        .control
        .shared
        .primary
        .write(async |tx| world.control.shared.publish_trust(tx).await)
        .await
        .unwrap();
    assert_eq!(denied(&world).await, [""; 0]);
}

#[tokio::test]
async fn r21_deleting_account_environment_or_project_ends_tunnels_too() {
    let world = World::new().await;
    world.project("shop").await;
    world.post("/projects/shop/environments", json!({ "slug": "staging" })).await.ok();
    world.post("/projects/shop/service-accounts", json!({ "name": "robot" })).await.ok();
    let mut names = Vec::new();
    for body in [
        json!({ "scopes": ["connect"], "account": "robot" }),
        json!({ "scopes": ["connect"], "environment": "staging" }),
        json!({ "scopes": ["connect"] }),
    ] {
        let (key, _) = connection_key(&world, body).await;
        names.push(
            enrolled(ask(&world, &Request::Enroll(enroll(&key, &NodeKey::generate().unwrap()))).await).spiffe,
        );
    }
    for (gone, path) in
        ["/projects/shop/service-accounts/robot", "/projects/shop/environments/staging", "/projects/shop"]
            .into_iter()
            .enumerate()
    {
        world.delete(path).await.ok();
        assert_eq!(denied(&world).await, names[..=gone], "{path}");
    }
}

#[tokio::test]
async fn r21_a_certificate_does_not_outlive_the_key_it_was_got_with() {
    let world = World::new().await;
    world.project("shop").await;
    let (key, _) = connection_key(&world, json!({ "scopes": ["connect"], "expires_in_s": 600 })).await;
    let done = enrolled(ask(&world, &Request::Enroll(enroll(&key, &NodeKey::generate().unwrap()))).await);
    assert_eq!(done.not_after, BEGIN.after(Duration::from_mins(10)));
}

#[tokio::test]
async fn a_check_says_what_an_enrollment_would_find_and_makes_nothing() {
    let world = World::new().await;
    world.project("shop").await;
    let (key, id) = connection_key(&world, json!({ "scopes": ["connect"], "expires_in_s": 600 })).await;
    let check = async |agent: &str| {
        let (key, environment) = (key.key.clone(), key.environment);
        ask(&world, &Request::Check(Check { key, environment, agent: agent.to_owned() })).await
    };
    let Reply::Checked(found) = check("warpgate/0.1.0").await else { panic!("it is found") };
    assert_eq!((found.project.as_str(), found.environment.as_str()), ("shop", "production"));
    assert_eq!((found.control_time, found.certificate_s), (BEGIN, 600));
    let warpgates = world.get("/projects/shop/warpgates").await.ok();
    assert!(!warpgates.to_string().contains("wgt_"), "no entry was made: {warpgates}");
    assert_eq!(refused(check("warpgate/0.0.1").await).code, "agent.too_old");
    world.delete(&format!("/projects/shop/api-keys/{id}")).await.ok();
    assert_eq!(refused(check("warpgate/0.1.0").await).code, "key.revoked");
}

#[tokio::test]
async fn a_bundle_is_sent_only_if_it_is_newer() {
    let world = World::new().await;
    world.project("shop").await;
    let (key, id) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    let poll = async |have_revision: u64| {
        let query = BundleQuery { key: key.key.clone(), environment: key.environment, have_revision };
        ask(&world, &Request::Bundle(query)).await
    };
    let Reply::Bundle { bundle: Some(bundle) } = poll(0).await else { panic!("a bundle") };
    assert_eq!(poll(bundle.revision).await, Reply::Bundle { bundle: None });
    let routes = "/projects/shop/environments/production/routes";
    world.post(routes, json!({ "path": "/*", "auth": "public" })).await.ok();
    let Reply::Bundle { bundle: Some(newer) } = poll(bundle.revision).await else { panic!("a newer bundle") };
    assert!(newer.revision > bundle.revision);
    world.delete(&format!("/projects/shop/api-keys/{id}")).await.ok();
    assert_eq!(refused(poll(0).await).code, "key.revoked");
}

#[tokio::test]
async fn what_is_no_request_is_refused_without_repeating_it() {
    let world = World::new().await;
    let reply = world.link().connect(b"{\"ask\":\"secret-thing\"}".to_vec(), FROM).await.unwrap();
    let refusal = refused(Reply::from_json(&reply).unwrap());
    assert_eq!(refusal.code, "request.malformed");
    assert!(!refusal.message.contains("secret-thing"));
}

#[tokio::test]
async fn a_tunnel_is_listed_while_it_is_up_and_not_after_a_restart() {
    use mezusphere_model::link::TunnelReport;
    let world = World::new().await;
    world.project("shop").await;
    let (key, _) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    let done = enrolled(ask(&world, &Request::Enroll(enroll(&key, &NodeKey::generate().unwrap()))).await);
    let report = |connected: bool, at: Timestamp| TunnelReport {
        warpgate: done.spiffe.clone(),
        environment: key.environment,
        edge: world.control.edge_id().unwrap(),
        remote: FROM,
        agent: "warpgate/0.1.0".to_owned(),
        upstreams: vec!["default".to_owned()],
        bad_upstreams: Vec::new(),
        transport: mezusphere_model::link::TunnelTransport::Quic,
        connected,
        at,
    };
    let connected = async |world: &World| {
        world.get("/projects/shop/warpgates").await.ok()["items"][0]["connected"].clone()
    };
    let link = world.link();
    link.tunnel(report(true, BEGIN)).await.unwrap();
    assert_eq!(connected(&world).await, true);
    link.tunnel(report(false, BEGIN.after(Duration::from_secs(5)))).await.unwrap();
    assert_eq!(connected(&world).await, false);
    link.tunnel(report(true, BEGIN.after(Duration::from_secs(9)))).await.unwrap();
    assert_eq!(connected(&world).await, true);
    let elsewhere =
        TunnelReport { environment: EnvironmentId::random(&world.entropy), ..report(true, BEGIN) };
    assert!(link.tunnel(elsewhere).await.is_err());
    let foreign = TunnelReport {
        warpgate: done.spiffe.replace(&done.warpgate.to_string(), &WarpgateId::from_bits(1).to_string()),
        ..report(true, BEGIN)
    };
    assert!(link.tunnel(foreign).await.is_err());
    drop(link);
    let world = world.restart(development()).await;
    assert_eq!(connected(&world).await, false, "a process that has just started holds no tunnel");
}

#[tokio::test]
async fn r20_an_evicted_warpgate_is_refused_with_its_key_and_is_another_one_with_a_new_key() {
    let world = World::new().await;
    world.project("shop").await;
    let (key, _) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    let node = NodeKey::generate().unwrap();
    let lost = enrolled(ask(&world, &Request::Enroll(enroll(&key, &node))).await);
    let kept = enrolled(ask(&world, &Request::Enroll(enroll(&key, &node))).await);
    world.delete(&format!("/projects/shop/warpgates/{}", lost.warpgate)).await.ok();
    assert_eq!(denied(&world).await, [lost.spiffe.as_str()], "not the other one of the same key");
    let listed = world.get("/projects/shop/warpgates").await.ok();
    for row in listed["items"].as_array().unwrap() {
        assert_eq!(row["evicted"], json!(row["id"] == json!(lost.warpgate)));
    }
    let back = |key: &ConnectionKey| Enroll { instance: Some(lost.warpgate), ..enroll(key, &node) };
    let refusal = refused(ask(&world, &Request::Enroll(back(&key))).await);
    assert_eq!(refusal.code, "warpgate.evicted");
    // Nobody needs to refuse a certificate that has ended, but the machine stays out.
    world.advance(25 * 3600);
    assert_eq!(refused(ask(&world, &Request::Enroll(back(&key))).await).code, "warpgate.evicted");
    let (new, _) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    let other = enrolled(ask(&world, &Request::Enroll(back(&new))).await);
    assert_ne!(other.warpgate, lost.warpgate);
    let same = Enroll { instance: Some(kept.warpgate), ..enroll(&key, &node) };
    assert_eq!(enrolled(ask(&world, &Request::Enroll(same)).await).warpgate, kept.warpgate);
    let audit = world.get("/projects/shop/audit?limit=50").await.ok().to_string();
    assert!(audit.contains("warpgate.evict"), "{audit}");
}
