//! The CA replaced under whatever may happen meanwhile: kills, going back, two nodes at once, a key that got away, a root
//! that is kept elsewhere.

use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_model::id::{EdgeId, EnvironmentId, WarpgateId};
use mezusphere_pki::ceremony;
use mezusphere_pki::trust::{certificates_from_pem, digest_from_text};
use mezusphere_pki::{ExpectedRole, NodeIdentity, NodeKey, Peer, PeerError, Root, Trust, verify_peer};
use mezusphere_store::WriteError;
use mezusphere_store::feed::AppliedReport;
use mezusphere_store::primary::certificate::{self, HELD_AT_ONCE, IssuedRow};
use mezusphere_store::primary::{PageRequest, audit};
use tunnel_proto::connect::{Enroll, Enrolled, Request as Asked};

use super::edges::{about, clustered, edge};
use super::enroll::{ask, connection_key, enroll, enrolled};
use super::feed::published;
use super::*;
use crate::ca::machine::{Mark, Phase, Step};
use crate::ca::run::Turn;
use crate::ca::state::CaState;
use crate::digest::sha256;

/// Looks in which a rotation with willing members must be over.
const LOOKS_MAX: usize = 100;

/// Time between two looks, in seconds.
const LOOK_S: u64 = 1;

/// The members of an installation that do what they are asked: one edge, one warpgate, and control itself.
struct Members {
    edge: NodeIdentity,
    gate: Enrolled,
    gate_identity: NodeIdentity,
    key: ConnectionKey,
}

impl Members {
    async fn of(world: &World) -> Self {
        world.project("shop").await;
        let (key, _) = connection_key(world, json!({ "scopes": ["connect"] })).await;
        let (gate, gate_identity) = warpgate(world, &key, None).await;
        Self { edge: certified(world).await, gate, gate_identity, key }
    }

    /// Everybody does what the last trust document asks, and says so.
    async fn act(&mut self, world: &World) {
        let shared = &world.control.shared;
        shared.beat().await.unwrap();
        let own = world.control.edge_id().unwrap();
        world.control.link(own).about(about("connect.mezu.localhost")).await.unwrap();
        if let Some(cursor) = shared.announced().await.unwrap() {
            shared.report_applied(Some(cursor)).await.unwrap();
            let (follower, at) = (own.to_string(), shared.clock.now());
            let report = AppliedReport { follower, partition: Partition::Platform, cursor, at };
            world.primary.applied(vec![report]).await.unwrap();
        }
        let wanted = digest_from_text(&world.trust().await.renew_from.unwrap().issuer).unwrap();
        if self.edge.leaf().issuer != Some(wanted) {
            self.edge = certified(world).await;
        }
        if self.gate_identity.leaf().issuer != Some(wanted) {
            (self.gate, self.gate_identity) = warpgate(world, &self.key, Some(&self.gate)).await;
        }
        if shared.signer.load().renewal(&world.entropy).is_due(shared.clock.now()) {
            shared.renew_signer().await.unwrap();
        }
    }
}

async fn certified(world: &World) -> NodeIdentity {
    let key = NodeKey::generate().unwrap();
    let chain = world.link().certify(key.csr_der().unwrap()).await.unwrap();
    NodeIdentity::new(chain.into_iter().map(Into::into).collect(), key).unwrap()
}

async fn warpgate(world: &World, key: &ConnectionKey, before: Option<&Enrolled>) -> (Enrolled, NodeIdentity) {
    let node = NodeKey::generate().unwrap();
    let asked = Enroll { instance: before.map(|gate| gate.warpgate), ..enroll(key, &node) };
    let done = enrolled(ask(world, &Asked::Enroll(asked)).await);
    let identity = NodeIdentity::from_pem(&done.chain_pem, node).unwrap();
    (done, identity)
}

/// One look; time passes.
async fn look(world: &World) -> Turn {
    world.advance(LOOK_S);
    world.control.shared.turn_ca().await.unwrap()
}

async fn state(world: &World) -> CaState {
    world.primary.read(async |tx| CaState::read(tx).await).await.unwrap().unwrap()
}

/// Until the rotation is over, or stands in this phase.
async fn until(world: &World, members: &mut Members, phase: Option<Phase>) {
    for _ in 0..LOOKS_MAX {
        let at = state(world).await.rotation.map(|rotation| rotation.phase);
        if at == phase {
            return;
        }
        look(world).await;
        members.act(world).await;
    }
    panic!("{:#?}", state(world).await.rotation);
}

