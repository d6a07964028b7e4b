//! Kill -9 at any moment: every acknowledged write is there afterwards.

use anyhow::Result;
use mezusphere_tests::system::Node;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_every_acknowledged_write() -> Result<()> {
    let rounds = if std::env::var_os("MEZU_FULL").is_some() { 50 } else { 4 };
    let mut node = Node::start(&[]).await?;
    node.admin(&["project", "create", "shop"]).await?;
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..rounds {
        let mut last = 0;
        for write in 0..6 {
            let email = format!("user-{round}-{write}@example.com");
            if write == 3 {
                // Killed while the command below is on its way: it may be there afterwards or not, but whole.
                let pid = node.server.pid()?.to_string();
                let killing = tokio::process::Command::new("kill").args(["-9", &pid]).status();
                let words = ["user", "create", "shop", email.as_str()];
                let (output, killed) = tokio::join!(node.try_admin(&words), killing);
                killed?;
                if output?.status.success() {
                    acknowledged.push(email);
                }
                break;
            }
            node.admin(&["user", "create", "shop", &email]).await?;
            acknowledged.push(email);
            last = write;
        }
        assert_eq!(last, 2);
        node = node.kill_and_restart().await?;
        let users = node.admin(&["user", "list", "shop"]).await?;
        let emails: Vec<&str> =
            users.as_array().into_iter().flatten().filter_map(|user| user["email"].as_str()).collect();
        for email in &acknowledged {
            assert!(emails.contains(&email.as_str()), "round {round}: {email} is lost");
        }
    }
    let audit = node.admin(&["audit", "list", "--project", "shop"]).await?;
    let created = audit.as_array().into_iter().flatten().filter(|e| e["action"] == "user.create").count();
    assert!(created >= acknowledged.len(), "{created} of {} are in the audit log", acknowledged.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_its_sessions() -> Result<()> {
    use http::StatusCode;
    use mezusphere_tests::client::browser::Browser;
    use mezusphere_tests::upstream::Upstream;

    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    let gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    let mut browser = Browser::new(&node.roots());
    let url = format!("https://{}:{}/account/", shop.host, node.port);
    browser.sign_in(&url, &shop.email, &shop.password).await?;
    gate.kill().await?;
    let node = node.kill_and_restart().await?;
    let _gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    assert_eq!(browser.load(&url).await?.status, StatusCode::OK, "still signed in");
    Ok(())
}
