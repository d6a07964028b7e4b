//! A server that is killed in the middle of an order goes on with that order.

use anyhow::Result;
use mezusphere_tests::pebble::Habits;

use super::scene::{ORDERED_WITHIN, Scene, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_survives_a_kill_in_its_middle() -> Result<()> {
    // Pebble looks for the proof after up to 4 s: time to be killed in. Hosts of the platform stay with the internal CA.
    let habits = Habits { sleeps: 4, ..Habits::default() };
    let flags = ["--custom-domains", "trusted", "--acme-challenge", "http-01"];
    let mut scene = Scene::start(&habits, &flags).await?;
    let node = &scene.node;
    node.admin(&["project", "create", "shop"]).await?;
    node.admin(&["host", "add", "shop", "www.shop.test"]).await?;
    assert_eq!(scene.pebble.orders(), 0, "a host without a route orders nothing");
    node.admin(&["route", "add", "shop", "/*", "--auth", "public"]).await?;
    until(ORDERED_WITHIN, async || {
        anyhow::ensure!(scene.pebble.orders() == 1, "no order yet: {:#?}", scene.pebble.output());
        let shown = scene.certificate("www.shop.test").await?;
        anyhow::ensure!(shown["state"] == "ordering", "{shown}");
        Ok(())
    })
    .await?;
    scene.node = scene.node.kill_and_restart().await?;
    scene.served("www.shop.test").await?;
    assert_eq!(scene.pebble.orders(), 1, "the same order: {:#?}", scene.pebble.output());
    let events = scene.node.admin(&["certificate", "events", "www.shop.test"]).await?;
    assert!(events.as_array().is_some_and(|all| all.len() >= 3), "{events}");
    Ok(())
}
