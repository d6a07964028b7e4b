//! Where secrets must not be: everything one installation wrote, logged and showed is read here after people and machines
//! have signed in, failed to, and been refused.

use anyhow::{Context as _, Result};
use http::StatusCode;
use mezusphere_tests::canary::{Canary, files, find};
use mezusphere_tests::client::browser::{Arrived, Browser};
use mezusphere_tests::client::h1;
use mezusphere_tests::system::Node;
use mezusphere_tests::upstream::Upstream;
use serde_json::Value;

/// What the product's own code says at its most talkative; other people's crates as by default.
const LOG: &str = "info,mezusphere=trace,mezusphere_control=trace,mezusphere_edge=trace,mezusphere_identity=trace,\
                   mezusphere_store=trace,mezusphere_pki=trace,mezusphere_telemetry=trace,warpgate=trace,tunnel_proto=trace";

/// A password somebody typed by mistake: theirs elsewhere, as likely as not.
const MISTYPED: &str = "correct-horse-but-at-another-shop";

/// The hidden values of a page's forms, and the one-time values of the addresses it was reached by.
fn one_time(arrived: &Arrived) -> Vec<Canary> {
    let hidden = arrived.body.split("type=\"hidden\"").skip(1).filter_map(|rest| {
        let input = rest.split('>').next()?;
        let name = input.split("name=\"").nth(1)?.split('"').next()?;
        let value = input.split("value=\"").nth(1)?.split('"').next()?;
        (value.len() >= 20).then(|| Canary::text(&format!("the form field {name}"), value))
    });
    let codes = arrived.way.iter().filter_map(|url| {
        let code = url.split("code=").nth(1)?.split('&').next()?;
        Some(Canary::text("a hand-off code", code))
    });
    hidden.chain(codes).collect()
}

/// The secret part of each cookie this browser holds for a host.
fn cookies(browser: &Browser, host: &str) -> Vec<Canary> {
    let all = browser.cookies(host);
    let secrets = all.iter().flat_map(|(name, value)| {
        let parts = value.split('.').filter(|part| part.len() >= 40);
        parts.map(move |part| Canary::text(&format!("the cookie {name}"), part))
    });
    secrets.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r25_no_secret_is_in_any_log_file_answer_or_page() -> Result<()> {
    let mut node = Node::start(&["--log", LOG, "--health", "127.0.0.1:0"]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    let arguments = ["connect", "--output", "json", "--log", LOG, "--upstream", &upstream.url()];
    let key = [("WARPGATE_KEY", shop.connection_key.as_str())];
    let gate = mezusphere_tests::program::Program::start("warpgate", &arguments, &key)?;
    gate.event("ready").await?;
    let machine = node.admin(&["api-key", "create", "shop", "--scope", "request"]).await?;
    let machine = machine.get("secret").and_then(Value::as_str).context("a key is printed once")?.to_owned();

    let mut canaries = vec![
        Canary::text("a user's password", &shop.password),
        Canary::text("a mistyped password", MISTYPED),
        Canary::text("a connection key", &shop.connection_key),
        Canary::text("a machine's key", &machine),
    ];
    let mut pages = Vec::new();

    // People: a wrong password, the right one, a page of theirs, signing out.
    let mut browser = Browser::new(&node.roots());
    let url = format!("https://{}:{}/account/me", shop.host, node.port);
    let form = browser.navigate(&url).await?;
    canaries.extend(one_time(&form));
    let failed = browser.submit(&form, &[("email", &shop.email), ("password", MISTYPED)]).await?;
    assert!(failed.body.contains("type=\"password\""), "{}", failed.body);
    let signed_in = browser.submit(&failed, &[("email", &shop.email), ("password", &shop.password)]).await?;
    assert_eq!(signed_in.status, StatusCode::OK, "{}", signed_in.body);
    canaries.extend(one_time(&failed));
    canaries.extend(one_time(&signed_in));
    let own = [&shop.host, "login.mezu.localhost"].map(|host| cookies(&browser, host));
    assert!(own.iter().all(|cookies| !cookies.is_empty()), "cookies of both hosts: {own:?}");
    canaries.extend(own.into_iter().flatten());

    // A spent code, a mutilated session, a session at a host it is not for, and what the workload is told.
    let spent = signed_in.way.iter().find(|url| url.contains("code=")).context("a callback")?.clone();
    pages.push(Browser::new(&node.roots()).navigate(&spent).await?);
    let mut elsewhere = Browser::new(&node.roots());
    for (name, value) in browser.cookies(&shop.host) {
        elsewhere.set_cookie("nowhere.localhost", &name, &value);
        elsewhere.set_cookie(&shop.host, &name, &format!("A{value}"));
    }
    pages.push(elsewhere.load(&url).await?);
    pages.push(browser.load(&format!("https://{}:{}/.mezu/whoami", shop.host, node.port)).await?);
    let seen = upstream.seen_at("/account/me");
    let assertion = seen.first().context("the workload was asked")?.all("mezu-assertion").concat();
    canaries.push(Canary::text("an assertion", &assertion));

    // Machines: the right key, one with a digit changed, one in the wrong place.
    let mut changed = machine.clone();
    changed.replace_range(10..11, if changed.get(10..11) == Some("A") { "B" } else { "A" });
    canaries.push(Canary::text("a mistyped machine's key", &changed));
    for (path, key, expected) in [
        ("/account/machine", &machine, StatusCode::FORBIDDEN), // known, and without the role
        ("/account/machine", &changed, StatusCode::UNAUTHORIZED),
        (&*format!("/up?key={machine}"), &String::new(), StatusCode::OK),
    ] {
        let target = node.target(&shop.host, path)?;
        let mut connection = h1::Connection::open(&target, &node.tls(b"http/1.1")?).await?;
        let request = http::Request::get(path)
            .header("host", &target.authority)
            .header("authorization", format!("Bearer {key}"))
            .header("cookie", format!("theirs={MISTYPED}"))
            .body(http_body_util::Full::default())?;
        let answer = connection.fetch(request).await?;
        assert_eq!(answer.status(), expected, "{path}");
        find(&canaries, path, answer.body()).or_else(|found| {
            // The workload answers with what it was told: what it was sent on purpose comes back.
            if expected == StatusCode::OK { Ok(()) } else { Err(found) }
        })?;
    }

    // What operators are shown.
    for words in [
        ["audit", "list"].as_slice(),
        &["user", "list", "shop"],
        &["api-key", "list", "shop"],
        &["warpgate", "list", "shop"],
        &["route", "list", "shop"],
    ] {
        let shown = node.try_admin(words).await?;
        find(&canaries, &words.join(" "), &[shown.stdout, shown.stderr].concat())?;
    }
    for page in &pages {
        find(&canaries, &page.url, page.body.as_bytes())?;
    }

    // Activity and denials are reported in batches; a stop writes the last of them.
    node.server.signal("TERM").await?;
    node.server.exit_code().await?;
    find(&canaries, "the warpgate's log", gate.output().join("\n").as_bytes())?;
    let said = node.server.output();
    assert!(
        said.iter().any(|line| line.contains("TRACE") || line.contains("trace") || line.contains("DEBUG"))
    );
    find(&canaries, "the server's log", said.join("\n").as_bytes())?;
    let mut searched = 0;
    for (place, octets) in files(node.data())? {
        searched += octets.len();
        find(&canaries, &place, &octets)?;
    }
    assert!(searched > 100_000, "the installation's files were read: {searched} octets");
    Ok(())
}
