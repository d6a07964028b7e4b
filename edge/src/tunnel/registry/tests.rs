//! Who is chosen: of tunnels that nobody speaks on, entered as warpgates would have it.

use std::collections::BTreeMap;
use std::time::Duration;

use mezusphere_model::id::{EnvironmentId, ProjectId, WarpgateId};
use tunnel_proto::control::{HealthState, UpstreamHealth};
use tunnel_proto::limits::PING_EVERY;

use super::*;
use crate::tunnel::tcp;
use crate::tunnel::transport::Transport;

const PROJECT: ProjectId = ProjectId::from_bits(4);
const ENVIRONMENT: EnvironmentId = EnvironmentId::from_bits(5);

fn web() -> Slug {
    Slug::parse("web").unwrap()
}

/// A tunnel of the warpgate with this number; its other end is gone, which choosing does not ask about.
async fn tunnel(warpgate: u128) -> Arc<Tunnel> {
    let (near, _far) = tokio::io::duplex(1024);
    let (transport, _driver) = tcp::begin(near, ([192, 0, 2, 1], 9).into()).await.unwrap();
    let name = (PROJECT, ENVIRONMENT, WarpgateId::from_bits(warpgate));
    Arc::new(Tunnel::new(Transport::Tcp(transport), name, 0, vec![web()]))
}

async fn registry(warpgates: impl IntoIterator<Item = u128>) -> (Registry, BTreeMap<u128, Arc<Tunnel>>) {
    let (registry, mut tunnels) = (Registry::new(), BTreeMap::new());
    for warpgate in warpgates {
        let tunnel = tunnel(warpgate).await;
        registry.enter(&tunnel).unwrap();
        tunnels.insert(warpgate, tunnel);
    }
    (registry, tunnels)
}

