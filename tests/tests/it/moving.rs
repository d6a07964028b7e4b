//! A single node that has grown: its state moves into PostgreSQL while it serves, and nobody is signed out.

use anyhow::{Context as _, Result};
use http::StatusCode;
use mezusphere_tests::client::browser::Browser;
use mezusphere_tests::postgres::Postgres;
use mezusphere_tests::system::Node;
use mezusphere_tests::upstream::Upstream;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_moves_to_postgresql_and_nobody_is_signed_out() -> Result<()> {
    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    let _gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    let at = format!("https://{}:{}/account/me", shop.host, node.port);
    let mut browser = Browser::new(&node.roots());
    assert_eq!(browser.sign_in(&at, &shop.email, &shop.password).await?.status, StatusCode::OK);

    let postgres = Postgres::start().await?;
    let url = postgres.url();
    let moved = node.admin(&["store", "migrate", "--to", &url]).await?;
    assert!(moved["rows"].as_u64().context("a count")? > 20, "{moved}");
    let users =
        postgres.sql("mezusphere", "SELECT count(*) FROM users WHERE email = 'ada@example.com'").await?;
    assert_eq!(users, "1");

    // Until it is started again it serves, and says where changes have gone.
    assert_eq!(browser.load(&at).await?.status, StatusCode::OK);
    let refused = node.try_admin(&["project", "create", "late"]).await?;
    assert!(!refused.status.success(), "a change after the move would be lost");
    let again = node.try_admin(&["store", "migrate", "--to", &url]).await?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(4), "{said}");

    // Without --store it does not start any more; with it, everything is there.
    let mut node = node.stop().await?;
    let (code, said) = node.fails_to_start().await?;
    assert_eq!(code, 11, "{said}");
    assert!(said.contains("was moved to") && said.contains("--store"), "{said}");
    node.add_flags(&["--store", &url]);
    let node = node.start_again().await?;
    node.tunnelled(&shop.host).await?;
    let arrived = browser.load(&at).await?;
    assert_eq!(arrived.status, StatusCode::OK, "{}", arrived.body);
    node.admin(&["project", "create", "late"]).await?;
    let projects = postgres.sql("mezusphere", "SELECT count(*) FROM projects WHERE slug = 'late'").await?;
    assert_eq!(projects, "1");
    Ok(())
}
