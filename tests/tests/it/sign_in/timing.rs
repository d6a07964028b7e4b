//! Whether somebody can learn which accounts exist, by what the login host answers or by how long it takes.

use anyhow::{Context as _, Result};
use mezusphere_tests::client::browser::Browser;
use mezusphere_tests::clients::{Place, Talk};
use mezusphere_tests::system::Node;
use serde_json::json;

use super::api;

/// Samples of known and of unknown accounts each. The short run compares answers; times need many.
const SAMPLES: u32 = 20;
const SAMPLES_FULL: u32 = 500;

/// Samples of sign-up or recovery that one server is good for: two mails each, and strangers altogether are let have 100
/// at once. 0: all of them.
const FRESH: u32 = 0;
const FRESH_FULL: u32 = 45;

/// An address gets few mails in a while, and then none are made: so many accounts that this does not happen.
const ACCOUNTS: u32 = 20;
const ACCOUNTS_FULL: u32 = 250;

#[tokio::test(flavor = "multi_thread")]
async fn r13_known_and_unknown_accounts_get_the_same_answers_in_the_same_time() -> Result<()> {
    let full = std::env::var_os("MEZU_FULL").is_some();
    let (samples, accounts, fresh) =
        if full { (SAMPLES_FULL, ACCOUNTS_FULL, FRESH_FULL) } else { (SAMPLES, ACCOUNTS, FRESH) };
    let folder = tempfile::tempdir()?;
    let mails = mezusphere_tests::mail_server::MailServer::start(folder.path(), 0).await?;
    let mut node = Node::start(&["--mail", &mails.url()?, "--mail-from", "no-reply@shop.example"]).await?;
    node.admin(&["project", "create", "shop"]).await?;
    node.admin(&["route", "add", "shop", "/*", "--auth", "required"]).await?;
    api(&node, "PATCH", "/projects/shop/directory", &json!({ "sign_up": "open" })).await?;
    for n in 0..accounts {
        let user =
            json!({ "email": format!("known-{n:05}@shop.example"), "password": "plum koala nine rulers" });
        api(&node, "POST", "/projects/shop/users", &user).await?;
    }
    node.routes("shop.localhost", "/").await?;

    // What an application's edge says of it when it sends somebody to sign in.
    let app = format!("https://shop.localhost:{}/", node.port);
    let sent = Browser::new(&node.roots()).load(&app).await?;
    let location = sent.headers.get("location").context("a redirect")?.to_str()?;
    let (_, query) = location.split_once('?').context("a query")?;

    let place = Place { host: "login.mezu.localhost".to_owned(), port: node.port, ca: node.roots() };
    let (samples, accounts, fresh) = (samples.to_string(), accounts.to_string(), fresh.to_string());
    let more = ["--samples", &samples, "--accounts", &accounts, "--fresh", &fresh, "--query", query];
    let mut talk = Talk::at(&place, "enumeration.py", &more)?;
    let (mut judged, mut faults) = (0, Vec::new());
    while let Some(said) = talk.next().await? {
        if said.event == "rest" {
            // What strangers have used up is kept in memory.
            node = node.kill_and_restart().await?;
            node.serves(&place.host).await?;
            talk.go_on().await?;
            continue;
        }
        judged += 1;
        // The figures are what a full run is looked at for.
        std::io::Write::write_all(
            &mut std::io::stdout(),
            format!("{}: {}\n", said.feature, said.why).as_bytes(),
        )?;
        if !said.ok {
            faults.push(format!("{}: {}", said.feature, said.why));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(judged, 3);
    Ok(())
}
