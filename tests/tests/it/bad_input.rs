//! What goes wrong in people's hands: one clear line, the right exit code, nothing lost.

use anyhow::Result;
use http::StatusCode;
use mezusphere_tests::client::browser::Browser;
use mezusphere_tests::program::{Program, run};
use mezusphere_tests::system::{Node, free_port};
use mezusphere_tests::upstream::Upstream;

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_connection_key_is_told_apart_and_told_what_to_do() -> Result<()> {
    let node = Node::start(&[]).await?;
    let shop = node.seed_shop().await?;
    let key = shop.connection_key.as_str();
    let truncated = &key[..key.len() - 5];
    let api = node.admin(&["api-key", "create", "shop", "--scope", "request"]).await?;
    let api = api["secret"].as_str().unwrap_or_default().to_owned();
    for (bad, words) in [(truncated, "incomplete"), (api.as_str(), "API key"), ("hello", "connection key")] {
        let (code, said) =
            run("warpgate", &["connect", "--output", "text"], &[("WARPGATE_KEY", bad)]).await?;
        assert_eq!(code, 10, "{bad}: {said}");
        assert!(said.contains(words) && said.contains("next:"), "{said}");
        assert!(!said.contains(bad) || bad == "hello", "the key is not repeated: {said}");
    }

    let listed = node.admin(&["api-key", "list", "shop"]).await?;
    let id = listed
        .as_array()
        .and_then(|keys| keys.iter().find(|k| k["scopes"][0] == "connect"))
        .map(|k| k["id"].clone());
    let id = id.and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_default();
    node.admin(&["api-key", "revoke", "shop", &id]).await?;
    let (code, said) = run("warpgate", &["connect", "--output", "text"], &[("WARPGATE_KEY", key)]).await?;
    assert_eq!(code, 11, "{said}");
    assert!(said.contains("revoked") && said.contains("next:"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_its_tunnel_within_five_seconds() -> Result<()> {
    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    let mut gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    let listed = node.admin(&["api-key", "list", "shop"]).await?;
    let id = listed[0]["id"].as_str().unwrap_or_default().to_owned();
    node.admin(&["api-key", "revoke", "shop", &id]).await?;
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), gate.exit_code()).await;
    assert_eq!(ended??, 11, "{}", gate.output().join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_on_the_way_is_named() -> Result<()> {
    let node = Node::start(&[]).await?;
    let shop = node.seed_shop().await?;
    let mut browser = Browser::new(&node.roots());
    let at = |host: &str, path: &str| format!("https://{host}:{}{path}", node.port);

    let no_gate = browser.load(&at(&shop.host, "/")).await?;
    assert_eq!(no_gate.status, StatusCode::SERVICE_UNAVAILABLE, "{}", no_gate.body);
    assert!(no_gate.body.contains("edge.no_tunnel") && no_gate.body.contains("req_"), "{}", no_gate.body);

    let closed = free_port()?;
    let _gate = node.connect(&shop.connection_key, &format!("http://127.0.0.1:{closed}")).await?;
    let no_upstream = browser.load(&at(&shop.host, "/")).await?;
    assert_eq!(no_upstream.status, StatusCode::BAD_GATEWAY, "{}", no_upstream.body);
    assert!(no_upstream.body.contains("warpgate.upstream_refused"), "{}", no_upstream.body);

    node.admin(&["project", "create", "empty"]).await?;
    node.serves("empty.localhost").await?;
    let no_route = browser.load(&at("empty.localhost", "/nothing")).await?;
    assert_eq!(no_route.status, StatusCode::NOT_FOUND, "{}", no_route.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_start_says_why() -> Result<()> {
    let node = Node::start(&[]).await?;
    let data = node.data().display().to_string();
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");

    let (code, said) = run("mezusphere", &["serve", "--data", &data, "--listen", &listen], &[]).await?;
    assert_eq!(code, 10, "{said}");
    assert!(said.contains("in use") && said.contains(&node.server.pid()?.to_string()), "{said}");

    let other = tempfile::tempdir()?;
    let other = other.path().display().to_string();
    let taken = format!("127.0.0.1:{}", node.port);
    let (code, said) = run("mezusphere", &["serve", "--data", &other, "--listen", &taken], &[]).await?;
    assert_eq!(code, 13, "{said}");
    assert!(said.contains(&taken) && said.contains("next:"), "{said}");

    let (code, said) =
        run("mezusphere", &["serve", "--data", "/proc/nowhere", "--listen", &listen], &[]).await?;
    assert_eq!(code, 11, "{said}");

    let (code, said) = run("mezusphere", &["serve", "--no-such-flag"], &[]).await?;
    assert_eq!(code, 2, "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_commands_fail_with_a_code_and_a_next_step() -> Result<()> {
    let node = Node::start(&[]).await?;
    node.seed_shop().await?;
    let rows: [(&[&str], i32); 8] = [
        (&["project", "show", "nothing"], 3),
        (&["project", "create", "shop"], 4),
        (&["project", "create", "Bad_Slug"], 2),
        (&["route", "add", "shop", "no-slash", "--auth", "public"], 7),
        (&["route", "add", "shop", "/x/*"], 2),
        (&["route", "add", "shop", "/x/*", "--auth", "public", "--role", "customer"], 7),
        (&["user", "create", "shop", "ada@example.com"], 4),
        (&["api-key", "revoke", "shop", "key_00000000000000000000000000"], 3),
    ];
    for (words, code) in rows {
        let output = node.try_admin(words).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.starts_with(r#"{"error":"#), "{words:?}: {said}");
        assert!(said.contains(r#""next":"#) && !said.contains(r#""next":null"#), "{words:?}: {said}");
    }
    let (code, said) = run("mezusphere", &["--data", "/nonexistent", "project", "list"], &[]).await?;
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("mezusphere --data /nonexistent serve"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warpgate_waits_for_a_server_that_is_away() -> Result<()> {
    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    // Stopped, not gone: nothing answers, and nothing says why.
    node.server.signal("STOP").await?;
    let arguments = ["connect", "--output", "json", "--upstream", &upstream.url()];
    let gate = Program::start("warpgate", &arguments, &[("WARPGATE_KEY", &shop.connection_key)])?;
    gate.line("that it tries again", |line| line.contains("retry")).await?;
    node.server.signal("CONT").await?;
    gate.event("ready").await?;
    Ok(())
}