async fn actions(world: &World) -> Vec<String> {
    let organization = world.control.shared.installation.organization;
    let page = PageRequest { after: None, limit: 200 };
    let found = world.primary.read(async |tx| audit::list(tx, organization, &page).await).await.unwrap();
    found
        .rows
        .into_iter()
        .rev()
        .map(|row| row.entry.action)
        .filter(|action| action.starts_with("ca."))
        .collect()
}

fn judged(
    identity: &NodeIdentity,
    trust: &Trust,
    world: &World,
    expected: ExpectedRole,
) -> Result<Peer, PeerError> {
    verify_peer(identity.chain(), trust, world.hand.clock().now(), expected)
}

async fn trust(world: &World) -> Trust {
    Trust::from_doc(&world.trust().await).unwrap()
}

/// Another control node of the installation.
async fn second(world: &World) -> Control {
    let mut config = development();
    config.node.id = ControlId::from_bits(2);
    config.edge = None;
    let (clock, entropy) = (world.hand.clock(), world.entropy.clone());
    Control::open(config, world.primary.clone(), sealer(7), clock, entropy).await.unwrap()
}

fn edge_of(world: &World) -> EdgeId {
    world.control.edge_id().unwrap()
}

#[tokio::test]
async fn r20_an_issuing_ca_is_replaced_and_what_the_old_one_issued_is_refused() {
    let world = World::new().await;
    let mut members = Members::of(&world).await;
    let expected = ExpectedRole::Edge(edge_of(&world));
    let old = members.edge;
    members.edge = certified(&world).await;
    world.post("/ca/rotation", json!({ "now": true })).await.ok();
    world.post("/ca/rotation", json!({})).await.refused(409, "ca.rotation_runs");

    until(&world, &mut members, Some(Phase::Sign)).await;
    let during = trust(&world).await;
    judged(&old, &during, &world, expected).expect("both are good while everybody renews");
    judged(&members.edge, &during, &world, expected).expect("both are good while everybody renews");
    let shown = world.get("/ca").await.ok();
    assert_eq!(
        (&shown["rotation"]["phase"], &shown["rotation"]["what"]),
        (&json!("sign"), &json!("issuing"))
    );

    until(&world, &mut members, None).await;
    let after = trust(&world).await;
    let why = judged(&old, &after, &world, expected).unwrap_err();
    assert!(matches!(why, PeerError::Retired(_)), "{why}");
    judged(&members.edge, &after, &world, expected).unwrap();
    judged(&members.gate_identity, &after, &world, ExpectedRole::AnyWarpgate).unwrap();
    let own = world.control.node_identity().get();
    judged(&own, &after, &world, ExpectedRole::AnyControl).expect("control's own");
    world.control.shared.reconcile().await.unwrap();
    let id = world.get("/projects/shop").await.ok()["id"].as_str().unwrap().parse().unwrap();
    let (_, bundle) = published(&world, id).await;
    assert_eq!(bundle.retired, world.trust().await.retired, "warpgates learn it too");
    let shown = world.get("/ca").await.ok();
    assert_eq!((&shown["rotation"], &shown["last"]["how"]), (&Value::Null, &json!("done")));
    assert_eq!(
        actions(&world).await,
        ["ca.rotate", "ca.announce", "ca.trust", "ca.sign", "ca.retire", "ca.rotated"]
    );
}

#[tokio::test]
async fn without_hurry_the_old_ca_is_good_until_its_last_certificate_has_ended() {
    let world = World::new().await;
    let mut members = Members::of(&world).await;
    world.post("/ca/rotation", json!({})).await.ok();
    until(&world, &mut members, Some(Phase::Sign)).await;
    for _ in 0..20 {
        look(&world).await;
        members.act(&world).await;
    }
    assert!(state(&world).await.rotation.unwrap().clear_ms.is_some(), "everybody has changed over");
    let mut hours = 0;
    while state(&world).await.rotation.is_some() {
        world.advance(3600);
        hours += 1;
        members.act(&world).await;
        look(&world).await;
        assert!(hours <= 26, "{:#?}", state(&world).await.rotation);
    }
    assert!(hours >= 23, "{hours} h: what ran on connections of before was cut");
    assert_eq!(state(&world).await.last.unwrap().left_behind, 0);
}

