//! Bad input around nodes: tokens, databases and data directories that are not what they should be.

use std::time::Duration;

use anyhow::{Context as _, Result};
use mezusphere_tests::cluster::Cluster;
use mezusphere_tests::postgres::Postgres;
use mezusphere_tests::program::run;
use mezusphere_tests::system::free_port;
use serde_json::Value;

/// Starts `mezusphere serve` with these arguments and gives exit code and output once it has ended.
async fn fails(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(i32, String)> {
    run("mezusphere", &[&["serve"], arguments].concat(), environment).await
}

async fn invite(cluster: &Cluster, more: &[&str]) -> Result<(String, String)> {
    let invited = cluster.admin().run(&[&["edge", "invite", "edge-x"], more].concat()).await?;
    let text = |name: &str| invited.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok((text("token").context("a token")?, text("id").context("an id")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_is_good_once_in_time_and_here() -> Result<()> {
    let cluster = Cluster::start(1, &[]).await?;
    let other = Cluster::start(0, &[]).await?;
    let at = format!("127.0.0.9:{}", free_port()?);
    let join = async |token: &str| {
        let data = tempfile::tempdir()?;
        let data = data.path().display().to_string();
        let words = ["--role", "edge", "--data", &data, "--listen", &at, "--advertise", &at];
        fails(&words, &[("MEZUSPHERE_JOIN", token)]).await
    };

    // The first edge's token was used by its start.
    let used = cluster.edges[0].member.token().context("the first edge had a token")?;
    let (code, said) = join(used).await?;
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("join.used") && said.contains("next:"), "{said}");

    let (expired, _) = invite(&cluster, &["--expires-in", "1s"]).await?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (code, said) = join(&expired).await?;
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("join.expired"), "{said}");

    let (revoked, id) = invite(&cluster, &[]).await?;
    cluster.admin().run(&["edge", "uninvite", &id]).await?;
    let (code, said) = join(&revoked).await?;
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("join."), "{said}");

    let (mistyped, _) = invite(&cluster, &[]).await?;
    let (code, said) = join(&mistyped[..mistyped.len() - 3]).await?;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("incomplete") && !said.contains(&mistyped[4..40]), "{said}");

    let (code, said) = join("mzw_AAAA").await?;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("connection key"), "{said}");

    // A member of one installation, started with a token of another.
    let (foreign, _) = invite(&other, &[]).await?;
    let words = cluster.edges[0].member.words();
    let mut cluster = cluster;
    cluster.edges[0].member.kill().await?;
    let words: Vec<&str> = words.iter().map(String::as_str).skip(1).collect();
    let (code, said) = fails(&words, &[("MEZUSPHERE_JOIN", &foreign)]).await?;
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("another installation"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_ours_or_newer_is_left_alone() -> Result<()> {
    let postgres = Postgres::start().await?;
    let start = async |url: &str| {
        let data = tempfile::tempdir()?;
        let data = data.path().display().to_string();
        let node = format!("127.0.0.1:{}", free_port()?);
        let words = ["--role", "control", "--data", &data, "--node-listen", &node, "--node-advertise", &node];
        fails(&words, &[("MEZUSPHERE_STORE", url)]).await
    };

    postgres.sql("postgres", "CREATE DATABASE other OWNER mezusphere").await?;
    postgres.sql("other", "CREATE TABLE orders (id BIGINT)").await?;
    let (code, said) = start(&postgres.url_of("other")).await?;
    assert_eq!(code, 11, "{said}");
    assert!(said.contains("not a database of this product") && said.contains("next:"), "{said}");
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
    assert_eq!(postgres.sql("other", tables).await?, "1", "nothing was made in it");

    let (code, said) = start("postgres://nobody:hunter2hunter2@127.0.0.1:1/none").await?;
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("127.0.0.1") && !said.contains("hunter2"), "{said}");

    let (code, said) = start("mysql://a@b/c").await?;
    assert_eq!(code, 2, "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_told_what_they_lack() -> Result<()> {
    let data = tempfile::tempdir()?;
    let data = data.path().display().to_string();
    let at = format!("127.0.0.1:{}", free_port()?);
    let rows: [(&[&str], &str); 4] = [
        (&["--role", "edge", "--listen", &at], "--advertise"),
        (&["--role", "edge", "--listen", &at, "--advertise", &at], "mezusphere edge invite"),
        (&["--role", "edge", "--advertise", &at, "--store", "postgres://a@b/c"], "--store"),
        (&["--role", "control", "--listen", &at], "--node-listen"),
    ];
    for (words, named) in rows {
        let (code, said) = fails(&[words, &["--data", &data]].concat(), &[]).await?;
        assert_eq!(code, 2, "{words:?}: {said}");
        assert!(said.contains(named) && said.contains("next:"), "{words:?}: {said}");
    }
    Ok(())
}