/// Draws that differ in both halves.
fn dice(n: u64) -> u64 {
    (n ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn choose(registry: &Registry, n: u64, affinity: Option<Affinity>) -> Chosen {
    let upstream = web();
    let wanted =
        Wanted { project: PROJECT, environment: ENVIRONMENT, upstream: &upstream, dice: dice(n), affinity };
    registry.choose(&wanted, &[]).unwrap()
}

/// Who gets each of so many exchanges that take no time.
fn shares(registry: &Registry, count: u64) -> BTreeMap<u128, usize> {
    let mut shares = BTreeMap::new();
    for n in 0..count {
        *shares.entry(choose(registry, n, None).warpgate.bits()).or_default() += 1;
    }
    shares
}

fn health(state: HealthState) -> UpstreamHealth {
    UpstreamHealth { upstream: web(), state, reason: String::new() }
}

#[tokio::test(start_paused = true)]
async fn exchanges_are_spread_over_all_that_are_well() {
    let (registry, _tunnels) = registry(1..=4).await;
    let shares = shares(&registry, 400);
    assert!(shares.len() == 4 && shares.values().all(|share| *share > 50), "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_says_its_upstream_is_bad_gets_an_exchange_only_if_nobody_else_can() {
    let (registry, tunnels) = registry(1..=3).await;
    tunnels[&2].tell_health(health(HealthState::Bad));
    assert_eq!(shares(&registry, 100).keys().copied().collect::<Vec<_>>(), [1, 3]);
    for sick in [1, 3] {
        tunnels[&sick].tell_health(health(HealthState::Bad));
    }
    assert_eq!(shares(&registry, 100).len(), 3, "all alike again");
    tunnels[&2].tell_health(health(HealthState::Good));
    assert_eq!(shares(&registry, 100).into_keys().collect::<Vec<_>>(), [2]);
    // What is said of an upstream that was not declared is not kept.
    tunnels[&2]
        .tell_health(UpstreamHealth { upstream: Slug::parse("other").unwrap(), ..health(HealthState::Bad) });
    assert!(tunnels[&2].bad_upstreams().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_fails_in_a_row_is_set_aside_for_a_while_but_never_the_last() {
    let (registry, _tunnels) = registry([1, 2]).await;
    let fail = |only: u128| {
        for n in 0..400 {
            let chosen = choose(&registry, n, None);
            if chosen.warpgate.bits() == only {
                chosen.failed();
            } else {
                chosen.answered(false);
            }
        }
    };
    fail(1);
    assert_eq!(shares(&registry, 100).into_keys().collect::<Vec<_>>(), [2]);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(shares(&registry, 100).len(), 2, "tried again");
    fail(1);
    fail(2);
    assert!(!shares(&registry, 100).is_empty(), "somebody is chosen though all fail");
}

#[tokio::test(start_paused = true)]
async fn whoever_was_not_heard_for_two_pings_gets_nothing_that_another_can_take() {
    let (registry, tunnels) = registry([1, 2]).await;
    tokio::time::advance(PING_EVERY * 2 + Duration::from_millis(1)).await;
    tunnels[&2].was_heard();
    assert_eq!(shares(&registry, 100).into_keys().collect::<Vec<_>>(), [2]);
    tunnels[&1].was_heard();
    assert_eq!(shares(&registry, 100).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_slow_gets_less_and_is_tried_again_later() {
    let (registry, tunnels) = registry([1, 2]).await;
    for n in 0..40 {
        let chosen = choose(&registry, n, None);
        if chosen.warpgate.bits() == 1 {
            tokio::time::advance(Duration::from_millis(300)).await;
        }
        chosen.answered(true);
    }
    let loaded: Vec<_> = (0..20).map(|n| choose(&registry, n, None)).collect();
    let on_slow = loaded.iter().filter(|chosen| chosen.warpgate.bits() == 1).count();
    // A draw may be the slow one twice: that is left to chance.
    assert!(on_slow < 10, "{on_slow}");
    drop(loaded);
    tokio::time::advance(Duration::from_mins(2)).await;
    for tunnel in tunnels.values() {
        tunnel.was_heard();
    }
    let shares = shares(&registry, 100);
    assert!(shares.values().all(|share| *share > 20), "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn an_affinity_keeps_to_one_warpgate_and_moves_only_when_that_one_cannot() {
    let (registry, tunnels) = registry(1..=5).await;
    let of = |n: u64| choose(&registry, n * 7, Some(Affinity::of(&n))).warpgate.bits();
    let before: Vec<_> = (0..1000).map(of).collect();
    assert_eq!(before, (0..1000).map(of).collect::<Vec<_>>(), "whatever is drawn");
    for warpgate in 1..=5 {
        let share = before.iter().filter(|at| **at == warpgate).count();
        assert!((120..280).contains(&share), "{share} at {warpgate}");
    }
    let moved = |after: &[u128]| before.iter().zip(after).filter(|(a, b)| a != b).count();
    let at_two = before.iter().filter(|at| **at == 2).count();
    registry.leave(&tunnels[&2]);
    let without: Vec<_> = (0..1000).map(of).collect();
    assert_eq!(moved(&without), at_two, "only its own go elsewhere");
    // It comes back over another connection.
    registry.enter(&tunnel(2).await).unwrap();
    assert_eq!(moved(&(0..1000).map(of).collect::<Vec<_>>()), 0);
    // Affinity does not go before health.
    tunnels[&3].tell_health(health(HealthState::Bad));
    assert!((0..1000).map(of).all(|at| at != 3));
}

#[tokio::test(start_paused = true)]
async fn r22_no_exchange_goes_to_another_projects_warpgate_or_to_one_that_was_tried() {
    let (registry, tunnels) = registry([1, 2]).await;
    let upstream = web();
    let wanted =
        |project| Wanted { project, environment: ENVIRONMENT, upstream: &upstream, dice: 7, affinity: None };
    let other = ProjectId::from_bits(9);
    assert_eq!(registry.choose(&wanted(other), &[]).map(|_| ()), Err(NoTunnel::None));
    let tried = [Arc::clone(&tunnels[&1])];
    for _ in 0..20 {
        assert_eq!(registry.choose(&wanted(PROJECT), &tried).unwrap().warpgate.bits(), 2);
    }
    let both: Vec<_> = tunnels.values().cloned().collect();
    assert_eq!(registry.choose(&wanted(PROJECT), &both).map(|_| ()), Err(NoTunnel::None));
    let unknown = Slug::parse("unknown").unwrap();
    let wanted = Wanted { upstream: &unknown, ..wanted(PROJECT) };
    assert_eq!(registry.choose(&wanted, &[]).map(|_| ()), Err(NoTunnel::OtherUpstreams));
}