#[tokio::test]
async fn r20_a_key_made_before_a_root_was_replaced_enrols_after_it_and_after_the_next() {
    let world = World::new().await;
    let mut members = Members::of(&world).await;
    let pin = members.key.root;
    let mut roots = vec![world.control.roots_pem()];
    for _ in 0..2 {
        world.post("/ca/rotation", json!({ "root": true, "now": true })).await.ok();
        until(&world, &mut members, None).await;
        roots.push(world.control.roots_pem());
    }
    assert!(roots.iter().all(|roots| roots.len() == 1) && roots[0] != roots[1] && roots[1] != roots[2]);
    let doc = world.trust().await;
    let shown: Vec<_> = [&doc.crosses_pem, &doc.roots_pem, &doc.former_pem]
        .into_iter()
        .flatten()
        .flat_map(|pem| certificates_from_pem(pem).unwrap())
        .collect();
    let trust = Trust::from_pin(&pin, &shown).expect("the old root is shown");
    let own = world.control.node_identity().get();
    let chain: Vec<_> = own.chain().iter().chain(&shown).cloned().collect();
    verify_peer(&chain, &trust, world.hand.clock().now(), ExpectedRole::AnyControl)
        .expect("the old root leads to the CA of now");
    let (newer, _) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
    assert_ne!(newer.root, pin, "new keys name the new root");
    for key in [members.key.clone(), newer] {
        let (done, identity) = warpgate(&world, &key, None).await;
        let shown: Vec<_> =
            done.roots_pem.iter().flat_map(|pem| certificates_from_pem(pem).unwrap()).collect();
        let pinned = Trust::from_pin(&key.root, &shown).unwrap();
        judged(&identity, &pinned, &world, ExpectedRole::AnyWarpgate).unwrap();
        judged(&world.control.shared.signer.load().identity, &pinned, &world, ExpectedRole::AnyControl)
            .expect("what signs its bundle");
    }
}

#[tokio::test]
async fn a_rotation_goes_on_after_a_kill_behind_every_step() {
    for root in [false, true] {
        let mut world = World::new().await;
        let mut members = Members::of(&world).await;
        world.post("/ca/rotation", json!({ "root": root, "now": true })).await.ok();
        let mut kills = Vec::new();
        for _ in 0..LOOKS_MAX {
            world.advance(LOOK_S);
            let shared = &world.control.shared;
            let known = state(&world).await;
            let reports = world.primary.applied_by(Partition::Platform).await.unwrap();
            let mark = Mark::of(&world.primary.heads().await.unwrap());
            // Committed, and then the process is gone before it took up anything of it.
            let step = world
                .primary
                .write(async |tx| shared.step_once(tx, &known, &reports, mark.clone()).await)
                .await
                .unwrap()
                .unwrap();
            if step != Step::Wait {
                kills.push(step);
                world = world.restart(development()).await;
            }
            if state(&world).await.rotation.is_none() {
                break;
            }
            members.act(&world).await;
        }
        for step in [
            Step::Make,
            Step::Enter(Phase::Trust),
            Step::Enter(Phase::Sign),
            Step::Call,
            Step::Clear(true),
            Step::Enter(Phase::Retire),
            Step::Finish,
        ] {
            assert_eq!(kills.iter().filter(|killed| **killed == step).count(), 1, "{step:?} in {kills:?}");
        }
        let after = trust(&world).await;
        judged(&members.edge, &after, &world, ExpectedRole::Edge(edge_of(&world))).unwrap();
        judged(&world.control.node_identity().get(), &after, &world, ExpectedRole::AnyControl).unwrap();
        assert_eq!(after.roots().len(), 1);
    }
}

#[tokio::test]
async fn a_rotation_is_taken_back_in_every_phase_until_it_retires() {
    for root in [false, true] {
        for phase in [None, Some(Phase::Announce), Some(Phase::Trust), Some(Phase::Sign)] {
            let world = World::new().await;
            let mut members = Members::of(&world).await;
            let before = state(&world).await;
            world.delete("/ca/rotation").await.refused(409, "ca.nothing_to_abort");
            world.post("/ca/rotation", json!({ "root": root, "now": true })).await.ok();
            match phase {
                // Nothing is made yet.
                None => {}
                Some(Phase::Announce) => {
                    assert_eq!(look(&world).await, Turn::Moved(Step::Make));
                }
                Some(phase) => until(&world, &mut members, Some(phase)).await,
            }
            members.act(&world).await;
            world.delete("/ca/rotation").await.ok();
            if phase == Some(Phase::Sign) {
                world.delete("/ca/rotation").await.refused(409, "ca.nothing_to_abort");
            }
            until(&world, &mut members, None).await;
            members.act(&world).await;
            let after = state(&world).await;
            assert_eq!((&after.roots, &after.issuing), (&before.roots, &before.issuing), "{root} {phase:?}");
            assert!(after.crosses.is_empty() && after.former.is_empty());
            assert_eq!(
                after.retired.len(),
                usize::from(phase.is_some()),
                "the CA that did not come is refused"
            );
            let trust = trust(&world).await;
            judged(&members.edge, &trust, &world, ExpectedRole::Edge(edge_of(&world))).unwrap();
            judged(&world.control.node_identity().get(), &trust, &world, ExpectedRole::AnyControl).unwrap();
            // And the next one is not in its way.
            world.post("/ca/rotation", json!({ "root": root, "now": true })).await.ok();
            until(&world, &mut members, None).await;
            assert_ne!(state(&world).await.issuing, before.issuing);
        }
    }
}

