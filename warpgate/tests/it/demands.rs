//! Networks, claims, strength and age of a sign-in, decided by the warpgate on the bundle and the assertion, whatever an
//! edge says (R6).

use std::time::Duration;

use crate::support::agent::Scene;
use crate::support::edge::{Order, head};
use crate::support::upstream::{self, OK};
use crate::support::{Platform, START, route};
use http::StatusCode;
use mezusphere_model::identity::{Assurance, Subject};
use mezusphere_model::route::{AuthMode, ClaimRule, RouteDoc, StepUp};
use serde_json::json;
use tunnel_proto::assertion::Claims;
use tunnel_proto::exchange::FailureCode::Denied;
use tunnel_proto::exchange::{IdentityRef, RequestHead};

/// Longest that clocks may differ.
const SKEW: Duration = Duration::from_mins(5);

fn demanding(id: u128, path: &str, change: impl FnOnce(&mut RouteDoc)) -> RouteDoc {
    let mut route = RouteDoc { min_reader: 3, ..route(id, path, AuthMode::Required) };
    change(&mut route);
    route
}

/// A platform with one route for each kind of demand.
fn platform() -> std::sync::Arc<Platform> {
    let platform = Platform::new();
    let mut near = demanding(11, "/near/*", |route| route.networks = vec!["192.0.2.0/24".parse().unwrap()]);
    near.auth = AuthMode::Public;
    let plan = ClaimRule { name: "plan".to_owned(), any_of: vec![json!("pro")] };
    let step_up = |acr, max_auth_age_s| StepUp { acr, max_auth_age_s };
    platform.site.lock().unwrap().routes.extend([
        near,
        demanding(12, "/plan/*", |route| route.require.claims = vec![plan]),
        demanding(13, "/strong/*", |route| route.step_up = step_up(Some(Assurance::Aal2), None)),
        demanding(14, "/young/*", |route| route.step_up = step_up(None, Some(900))),
        demanding(15, "/dry/*", |route| {
            route.step_up = step_up(Some(Assurance::Aal2), Some(60));
            route.networks = vec!["198.51.100.0/24".parse().unwrap()];
            route.enforce = false;
        }),
    ]);
    platform
}

/// A request of whoever `claims` says.
fn as_of(path: &str, id: u128, slot: u64, platform: &Platform, claims: &Claims) -> RequestHead {
    let identity = IdentityRef::Full { slot, assertion: platform.sign_claims(claims) };
    RequestHead { identity, ..head("GET", path, id) }
}

#[tokio::test]
async fn r06_an_edge_that_forgets_the_demands_of_a_route_is_refused() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::on(platform(), address).await;
    let platform = &scene.platform;
    let ada = platform.claims(&[]);
    let with_plan = |plan: &str| {
        let claims = [("plan".to_owned(), json!(plan))].into();
        Claims { claims, ..platform.claims(&[]) }
    };
    let strong = Claims { acr: "aal2".to_owned(), ..ada.clone() };
    let outside = RequestHead { client: "203.0.113.9".parse().unwrap(), ..head("GET", "/near/x", 11) };
    let inside = RequestHead { client: "192.0.2.9".parse().unwrap(), ..head("GET", "/near/x", 11) };
    let mapped = RequestHead { client: "::ffff:192.0.2.9".parse().unwrap(), ..head("GET", "/near/x", 11) };
    let passed = |what, head: RequestHead| (what, head, None);
    let denied = |what, head: RequestHead, why: &'static str| (what, head, Some(why));
    let rows = [
        denied("another network, on a public route", outside, "networks"),
        passed("the network", inside),
        passed("the network, written as IPv6", mapped),
        denied("nobody, where a claim is asked for", head("GET", "/plan/x", 12), "sign-in"),
        denied("without the claim", as_of("/plan/x", 12, 1, platform, &ada), "claim plan"),
        denied("another value of it", as_of("/plan/x", 12, 2, platform, &with_plan("free")), "claim plan"),
        passed("the claim", as_of("/plan/x", 12, 3, platform, &with_plan("pro"))),
        denied("one factor", as_of("/strong/x", 13, 4, platform, &ada), "aal2"),
        passed("two factors", as_of("/strong/x", 13, 5, platform, &strong)),
        denied("nobody, where a strong sign-in is asked for", head("GET", "/strong/x", 13), "sign-in"),
        denied("nobody, in a dry run", head("GET", "/dry/x", 15), "sign-in"),
        passed("somebody, in a dry run", as_of("/dry/x", 15, 6, platform, &ada)),
    ];
    for (what, head, why) in rows {
        let before = seen.requests().len();
        let answer = scene.tunnel.get(&head).await;
        let reached = seen.requests().len() - before;
        match why {
            None => assert_eq!((answer.status, reached), (Some(StatusCode::OK), 1), "{what}"),
            Some(why) => {
                let failure = answer.failure.unwrap();
                assert_eq!((failure.code, reached), (Denied, 0), "{what}");
                assert!(failure.detail.contains(why), "{what}: {}", failure.detail);
            }
        }
    }
}

