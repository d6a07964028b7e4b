//! The main job: a private workload published with sign-in.

use anyhow::Result;
use http::StatusCode;
use mezusphere_tests::client::browser::Browser;
use mezusphere_tests::system::Node;
use mezusphere_tests::upstream::Upstream;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_private_workload_is_published_with_sign_in() -> Result<()> {
    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    let _gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    let mut browser = Browser::new(&node.roots());
    let url = |path: &str| format!("https://{}:{}{path}", shop.host, node.port);

    // Public: through, with empty identity.
    let public = browser.navigate(&url("/hello?x=1")).await?;
    assert_eq!(public.status, StatusCode::OK, "{}", public.body);
    let seen = upstream.seen_at("/hello");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].target, "/hello?x=1", "what the client sent is forwarded");
    assert_eq!(seen[0].all("mezu-user-id"), [""]);

    // Protected: to sign-in, and nothing reaches the workload.
    let refused = browser.load(&url("/account/orders?page=2")).await?;
    assert_eq!(refused.status, StatusCode::FOUND);
    let location = refused.headers["location"].to_str()?;
    assert!(
        location.starts_with(&format!("https://login.mezu.localhost:{}/sign-in?", node.port)),
        "{location}"
    );
    assert!(upstream.seen_at("/account/orders").is_empty());

    // Signed in: back where the user wanted to go, with the right identity.
    let arrived = browser.sign_in(&url("/account/orders?page=2"), &shop.email, &shop.password).await?;
    assert_eq!(arrived.status, StatusCode::OK, "{}", arrived.body);
    assert_eq!(arrived.url, url("/account/orders?page=2"));
    let seen = upstream.seen_at("/account/orders");
    assert_eq!(seen.len(), 1, "exactly one request reached the workload");
    assert_eq!(seen[0].all("mezu-user-id"), [shop.user.as_str()]);
    assert_eq!(seen[0].all("mezu-user-email"), ["ada@example.com"]);
    assert_eq!(seen[0].all("mezu-user-name"), ["Ada Lovelace"]);
    assert_eq!(seen[0].all("mezu-roles"), ["customer"]);
    assert_eq!(seen[0].all("mezu-permissions"), ["orders:read"]);
    assert_eq!(seen[0].all("mezu-auth-method"), ["pwd"]);
    assert_eq!(seen[0].all("mezu-assertion").len(), 1);
    assert!(seen[0].all("mezu-assertion")[0].split('.').count() == 3, "a JWS");
    let cookies = seen[0].all("cookie").join(";");
    assert!(!cookies.contains("__Host-mezu"), "platform cookies never reach the workload: {cookies}");

    // Signing out ends it at once.
    let form = browser.navigate(&url("/.mezu/sign-out")).await?;
    let bye = browser.submit(&form, &[]).await?;
    assert_eq!(bye.status, StatusCode::OK, "{}", bye.body);
    let again = browser.load(&url("/account/orders")).await?;
    assert_eq!(again.status, StatusCode::FOUND);
    assert_eq!(upstream.seen_at("/account/orders").len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_taken_away_closes_the_route_within_two_seconds() -> Result<()> {
    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    let _gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    let mut browser = Browser::new(&node.roots());
    let url = format!("https://{}:{}/account/", shop.host, node.port);
    assert_eq!(browser.sign_in(&url, &shop.email, &shop.password).await?.status, StatusCode::OK);

    node.admin(&["user", "set-roles", "shop", &shop.email]).await?;
    let taken = std::time::Instant::now();
    loop {
        let arrived = browser.load(&url).await?;
        if arrived.status == StatusCode::FORBIDDEN {
            break;
        }
        assert_eq!(arrived.status, StatusCode::OK, "{}", arrived.body);
        assert!(taken.elapsed().as_secs() < 2, "the route is still open");
    }

    node.admin(&["user", "set-roles", "shop", &shop.email, "--role", "customer"]).await?;
    node.admin(&["user", "suspend", "shop", &shop.email]).await?;
    let suspended = std::time::Instant::now();
    loop {
        let arrived = browser.load(&url).await?;
        if arrived.status == StatusCode::FOUND {
            break;
        }
        assert!(suspended.elapsed().as_secs() < 2, "the session still works: {}", arrived.status);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_calls_a_protected_route_with_its_key() -> Result<()> {
    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    let _gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    node.admin(&["service-account", "create", "shop", "robot", "--role", "customer"]).await?;
    let made = node.admin(&["api-key", "create", "shop", "--account", "robot", "--scope", "request"]).await?;
    let key = made.pointer("/secret").and_then(Value::as_str).unwrap_or_default();
    assert!(key.starts_with("mzk_"), "{made}");

    let fetch = async |authorization: String| -> Result<StatusCode> {
        let target = node.target(&shop.host, "/account/machine")?;
        let mut connection =
            mezusphere_tests::client::h1::Connection::open(&target, &node.tls(b"http/1.1")?).await?;
        let request = http::Request::get(&target.path)
            .header("host", &target.authority)
            .header("authorization", authorization)
            .body(http_body_util::Full::default())?;
        Ok(connection.fetch(request).await?.status())
    };
    // A key reaches the edge over the feed, a moment after it was made; until then it is refused at the edge.
    let known = async {
        while fetch(format!("Bearer {key}")).await? != StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), known).await??;
    let seen = upstream.seen_at("/account/machine");
    assert_eq!(seen.len(), 1);
    assert!(seen[0].all("authorization").is_empty(), "our key never reaches the workload");
    assert_eq!(seen[0].all("mezu-auth-method"), ["key"]);
    assert_eq!(seen[0].all("mezu-roles"), ["customer"]);

    let wrong = format!("Bearer {}", &key[..key.len() - 1]);
    assert_eq!(fetch(wrong).await?, StatusCode::UNAUTHORIZED);
    assert_eq!(upstream.seen_at("/account/machine").len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warpgate_comes_back_by_itself_when_the_server_restarts() -> Result<()> {
    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    let gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    let node = node.kill_and_restart().await?;
    let mut browser = Browser::new(&node.roots());
    let url = format!("https://{}:{}/back", shop.host, node.port);
    let restarted = std::time::Instant::now();
    // Dead tunnel noticed in 6 s at most, reconnected in 6 s at most (design §10).
    while browser.load(&url).await.is_ok_and(|arrived| arrived.status != StatusCode::OK) {
        assert!(restarted.elapsed().as_secs() < 12, "the warpgate said:\n{}", gate.output().join("\n"));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warpgate_drains_on_a_signal() -> Result<()> {
    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    let mut gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    let url = format!("https://{}:{}/slow/1500", shop.host, node.port);
    let roots = node.roots();
    let slow = tokio::spawn(async move { Browser::new(&roots).load(&url).await });
    while upstream.seen_at("/slow/1500").is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    gate.signal("TERM").await?;
    assert_eq!(slow.await??.status, StatusCode::OK, "what runs is finished");
    assert_eq!(gate.exit_code().await?, 0);
    Ok(())
}