#[tokio::test]
async fn two_control_nodes_that_look_at_once_take_each_step_once() {
    let world = World::new().await;
    let other = second(&world).await;
    let mut members = Members::of(&world).await;
    world.post("/ca/rotation", json!({ "root": true, "now": true })).await.ok();
    for _ in 0..LOOKS_MAX {
        world.advance(LOOK_S);
        let (a, b) = tokio::join!(world.control.shared.turn_ca(), other.shared.turn_ca());
        a.unwrap();
        b.unwrap();
        // Whoever did not take the step follows by itself.
        world.control.shared.follow_ca().await.unwrap();
        other.shared.follow_ca().await.unwrap();
        let head = other.shared.announced().await.unwrap();
        other.shared.report_applied(head).await.unwrap();
        other.shared.beat().await.unwrap();
        members.act(&world).await;
        if state(&world).await.rotation.is_none() {
            break;
        }
    }
    let status = world.get("/ca").await.ok();
    assert!(status["rotation"].is_null(), "{status:#}");
    assert_eq!(
        actions(&world).await,
        ["ca.rotate", "ca.announce", "ca.trust", "ca.sign", "ca.retire", "ca.rotated"]
    );
    let trust = trust(&world).await;
    for control in [&world.control, &other] {
        judged(&control.node_identity().get(), &trust, &world, ExpectedRole::AnyControl).unwrap();
        control.shared.refresh_ca().await.unwrap();
        assert_eq!(control.roots_pem(), state(&world).await.roots);
    }
}

#[tokio::test]
async fn r20_a_tainted_ca_is_refused_at_once_and_everybody_gets_a_new_certificate() {
    for running in [false, true] {
        let world = World::new().await;
        let mut members = Members::of(&world).await;
        if running {
            world.post("/ca/rotation", json!({ "root": true, "now": true })).await.ok();
            until(&world, &mut members, Some(Phase::Sign)).await;
            members.act(&world).await;
        }
        let roots = state(&world).await.roots.first().cloned();
        let (old_edge, old_gate) = (members.edge.leaf().issuer, members.gate_identity.leaf().issuer);
        assert_eq!(old_edge, old_gate);
        world.advance(1);
        world.post("/ca/taint", Value::Null).await.ok();
        let after = trust(&world).await;
        for (identity, expected) in [
            (&members.edge, ExpectedRole::Edge(edge_of(&world))),
            (&members.gate_identity, ExpectedRole::AnyWarpgate),
        ] {
            assert!(judged(identity, &after, &world, expected).is_err(), "refused from now on");
        }
        judged(&world.control.node_identity().get(), &after, &world, ExpectedRole::AnyControl)
            .expect("control is itself again at once");
        members.act(&world).await;
        judged(&members.edge, &after, &world, ExpectedRole::Edge(edge_of(&world))).unwrap();
        judged(&members.gate_identity, &after, &world, ExpectedRole::AnyWarpgate).unwrap();
        world.control.shared.reconcile().await.unwrap();
        let id = world.get("/projects/shop").await.ok()["id"].as_str().unwrap().parse().unwrap();
        let (_, bundle) = published(&world, id).await;
        assert_eq!(bundle.retired, world.trust().await.retired);
        let now = state(&world).await;
        assert!(now.rotation.is_none() && now.retired.iter().any(|ca| ca.tainted));
        assert_eq!(now.roots, Vec::from_iter(roots), "the root stays, and one that was to come is forgotten");
        assert!(actions(&world).await.contains(&"ca.taint".to_owned()));
        // Everything survives a restart.
        let world = world.restart(development()).await;
        let (key, _) = connection_key(&world, json!({ "scopes": ["connect"] })).await;
        warpgate(&world, &key, None).await;
    }
}

