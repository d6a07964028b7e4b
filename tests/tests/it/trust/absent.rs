//! A node that was off while the installation's trust changed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::place::Place;

/// How far the clock is moved, so that an edge that is off counts as away: past half a minute, far from its certificate's end.
const AWAY_S: i64 = 60;

/// How long the rotation may take that waits for nobody but control, on a machine that does much else.
const ROTATES_WITHIN: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn r20_an_edge_that_was_off_while_the_root_was_replaced_comes_back_though_its_copy_is_gone()
-> Result<()> {
    let mut place = Place::start(&[]).await?;
    place.stop_edge().await?;
    place.clock.set(AWAY_S)?;
    let admin = place.admin();
    let before = admin.run(&["ca", "status"]).await?;
    admin.run(&["ca", "rotate", "--root", "--now"]).await?;
    let begun = Instant::now();
    let after = loop {
        let status = admin.run(&["ca", "status"]).await?;
        if status["rotation"].is_null() {
            break status;
        }
        ensure!(begun.elapsed() < ROTATES_WITHIN, "{status:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    ensure!(before["issuing"] != after["issuing"], "{after:#}");

    // It trusts the old root alone, its certificate is of a CA below that, and it waits for its first copy.
    std::fs::remove_dir_all(place.folder.path().join("edge/replica"))?;
    let edge = place.start_edge()?;
    edge.event("ready").await?;
    let audit = admin.run(&["audit", "list"]).await?;
    ensure!(audit.to_string().matches("edge.rejoin").count() == 1, "once is enough: {audit}");
    let status = admin.run(&["ca", "status"]).await?;
    let members = status["members"].as_array().context("members")?;
    let edge = members.iter().find(|member| member["role"] == "edge").context("the edge")?;
    ensure!(edge["ca"] == after["issuing"]["key_sha256"], "{status:#}");
    Ok(())
}
