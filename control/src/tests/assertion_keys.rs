//! Keys that sign assertions follow one another, and nobody who verifies is ever without the right one.

use std::collections::{BTreeSet, VecDeque};

use mezusphere_model::id::EnvironmentId;
use mezusphere_model::link::Credential;
use tunnel_proto::assertion::{self, Audience};
use tunnel_proto::jws::Jwk;

use super::feed::published;
use super::*;
use crate::config::ASSERTION_TTL;
use crate::keys::AssertionRotation;
use crate::keys::run::Turn;

/// Between two looks of this test.
const TICK: Duration = Duration::from_mins(5);

/// Keys of two hours, so that several follow one another while a certificate lives.
fn quick() -> ControlConfig {
    ControlConfig { assertion_rotation: AssertionRotation::every(Duration::from_hours(2)), ..development() }
}

/// What a warpgate and an application know.
#[derive(Clone)]
struct Known {
    bundle: Vec<Jwk>,
    platform: Vec<Jwk>,
}

impl World {
    /// What the jobs would do by now.
    async fn let_the_jobs_work(&self) {
        let shared = &self.control.shared;
        shared.renew_signer_if_due().await;
        while shared.turn_assertion_keys().await.unwrap() == Turn::Moved {}
        shared.beat().await.unwrap();
        shared.reconcile().await.unwrap();
    }

    async fn known(&self, project: ProjectId) -> Known {
        let (_, bundle) = published(self, project).await;
        let platform = self.documents(Partition::Platform).await.into_iter().find_map(|doc| match doc {
            Document::Platform(doc) => Some(Jwk::read_set(&doc.assertion_jwks)),
            _ => None,
        });
        Known { bundle: Jwk::read_set(&bundle.assertion_jwks), platform: platform.unwrap() }
    }

    async fn keys_of(&self) -> Vec<(u64, String)> {
        let keys = self.get("/assertion-keys").await.ok();
        let key = |key: &Value| (key["version"].as_u64().unwrap(), key["state"].as_str().unwrap().to_owned());
        keys["keys"].as_array().unwrap().iter().map(key).collect()
    }
}

impl crate::Shared {
    async fn renew_signer_if_due(&self) {
        if self.signer.load().renewal(&self.entropy).is_due(self.clock.now()) {
            assert!(self.renew_signer().await.unwrap());
        }
    }
}

#[tokio::test]
async fn r20_an_assertion_is_verified_at_every_moment_of_many_rotations_also_with_what_was_known_a_while_ago()
{
    let world = World::with(quick()).await;
    let project = world.project("shop").await;
    let key = world.key("shop", &["request"]).await;
    let (site, _) = published(&world, project).await;
    let audience = Audience { project, environment: site.environment };
    let environment: EnvironmentId = site.environment;
    let link = world.link();
    let stale_ticks =
        usize::try_from(AssertionRotation::default().known_after.as_secs() / TICK.as_secs()).unwrap();
    let live_ticks = usize::try_from(ASSERTION_TTL.as_secs() / TICK.as_secs()).unwrap();
    let mut before: VecDeque<Known> = VecDeque::new();
    let mut minted: VecDeque<String> = VecDeque::new();
    let mut signed_by = BTreeSet::new();
    let mut largest = 0;
    // Half a day: six keys' lives.
    for tick in 0..144 {
        world.let_the_jobs_work().await;
        let now = world.hand.clock().now();
        let known = world.known(project).await;
        before.push_front(known.clone());
        before.truncate(stale_ticks + 1);
        let credential = Credential::ApiKey(key.parse().unwrap());
        let fresh = link.assertion(credential, environment).await.unwrap();
        minted.push_front(fresh.jws.clone());
        minted.truncate(live_ticks);
        let verifies = |jws: &str, keys: &[Jwk]| assertion::verify(jws, keys, audience, now).map(drop);
        // A fresh one, by whoever has not heard of control for as long as that is allowed.
        for (ago, old) in before.iter().enumerate() {
            assert_eq!(verifies(&fresh.jws, &old.bundle), Ok(()), "tick {tick}, a bundle {ago} ticks old");
            assert_eq!(verifies(&fresh.jws, &old.platform), Ok(()), "tick {tick}, a key set {ago} ticks old");
        }
        // Old ones, as long as they live, by whoever is up to date.
        for jws in minted.iter().take(live_ticks - 1) {
            assert_eq!(verifies(jws, &known.bundle), Ok(()), "tick {tick}");
        }
        signed_by.extend(world.keys_of().await.into_iter().filter(|(_, state)| state == "current"));
        largest = largest.max(known.bundle.len());
        world.hand.advance(TICK);
    }
    assert!(signed_by.len() >= 6, "{signed_by:?}");
    assert!(largest <= 3, "old keys go: {largest} were published at once");
}

#[tokio::test]
async fn a_rotation_by_hand_is_asked_for_once_and_waits_until_the_key_is_known() {
    let world = World::with(quick()).await;
    world.let_the_jobs_work().await;
    assert_eq!(world.keys_of().await, [(1, "current".to_owned())]);
    world.post("/assertion-keys", json!({})).await.ok();
    world.post("/assertion-keys", json!({})).await.refused(409, "object.exists");
    world.let_the_jobs_work().await;
    let both = [(2, "next".to_owned()), (1, "current".to_owned())];
    assert_eq!(world.keys_of().await, both);
    // Published with the next look, and known some time later.
    world.let_the_jobs_work().await;
    world.advance(10 * 60);
    world.let_the_jobs_work().await;
    assert_eq!(world.keys_of().await, both);
    world.advance(6 * 60);
    world.let_the_jobs_work().await;
    assert_eq!(world.keys_of().await, [(2, "current".to_owned()), (1, "retiring".to_owned())]);
    let audit = world.get("/audit").await.ok().to_string();
    assert!(audit.contains("assertion_key.rotate") && audit.contains("assertion_key.request"), "{audit}");
    world.advance(61 * 60);
    world.let_the_jobs_work().await;
    assert_eq!(world.keys_of().await, [(2, "current".to_owned())]);
}

#[tokio::test]
async fn a_life_that_is_too_short_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let short = AssertionRotation::every(Duration::from_mins(59));
    let config = ControlConfig { assertion_rotation: short, ..development() };
    let why = open(dir.path(), &ManualClock::at(BEGIN), &entropy(), config, 7).await.err().unwrap();
    assert!(matches!(why, OpenError::AssertionLife(_)), "{why}");
}