#[tokio::test]
async fn a_rotation_waits_for_everybody_however_many_they_are() {
    let world = World::new().await;
    let (now, issuer) = (world.hand.clock().now(), world.control.shared.known_ca().issuing.digest());
    let count = 2 * HELD_AT_ONCE + 1;
    let known = world.get("/ca").await.ok()["member_count"].as_u64().unwrap();
    let work = world.primary.write(async |tx| {
        for number in 0..count {
            let id = WarpgateId::from_bits(u128::try_from(number).unwrap());
            let name =
                world.control.shared.warpgate_name(ProjectId::from_bits(1), EnvironmentId::from_bits(2), id);
            let (name, day) = (name.to_string(), Duration::from_hours(24));
            let fingerprint = sha256(name.as_bytes());
            let row = IssuedRow {
                fingerprint,
                name,
                project: None,
                not_before: now,
                not_after: now.after(day),
                issued_at: now,
                issuer: Some(issuer),
            };
            certificate::insert(tx, &row).await?;
        }
        Ok::<_, WriteError>(())
    });
    work.await.unwrap();
    let members = world.get("/ca").await.ok()["member_count"].as_u64().unwrap();
    assert_eq!(members, known + u64::try_from(count).unwrap());
}

#[tokio::test]
async fn r25_the_audit_log_names_the_ca_that_was_thrown_out_whichever_control_node_was_asked() {
    let world = World::new().await;
    let other = second(&world).await;
    let taint = request(Method::POST, "/ca/taint", None);
    send(other.local_admin(), taint).await.ok();
    let thrown_out = state(&world).await.issuing.key_sha256;
    assert_ne!(world.control.shared.known_ca().state.issuing.key_sha256, thrown_out, "it has not looked yet");
    world.post("/ca/taint", Value::Null).await.ok();
    let audit = world.get("/audit?limit=200").await.ok();
    let newest = audit["items"].as_array().unwrap().iter().find(|item| item["action"] == "ca.taint");
    assert_eq!(newest.unwrap()["detail"]["refused"], thrown_out, "{audit:#}");
}

