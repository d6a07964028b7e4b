//! Two control nodes of one installation see the same wish: one of them orders, once.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use mezusphere_tests::cluster::Cluster;
use mezusphere_tests::pebble::{Habits, Names, Pebble};
use mezusphere_tests::program::Program;
use mezusphere_tests::system::free_port;

use super::scene::{ORDERED_WITHIN, leaf, until};

/// Hosts that both want at the same time.
const HOSTS: [&str; 3] = ["one.shop.test", "two.shop.test", "three.shop.test"];

#[tokio::test(flavor = "multi_thread")]
async fn two_control_nodes_order_once() -> Result<()> {
    if !super::scene::is_full() {
        return Ok(());
    }
    let edge = Ipv4Addr::LOCALHOST;
    let names = Names::start(edge).await?;
    // The cluster chooses its port when it starts, and pebble must know it: the authority starts again with it.
    let pebble = Pebble::start(&Habits::default(), &names, (free_port()?, free_port()?)).await?;
    let ordering = pebble.flags();
    let flags: Vec<&str> =
        ordering.iter().map(String::as_str).chain(["--custom-domains", "trusted"]).collect();
    let cluster = Cluster::start(1, &flags).await?;
    let pebble = pebble.at_ports((free_port()?, cluster.port)).restart(&Habits::default()).await?;

    let (data, node) = (tempfile::tempdir()?, format!("127.0.0.1:{}", free_port()?));
    let (place, port) = (data.path().display().to_string(), cluster.port.to_string());
    let key = cluster.control.data().join("master.key").display().to_string();
    let mut words = vec!["serve", "--json", "--role", "control", "--name", "control-2", "--data", &place];
    words.extend(["--master-key-file", &key, "--public-port", &port, "--node-listen", &node]);
    words.extend(["--node-advertise", &node]);
    words.extend(&flags);
    let url = cluster.postgres.url();
    let second = Program::start("mezusphere", &words, &[("MEZUSPHERE_STORE", url.as_str())])?;
    second.event("ready").await?;

    let admin = cluster.admin();
    admin.run(&["project", "create", "shop"]).await?;
    for host in HOSTS {
        admin.run(&["host", "add", "shop", host]).await?;
    }
    admin.run(&["route", "add", "shop", "/*", "--auth", "public"]).await?;
    let at = SocketAddr::from((edge, cluster.port));
    for host in HOSTS {
        until(ORDERED_WITHIN, async || leaf(at, host, &pebble.root(), None).await).await.with_context(
            || {
                format!(
                    "{host}\ncontrol-2:\n{}\npebble:\n{}",
                    second.output().join("\n"),
                    pebble.output().join("\n")
                )
            },
        )?;
    }
    assert_eq!(pebble.orders(), HOSTS.len(), "one order for each host: {:#?}", pebble.output());
    Ok(())
}