#[tokio::test]
async fn r06_how_old_a_sign_in_is_the_assertion_says_and_the_warpgates_own_clock() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::on(platform(), address).await;
    let platform = &scene.platform;
    let signed_in = |ago: Duration| {
        let auth_time = platform.now().before(ago).as_seconds();
        Claims { auth_time, ..platform.claims(&[]) }
    };
    let age = Duration::from_mins(15);
    let second = Duration::from_secs(1);
    // What clocks may differ is forgiven here: the edge, which is nearer to control, has looked more closely.
    for (slot, ago, passes) in
        [(1, Duration::ZERO, true), (2, age, true), (3, age + SKEW, true), (4, age + SKEW + second, false)]
    {
        let before = seen.requests().len();
        let answer = scene.tunnel.get(&as_of("/young/x", 14, slot, platform, &signed_in(ago))).await;
        assert_eq!(answer.status == Some(StatusCode::OK), passes, "{ago:?}");
        assert_eq!(seen.requests().len() - before, usize::from(passes), "{ago:?}");
    }
    // A remembered identity grows older with the clock.
    assert_eq!(platform.now(), START);
    platform.hand.advance(age + SKEW + second);
    let known = RequestHead { identity: IdentityRef::Known(1), ..head("GET", "/young/x", 14) };
    assert_eq!(scene.tunnel.get(&known).await.failure.unwrap().code, Denied);
    // A machine's key was presented with the request, so there is nothing to grow old.
    let machine = mezusphere_model::id::ServiceAccountId::from_bits(3);
    let key = Claims { sub: Subject::ServiceAccount(machine), sid: None, ..signed_in(age * 9) };
    assert_eq!(
        scene.tunnel.get(&as_of("/young/x", 14, 9, platform, &key)).await.status,
        Some(StatusCode::OK)
    );
}

#[tokio::test]
async fn r06_a_dry_run_ends_when_control_says_so_and_not_when_an_edge_does() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::on(platform(), address).await;
    let platform = &scene.platform;
    let ada = platform.claims(&[]);
    assert_eq!(scene.tunnel.get(&as_of("/dry/x", 15, 1, platform, &ada)).await.status, Some(StatusCode::OK));
    // A bundle in which the edge switched the policy off: signed by itself, so it counts for nothing.
    let mut lenient = platform.bundle();
    lenient.site.revision = 9;
    for route in &mut lenient.site.routes {
        route.enforce = false;
    }
    let by_edge = Platform::sign(&lenient, &scene.edge.identity.get());
    scene.tunnel.order(Order::Bundle(by_edge)).await;
    let before = seen.requests().len();
    assert_eq!(
        scene.tunnel.get(&as_of("/strong/x", 13, 2, platform, &ada)).await.failure.unwrap().code,
        Denied
    );
    // Control enforces the route, and an edge that has not heard of it, or says so, is refused.
    let newer = platform.publish(|site| {
        for route in &mut site.routes {
            route.enforce = true;
        }
        // So that there is something to tell.
        site.routes.push(route(16, "/new", AuthMode::Public));
    });
    scene.tunnel.order(Order::Bundle(newer)).await;
    scene.agent.event("routes_changed").await;
    assert_eq!(scene.tunnel.get(&as_of("/dry/x", 15, 3, platform, &ada)).await.failure.unwrap().code, Denied);
    assert_eq!(seen.requests().len(), before);
}
