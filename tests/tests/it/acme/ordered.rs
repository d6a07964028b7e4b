//! From nothing to a certificate that everybody accepts, without anybody's hand.

use anyhow::{Context as _, Result};
use mezusphere_tests::pebble::{EXTERNAL_KEY, Habits};
use serde_json::Value;
use tokio::process::Command;

use super::scene::{ORDERED_WITHIN, Scene, until};

const PLATFORM: [&str; 4] = ["--base", "mezu.test", "--apps", "apps.test"];

#[tokio::test(flavor = "multi_thread")]
async fn a_route_brings_a_certificate_that_curl_and_chromium_accept() -> Result<()> {
    let habits = Habits { external_account: true, ..Habits::default() };
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("eab.key");
    std::fs::write(&key, EXTERNAL_KEY)?;
    let key = key.display().to_string();
    let account = ["--acme-eab-kid", "kid-1", "--acme-eab-key-file", &key];
    let scene = Scene::start(&habits, &[PLATFORM.as_slice(), &account].concat()).await?;
    let node = &scene.node;
    node.admin(&["project", "create", "shop"]).await?;
    let before = node.try_admin(&["certificate", "show", "shop.apps.test"]).await?;
    assert!(!before.status.success(), "nothing is ordered for a host without a route");
    node.admin(&["route", "add", "shop", "/*", "--auth", "public"]).await?;
    scene.served("shop.apps.test").await?;
    for host in ["console.mezu.test", "login.mezu.test", "connect.mezu.test"] {
        scene.served(host).await?;
    }

    let url = format!("https://shop.apps.test:{}/", node.port);
    let told = curl(&scene, &url).await?;
    assert!(told.contains("edge.no_tunnel"), "{told}");
    let told = chromium(&scene, &url).await?;
    assert!(told.contains("edge.no_tunnel"), "{told}");

    // What people are told of it.
    let shown = scene.certificate("shop.apps.test").await?;
    assert_eq!((&shown["state"], &shown["source"]), (&"valid".into(), &"acme".into()), "{shown}");
    for field in ["not_before", "not_after", "renew_at", "authority"] {
        assert!(shown[field].is_string(), "{field}: {shown}");
    }
    assert!(
        shown["error"].is_null() && shown["events"].as_array().is_some_and(|all| all.len() >= 3),
        "{shown}"
    );
    let listed = node.admin(&["host", "list", "shop"]).await?;
    assert_eq!(listed[0]["certificate"]["state"], "valid", "{listed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_domain_is_proven_by_dns_and_then_ordered() -> Result<()> {
    // The server must know the name server, which starts with the scene: so it is started again with it.
    let scene = Scene::start(&Habits::default(), &PLATFORM).await?;
    let Scene { names, pebble, node } = scene;
    let mut stopped = node.stop().await?;
    stopped.add_flags(&["--dns-resolver", &names.at.to_string()]);
    let scene = Scene { node: stopped.start_again().await?, names, pebble };
    let node = &scene.node;
    node.admin(&["project", "create", "shop"]).await?;
    node.admin(&["route", "add", "shop", "/*", "--auth", "public"]).await?;
    let added = node.admin(&["host", "add", "shop", "www.shop.test"]).await?;
    let text = |at: &str| added.pointer(at).and_then(Value::as_str).context(at.to_owned());
    assert_eq!(text("/state")?, "pending");
    let early = node.try_admin(&["host", "verify", "shop", "www.shop.test"]).await?;
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(!early.status.success() && said.contains("host.unproven"), "{said}");
    scene.names.text(text("/verification/record")?, text("/verification/value")?).await?;
    node.admin(&["host", "verify", "shop", "www.shop.test"]).await?;
    scene.served("www.shop.test").await?;

    // Gone with its host.
    node.admin(&["host", "remove", "shop", "www.shop.test"]).await?;
    until(ORDERED_WITHIN, async || {
        let gone = super::scene::leaf(scene.at(), "www.shop.test", &scene.pebble.root(), None).await;
        anyhow::ensure!(gone.is_err(), "still served");
        Ok(())
    })
    .await?;
    let shown = node.try_admin(&["certificate", "show", "www.shop.test"]).await?;
    assert!(!shown.status.success());
    Ok(())
}

async fn curl(scene: &Scene, url: &str) -> Result<String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]).arg(scene.pebble.root());
    command.arg("--resolve").arg(format!("shop.apps.test:{}:127.0.0.1", scene.node.port)).arg(url);
    let output = command.kill_on_drop(true).output().await?;
    anyhow::ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The page in a chromium that has the authority's root in its store, and checks certificates.
async fn chromium(scene: &Scene, url: &str) -> Result<String> {
    let home = tempfile::tempdir()?;
    let store = home.path().join(".pki/nssdb");
    std::fs::create_dir_all(&store)?;
    let database = format!("sql:{}", store.display());
    let root = scene.pebble.root().display().to_string();
    for words in
        [["-N", "--empty-password"].as_slice(), ["-A", "-n", "pebble", "-t", "C,,", "-i", &root].as_slice()]
    {
        let done = Command::new("certutil").args(["-d", &database]).args(words).output().await?;
        anyhow::ensure!(done.status.success(), "certutil: {}", String::from_utf8_lossy(&done.stderr));
    }
    let program = std::env::var("MEZU_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    let mut command = Command::new(program);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", home.path().join("profile").display()))
        .args(["--host-resolver-rules=MAP * 127.0.0.1", "--dump-dom", url])
        .env("HOME", home.path())
        .kill_on_drop(true);
    let output =
        tokio::time::timeout(ORDERED_WITHIN, command.output()).await.context("chromium does not end")??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}