#[tokio::test]
async fn a_root_kept_elsewhere_signs_the_request_and_nothing_secret_travels_back() {
    let world = World::new().await;
    let mut members = Members::of(&world).await;
    let taken = world.post("/ca/root-key", Value::Null).await.ok();
    let root = Root::from_secret_pem(taken["secret_pem"].as_str().unwrap().as_bytes()).unwrap();
    let path = format!("/ca/root-key/{}", taken["sha256"].as_str().unwrap());
    world.delete("/ca/root-key/0123").await.refused(404, "object.not_found");
    assert_eq!(world.get("/ca").await.ok()["root_key"], true);
    world.delete(&path).await.ok();
    assert_eq!(world.get("/ca").await.ok()["root_key"], false);
    for (path, body) in
        [("/ca/rotation", json!({})), ("/ca/taint", Value::Null), ("/ca/root-key", Value::Null)]
    {
        world.post(path, body).await.refused(409, "ca.root_elsewhere");
    }
    let install =
        async |pem: String| world.post("/ca/install", json!({ "certificate_pem": pem, "now": true })).await;
    install("nothing".to_owned()).await.refused(409, "ca.no_request");

    let request = world.post("/ca/request", Value::Null).await.ok();
    // Without the outer header's length and the signature, which is another each time.
    let asked = |made: &Value| {
        ceremony::request_from_pem(made["csr_pem"].as_str().unwrap()).unwrap()[3..100].to_vec()
    };
    let again = world.post("/ca/request", Value::Null).await.ok();
    assert_eq!(asked(&again), asked(&request), "the one that waits");
    assert!(!request.to_string().contains("PRIVATE"));
    let csr = ceremony::request_from_pem(request["csr_pem"].as_str().unwrap()).unwrap();
    let sign = |root: &Root, csr: &[u8]| {
        let signed = root.sign_request(csr, world.hand.clock().now(), &world.entropy).unwrap();
        ceremony::certificate_to_pem(&signed)
    };
    let stranger =
        Root::create(&root.trust_domain().unwrap(), world.hand.clock().now(), &world.entropy).unwrap();
    let other = ceremony::IssuingRequest::create().unwrap().csr_der().unwrap();
    for (bad, what) in [
        ("nothing".to_owned(), "no certificate"),
        (root.certificate_pem(), "the root itself"),
        (sign(&stranger, &csr), "another root"),
        (sign(&root, &other), "another request"),
        (sign(&root, &csr).repeat(2), "two"),
    ] {
        let got = install(bad).await;
        assert_eq!(got.body["code"], "ca.certificate", "{what}: {}", got.body);
    }
    let before = state(&world).await.issuing;
    install(sign(&root, &csr)).await.ok();
    until(&world, &mut members, None).await;
    assert_ne!(state(&world).await.issuing, before);
    install(sign(&root, &csr)).await.refused(409, "ca.no_request");

    // The drill, with the root elsewhere.
    let csr = world.post("/ca/request", Value::Null).await.ok();
    let csr = ceremony::request_from_pem(csr["csr_pem"].as_str().unwrap()).unwrap();
    let body = json!({ "certificate_pem": sign(&root, &csr), "taint": true });
    world.post("/ca/install", body).await.ok();
    assert!(state(&world).await.retired[0].tainted);

    // Another root takes its place, which this one has signed.
    members.act(&world).await;
    let csr = world.post("/ca/request", Value::Null).await.ok();
    let csr = ceremony::request_from_pem(csr["csr_pem"].as_str().unwrap()).unwrap();
    let cross = |by: &Root| {
        let der = by.cross_sign(stranger.certificate(), world.hand.clock().now(), &world.entropy).unwrap();
        ceremony::certificate_to_pem(&der)
    };
    let bring = async |cross: String| {
        let body = json!({
            "certificate_pem": sign(&stranger, &csr), "root_pem": stranger.certificate_pem(), "cross_pem": cross,
            "now": true,
        });
        world.post("/ca/install", body).await
    };
    let third =
        Root::create(&root.trust_domain().unwrap(), world.hand.clock().now(), &world.entropy).unwrap();
    bring(cross(&third)).await.refused(422, "ca.certificate");
    // A CA that takes the place of a tainted one at once must hang under a root that everybody trusts already.
    let at_once = json!({
        "certificate_pem": sign(&stranger, &csr), "root_pem": stranger.certificate_pem(), "cross_pem": cross(&root),
        "taint": true,
    });
    let before = state(&world).await;
    world.post("/ca/install", at_once).await.refused(422, "ca.certificate");
    assert_eq!(state(&world).await, before, "nothing of it stays");
    bring(cross(&root)).await.ok();
    until(&world, &mut members, None).await;
    assert_eq!(state(&world).await.roots, [stranger.certificate_pem()]);
    judged(&members.edge, &trust(&world).await, &world, ExpectedRole::Edge(edge_of(&world))).unwrap();
}

#[tokio::test]
async fn the_roots_key_is_given_out_on_the_server_alone() {
    let world = World::new().await;
    let made = world.post("/operator-keys", json!({ "name": "ci" })).await.ok();
    let key = made["secret"].as_str().unwrap();
    for (method, path) in [(Method::POST, "/ca/root-key"), (Method::DELETE, "/ca/root-key/00")] {
        world.by_key(key, method, path, None).await.refused(403, "ca.local_only");
    }
}

#[tokio::test]
async fn each_issuance_is_listed_with_the_ca_it_is_of_and_audited() {
    let world = World::with(clustered()).await;
    let members = Members::of(&world).await;
    edge(&world, "eu-1").await;
    let ca = world.get("/ca").await.ok()["issuing"]["key_sha256"].clone();
    let listed = world.get("/ca/certificates?limit=200").await.ok();
    let items = listed["items"].as_array().unwrap();
    assert!(items.iter().all(|item| item["ca"] == ca), "{listed}");
    let installation = world.get("/audit?limit=200").await.ok().to_string();
    let project = world.get("/projects/shop/audit?limit=200").await.ok().to_string();
    // A host's own stands there with the host.
    let own =
        |item: &&Value| ["spiffe:", "console."].iter().any(|own| item["name"].to_string().contains(own));
    for item in items.iter().filter(own) {
        let name = item["name"].as_str().unwrap();
        let sha256 = item["sha256"].as_str().unwrap();
        assert!(installation.contains(sha256) || project.contains(sha256), "{name} {sha256} in neither log");
    }
    let kinds = ["/edge/", "/control/", "/warpgate/", "console."];
    for kind in kinds {
        assert!(items.iter().any(|item| item["name"].as_str().unwrap().contains(kind)), "{kind}");
    }
    drop(members);
}
