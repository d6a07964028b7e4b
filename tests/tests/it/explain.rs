//! `mezusphere explain`, about an address and about a line of the access log that a real edge wrote.

use anyhow::{Context as _, Result};
use mezusphere_tests::client::browser::Browser;
use mezusphere_tests::system::Node;
use mezusphere_tests::upstream::Upstream;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_what_decided_about_a_request_and_about_a_line_of_the_log() -> Result<()> {
    let node = Node::start(&[]).await?;
    let shop = node.seed_shop().await?;
    node.admin(&["route", "add", "shop", "/admin/*", "--auth", "required", "--role", "admin"]).await?;
    node.admin(&["role", "set", "shop", "admin", "--permission", "all:write"]).await?;
    let upstream = Upstream::start().await?;
    let _gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    node.routes(&shop.host, "/admin/x").await?;

    let url = format!("https://{}:{}/admin/x?secret=1", shop.host, node.port);
    let nobody = node.admin(&["explain", &url]).await?;
    assert_eq!(
        (&nobody["verdict"]["status"], &nobody["verdict"]["code"]),
        (&401.into(), &"edge.sign_in_required".into())
    );
    assert_eq!(nobody["place"]["project"], "shop");
    assert_eq!(nobody["route"]["path"], "/admin/*");
    let ada = node.admin(&["explain", &url, "--user", &shop.email]).await?;
    assert_eq!(
        (&ada["verdict"]["code"], &ada["verdict"]["reason"]),
        (&"edge.denied".into(), &"none_of_roles".into())
    );
    let change = ada["changes"][0].as_str().context("a command")?;
    assert_eq!(change, format!("mezusphere user set-roles shop {} --role customer --role admin", shop.email));
    let public = node.admin(&["explain", &format!("{}/anything", shop.host)]).await?;
    assert_eq!(public["verdict"]["allowed"], true);
    let unknown = node.admin(&["explain", "https://nothing.localhost/"]).await?;
    assert_eq!(unknown["verdict"]["code"], "edge.unknown_host");

    // What the edge writes down of the same.
    let mut browser = Browser::new(&node.roots());
    browser
        .sign_in(&format!("https://{}:{}/account/", shop.host, node.port), &shop.email, &shop.password)
        .await?;
    let denied = browser.load(&url).await?;
    assert_eq!(denied.status, 403);
    let is_it = |line: &str| line.contains("mezusphere::access") && line.contains("edge.denied");
    let line = node.server.line("the denied request", is_it).await?;
    let told = node.admin(&["explain", "--line", &line]).await?;
    assert_eq!(
        (&told["logged"]["decision"], &told["logged"]["path"]),
        (&"edge.denied".into(), &"/admin/x".into())
    );
    let now = &told["explained"];
    assert_eq!(
        (&now["caller"]["id"], &now["caller"]["signed_in"]),
        (&shop.user.clone().into(), &true.into())
    );
    assert_eq!(now["verdict"]["reason"], "none_of_roles");

    // What it says would change it does.
    let words: Vec<&str> = change.split(' ').skip(1).collect();
    node.admin(&words).await?;
    let told: Value = node.admin(&["explain", "--line", &line]).await?;
    assert_eq!(told["explained"]["verdict"]["allowed"], true, "{told}");
    let output = node.console().try_run(&["explain", "--line", "GET /nothing"]).await?;
    assert!(!output.status.success());
    Ok(())
}
