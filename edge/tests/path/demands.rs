//! Networks, claims, strength and age of a sign-in at the edge: who is let in, who is sent where, and what they are told.

use std::time::Duration;

use ::http::header::{LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use ::http::{HeaderMap, Method};
use mezusphere_model::document::{Document, Partition};
use mezusphere_model::id::RouteId;
use mezusphere_model::identity::{Assurance, Subject};
use mezusphere_model::route::{AuthMode, ClaimRule, RouteDoc};
use serde_json::json;

use crate::warpgate::Exchange;
use crate::world::{PROJECT, USER, World, code, empty, get, get_as, principal, read, request, route};

/// A page as browsers ask for it.
const PAGE: (&str, &str) = ("accept", "text/html");

/// The shop with `change` on the route `/customer/*`, which needs no role any more, and a warpgate that answers.
async fn guarded(change: impl Fn(&mut RouteDoc)) -> (World, crate::warpgate::Warpgate) {
    let (world, warpgate) =
        World::with_warpgate(|exchange: Exchange| exchange.respond(200, &[], b"secret")).await;
    world
        .publish(|site| {
            let mut guarded = route(3, "/customer/*", AuthMode::Required);
            change(&mut guarded);
            guarded.min_reader = 3;
            for known in &mut site.routes {
                if known.id == RouteId::from_bits(3) {
                    *known = guarded.clone();
                }
            }
        })
        .await;
    (world, warpgate)
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let pairs = headers.get_all(SET_COOKIE).iter();
    pairs.map(|field| field.to_str().unwrap().split(';').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn r01_a_client_of_another_network_gets_a_plain_403_signed_in_or_not() {
    // The tests' client is at 192.0.2.7.
    let (world, warpgate) = guarded(|route| route.networks = vec!["198.51.100.0/24".parse().unwrap()]).await;
    let cookie = world.sign_in(&[]);
    world.settle().await;
    for fields in
        [vec![], vec![("cookie", cookie.as_str())], vec![PAGE], vec![PAGE, ("cookie", cookie.as_str())]]
    {
        let answer = world.send(request(Method::GET, "/customer/x", &fields, empty())).await;
        let (status, headers, body) = read(answer).await;
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status, 403, "{fields:?}");
        assert!(!headers.contains_key(LOCATION) && cookies(&headers).is_empty(), "{fields:?}");
        let is_known = fields.iter().any(|(name, _)| *name == "cookie");
        assert_eq!(body.contains("network"), is_known, "a stranger is told no reason: {body}");
        assert!(!body.contains("198.51.100"), "{body}");
    }
    assert!(warpgate.log.lock().unwrap().is_empty());
    let metrics = world.metrics.encode();
    assert!(metrics.contains("test_edge_denials_total{reason=\"network\"} 4"), "{metrics}");
}

#[tokio::test]
async fn r01_a_client_of_the_network_passes_and_a_public_route_may_ask_for_one_too() {
    let (world, warpgate) = guarded(|route| route.networks = vec!["192.0.2.0/24".parse().unwrap()]).await;
    let cookie = world.sign_in(&[]);
    world.settle().await;
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
    assert_eq!(code(world.send(get("/customer/x")).await).await.1, "edge.sign_in_required");
    world
        .publish(|site| {
            let mut open = route(2, "/public/*", AuthMode::Public);
            (open.networks, open.min_reader) = (vec!["2001:db8::/32".parse().unwrap()], 3);
            site.routes[1] = open;
        })
        .await;
    assert_eq!(code(world.send(get("/public/x")).await).await, (403, "edge.denied".to_owned()));
    assert_eq!(warpgate.log.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn r01_a_claim_counts_from_the_moment_it_is_published() {
    let (world, warpgate) = guarded(|route| {
        route.require.claims = vec![ClaimRule { name: "plan".to_owned(), any_of: vec![json!("pro")] }];
    })
    .await;
    let cookie = world.sign_in(&[]);
    world.settle().await;
    let ask = async || world.send(get_as("/customer/x", &cookie)).await;
    let (status, _, body) = read(ask().await).await;
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status.as_u16(), told["reason"].as_str()), (403, Some("claim")));
    assert!(!told.to_string().contains("plan"), "which one is for the owner: {told}");
    let mut subscribed = principal(Subject::User(USER), PROJECT, &[]);
    subscribed.claims.insert("plan".to_owned(), json!(["free", "pro"]));
    subscribed.version = 2;
    world.documents.publish(Partition::Project(PROJECT), Document::Principal(subscribed));
    world.settle().await;
    assert_eq!(ask().await.status(), 200);
    assert_eq!(warpgate.log.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn r12_a_sign_in_that_is_too_old_is_asked_for_again_and_programs_get_the_challenge() {
    let (world, warpgate) = guarded(|route| route.step_up.max_auth_age_s = Some(900)).await;
    let cookie = world.sign_in(&[]);
    world.settle().await;
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
    world.hand.advance(Duration::from_secs(901));

    let fields = [("cookie", cookie.as_str()), PAGE];
    let answer = world.send(request(Method::GET, "/customer/x?a=1", &fields, empty())).await;
    let (status, headers, _) = read(answer).await;
    assert_eq!(status, 302);
    let to = headers[LOCATION].to_str().unwrap();
    assert!(to.starts_with("https://login.mezu.localhost:8443/sign-in?host=shop.localhost"), "{to}");
    assert!(to.contains("return_to=/customer/x%3Fa%3D1&") && to.ends_with("&max_age=900"), "{to}");

    let (status, headers, body) = read(world.send(get_as("/customer/x", &cookie)).await).await;
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status.as_u16(), told["code"].as_str()), (401, Some("edge.step_up_required")));
    let challenge = headers[WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.contains("insufficient_user_authentication"), "{challenge}");
    assert!(challenge.ends_with("max_age=\"900\""), "{challenge}");
    // A key is presented with each request, and never too old.
    let key = format!("Bearer {}", world.api_key(|_| {}));
    world.settle().await;
    let by_key = request(Method::GET, "/customer/x", &[("authorization", &key)], empty());
    assert_eq!(world.send(by_key).await.status(), 200);
    assert_eq!(warpgate.log.lock().unwrap().len(), 2);
    assert!(world.metrics.encode().contains("test_edge_denials_total{reason=\"too_old\"} 2"));
}

#[tokio::test]
async fn nobody_goes_round_in_circles_whatever_the_clocks_say() {
    let (world, _warpgate) = guarded(|route| route.step_up.acr = Some(Assurance::Aal2)).await;
    let first = world.sign_in(&[]);
    world.settle().await;
    let page = async |cookie: &str| {
        let fields = [("cookie", cookie), PAGE];
        let answer = world.send(request(Method::GET, "/customer/x", &fields, empty())).await;
        let (status, headers, body) = read(answer).await;
        (status.as_u16(), headers, String::from_utf8(body).unwrap())
    };
    let (status, headers, _) = page(&first).await;
    assert_eq!(status, 302);
    assert!(headers[LOCATION].to_str().unwrap().ends_with("&acr=aal2"));
    let marks = cookies(&headers).join("; ");
    // A second tab of the same session is sent there as well.
    assert_eq!(page(&format!("{first}; {marks}")).await.0, 302);
    // Whoever comes back with another session that is no stronger stays here, and is told why.
    let second = world.sign_in(&[]);
    world.settle().await;
    let (status, headers, body) = page(&format!("{second}; {marks}")).await;
    assert_eq!(status, 403, "{body}");
    assert!(!headers.contains_key(LOCATION));
    for part in ["a second factor", "zoe@shop.example", "edge.step_up_failed", "Use another account"] {
        assert!(body.contains(part), "{part}: {body}");
    }
    // A machine cannot sign in again.
    let key = format!("Bearer {}", world.api_key(|_| {}));
    world.settle().await;
    let by_key = request(Method::GET, "/customer/x", &[("authorization", &key), PAGE], empty());
    let (status, headers, _) = read(world.send(by_key).await).await;
    assert_eq!((status.as_u16(), headers.contains_key(LOCATION)), (403, false));
}

#[tokio::test]
async fn r01_a_dry_run_lets_nobody_in_who_is_not_signed_in_and_counts_the_rest() {
    let (world, warpgate) = guarded(|route| {
        route.networks = vec!["198.51.100.0/24".parse().unwrap()];
        route.enforce = false;
    })
    .await;
    let cookie = world.sign_in(&[]);
    world.settle().await;
    assert_eq!(code(world.send(get("/customer/x")).await).await, (401, "edge.sign_in_required".to_owned()));
    assert!(warpgate.log.lock().unwrap().is_empty());
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
    let metrics = world.metrics.encode();
    assert!(metrics.contains("test_edge_would_deny_total{reason=\"network\"} 1"), "{metrics}");
    assert!(world.link.denied.lock().unwrap().is_empty(), "nobody was denied");
}
