//! What control is told of, and what becomes of it while control is away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mezusphere_edge::tunnel::TunnelLimits;
use mezusphere_edge::view::ViewLimits;

use crate::warpgate::{Exchange, Tell};
use crate::world::{ENVIRONMENT, SOON, USER, World, get_as};

async fn ok(exchange: Exchange) {
    exchange.respond(200, &[], b"ok").await;
}

/// Waits until something has come true.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(SOON, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

#[tokio::test]
async fn control_hears_of_tunnels_that_come_and_go() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let uri = world.warpgate_uri(6);
    until("it came", || world.link.connected() == [uri.clone()]).await;
    let report = world.link.listed.lock().unwrap()[&uri].clone();
    assert_eq!((report.environment, report.agent.as_str()), (ENVIRONMENT, "warpgate/test"));
    assert_eq!(report.upstreams, ["default"]);
    warpgate.tell.send(Tell::Withdraw(mezusphere_model::slug::Slug::parse("default").unwrap())).unwrap();
    until("it offers nothing", || world.link.listed.lock().unwrap()[&uri].upstreams.is_empty()).await;
    world.hand.advance(Duration::from_secs(1));
    warpgate.vanish();
    until("it went", || world.link.connected().is_empty()).await;
}

#[tokio::test]
async fn the_end_of_a_replaced_connection_does_not_unlist_its_successor() {
    let (world, old) = World::with_warpgate(ok).await;
    world.hand.advance(Duration::from_mins(1));
    let new = world.warpgate(6, ok).await;
    tokio::time::timeout(SOON, old.connection.closed()).await.unwrap();
    // Whatever is said of another one from here on comes after what would have been said of the old one.
    let other = world.warpgate(7, ok).await;
    until("both are listed", || world.link.connected().len() == 2).await;
    assert!(world.link.tunnels.lock().unwrap().iter().all(|report| report.connected));
    drop((new, other));
}

#[tokio::test]
async fn no_list_shows_a_tunnel_that_ended_while_control_was_away() {
    let (world, first) = World::with_warpgate(ok).await;
    let second = world.warpgate(7, ok).await;
    until("both are listed", || world.link.connected().len() == 2).await;
    let told_all = world.link.told_all.load(Ordering::SeqCst);
    assert_eq!(told_all, 1, "at the start");
    world.link.away.store(true, Ordering::SeqCst);
    world.hand.advance(Duration::from_mins(1));
    first.vanish();
    until("it ended", || world.tunnels.len() == 1).await;
    let third = world.warpgate(8, ok).await;
    // Nothing gets through for a while…
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.link.connected(), [world.warpgate_uri(6), world.warpgate_uri(7)]);
    // …and then everything does.
    world.link.away.store(false, Ordering::SeqCst);
    let now = [world.warpgate_uri(7), world.warpgate_uri(8)];
    until("the list is right", || world.link.connected() == now).await;
    assert_eq!(world.link.told_all.load(Ordering::SeqCst), told_all + 1);
    drop((second, third));
}

#[tokio::test]
async fn a_control_that_lost_its_list_is_told_all_of_it() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let uri = world.warpgate_uri(6);
    until("it is listed", || world.link.connected() == [uri.clone()]).await;
    // Another control node answers, with a list of long ago.
    let mut ghost = world.link.listed.lock().unwrap()[&uri].clone();
    ghost.warpgate = world.warpgate_uri(9);
    ghost.at = ghost.at.before(Duration::from_hours(1));
    let listed = [(ghost.warpgate.clone(), ghost)].into();
    *world.link.listed.lock().unwrap() = listed;
    world.link.contacts.fetch_add(1, Ordering::SeqCst);
    until("the list is right", || world.link.connected() == [uri.clone()]).await;
    drop(warpgate);
}

#[tokio::test(start_paused = true)]
async fn denials_that_control_could_not_take_are_told_when_it_is_back() {
    let world = World::new();
    let cookie = world.sign_in(&["visitor"]);
    world.settle().await;
    world.link.away.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        for _ in 0..3 {
            assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 403);
        }
        // Several reports fail meanwhile.
        tokio::time::sleep(Duration::from_secs(25)).await;
    }
    assert!(world.link.denied.lock().unwrap().is_empty());
    world.link.away.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(11)).await;
    let told = world.link.denied.lock().unwrap().clone();
    assert_eq!(told.len(), 1, "one entry");
    assert_eq!((told[0].count, told[0].subject.clone()), (15, Some(USER.to_string())));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(world.link.denied.lock().unwrap().len(), 1, "told once");
}

#[tokio::test(start_paused = true)]
async fn activity_that_control_could_not_take_is_told_when_it_is_back_the_newest_only() {
    let world = World::new();
    let cookie = world.sign_in(&["visitor"]);
    world.settle().await;
    world.link.away.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        // A tenth of the idle limit of an hour.
        world.hand.advance(Duration::from_mins(6));
        assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 403);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let seen_at = world.hand.clock().now();
    assert!(world.link.seen.lock().unwrap().is_empty());
    world.link.away.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let told: Vec<_> = world.link.seen.lock().unwrap().iter().map(|seen| seen.seen_at).collect();
    assert_eq!(told, [seen_at]);
}

#[tokio::test(start_paused = true)]
async fn a_control_that_never_answers_holds_up_no_later_report() {
    let world = World::limited(ViewLimits::default(), TunnelLimits::default());
    let cookie = world.sign_in(&["visitor"]);
    world.settle().await;
    world.link.silent.store(true, Ordering::SeqCst);
    world.hand.advance(Duration::from_mins(6));
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 403);
    tokio::time::sleep(Duration::from_secs(15)).await;
    // What was never answered may have been taken, and is told again.
    world.link.silent.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(world.link.seen.lock().unwrap().len() >= 2);
    assert!(world.link.denied.lock().unwrap().len() >= 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_dropped_for_want_of_room_can_be_seen() {
    let world = World::new();
    let shown = world.metrics.encode();
    for kind in ["edge_activity_dropped", "edge_denials_dropped", "edge_tunnel_reports_dropped"] {
        assert!(shown.contains(&format!("test_{kind} 0")), "{kind}: {shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn r12_a_session_in_use_is_reported_once_per_tenth_of_its_idle_limit() {
    let world = World::new();
    let cookie = world.sign_in(&["visitor"]);
    world.settle().await;
    // An hour of requests, one every ten seconds, under an idle limit of an hour.
    for _ in 0..360 {
        world.hand.advance(Duration::from_secs(10));
        assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 403);
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let told: Vec<_> = world.link.seen.lock().unwrap().iter().map(|seen| seen.seen_at).collect();
    assert_eq!(told.len(), 10, "{told:?}");
    let gaps = told.windows(2).map(|pair| pair[1].since(pair[0]));
    assert!(gaps.into_iter().all(|gap| gap == Duration::from_mins(6)), "{told:?}");
}
