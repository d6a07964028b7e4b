//! Every hosted flow in chromium (`tests/clients/sign_in.mjs`): four applications, three directories, one mail server.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use mezusphere_tests::clients::Talk;
use mezusphere_tests::mail_server::MailServer;
use mezusphere_tests::program::Program;
use mezusphere_tests::system::Node;
use mezusphere_tests::workload::Workload;
use serde_json::json;

use super::api;

/// What the browser does, one line each; a line that is missing was not done.
const FLOWS: [&str; 21] = [
    "sign_up_open",
    "two_hosts_one_sign_in",
    "sign_up_of_who_has_an_account_says_the_same",
    "sign_up_by_domain",
    "invitation",
    "forgotten_password",
    "change_password",
    "sessions_ended_one_and_all_others",
    "history",
    "change_name",
    "change_email",
    "a_link_that_is_too_old",
    "verify_an_address_and_a_brand",
    "asked_once_more_and_back_to_the_same_place",
    "another_account_from_the_refusal",
    "a_websocket_ends_with_4401_when_its_user_signs_out_elsewhere",
    "sign_out_here_then_back_button",
    "two_tabs",
    "cookies_off",
    "nonsense_gets_a_page",
    // No page has a serious fault that keeps somebody out.
    "axe",
];

/// An application and the warpgate that publishes it.
async fn publish(
    node: &Node,
    project: &str,
    directory: Option<&str>,
    workload: &Workload,
) -> Result<Program> {
    let organization = directory.map(|_| "acme");
    let asked = json!({ "slug": project, "organization": organization, "directory": directory });
    let asked: serde_json::Map<_, _> = asked
        .as_object()
        .context("an object")?
        .clone()
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect();
    api(node, "POST", "/projects", &asked.into()).await?;
    node.admin(&["role", "set", project, "staff", "--permission", "all"]).await?;
    node.admin(&["route", "add", project, "/*", "--auth", "required"]).await?;
    node.admin(&["route", "add", project, "/staff/*", "--auth", "required", "--role", "staff"]).await?;
    let key = node.admin(&["api-key", "create", project]).await?;
    node.connect(key["secret"].as_str().context("a secret")?, &workload.h1()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_up_in_and_out_and_keep_their_accounts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mails = MailServer::start(folder.path(), 0).await?;
    let node = Node::start(&["--mail", &mails.url()?, "--mail-from", "no-reply@shop.example"]).await?;
    let workload = Workload::start().await?;
    api(&node, "POST", "/organizations", &json!({ "slug": "acme" })).await?;
    api(&node, "POST", "/organizations/acme/directories", &json!({ "name": "people" })).await?;
    let open = json!({ "sign_up": "open" });
    api(&node, "PATCH", "/organizations/acme/directories/people", &open).await?;
    let mut gates = Vec::new();
    for (project, directory) in
        [("shop", Some("people")), ("wiki", Some("people")), ("club", None), ("vault", None)]
    {
        gates.push(publish(&node, project, directory, &workload).await?);
    }
    let of_club = json!({ "sign_up": "domains", "domains": ["club.example"] });
    api(&node, "PATCH", "/projects/club/directory", &of_club).await?;
    api(&node, "PATCH", "/projects/vault/directory", &json!({ "sign_up": "invitation" })).await?;
    for project in ["shop", "wiki", "club", "vault"] {
        node.routes(&format!("{project}.localhost"), "/told").await?;
    }

    let origin = |host: &str| format!("https://{host}.localhost:{}", node.port);
    let (login, shop, wiki) = (origin("login.mezu"), origin("shop"), origin("wiki"));
    let (club, vault) = (origin("club"), origin("vault"));
    let (file, socket) =
        (mails.file().display().to_string(), node.data().join("admin.sock").display().to_string());
    let database = node.data().join("control/primary.db").display().to_string();
    let pictures = std::env::var("MEZU_PICTURES").unwrap_or_default();
    let mut browser = Talk::node(
        "sign_in.mjs",
        &[
            ("MEZU_LOGIN", &login),
            ("MEZU_SHOP", &shop),
            ("MEZU_WIKI", &wiki),
            ("MEZU_CLUB", &club),
            ("MEZU_VAULT", &vault),
            ("MEZU_MAILS", &file),
            ("MEZU_ADMIN", &socket),
            ("MEZU_DATABASE", &database),
            ("MEZU_PICTURES", &pictures),
        ],
    )?;
    let (mut done, mut failed) = (BTreeSet::new(), Vec::new());
    while let Some(said) = browser.next().await? {
        if !said.ok {
            failed.push(format!("{}: {}", said.feature, said.why));
        }
        done.insert(said.feature);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let wanted: BTreeSet<String> = FLOWS.iter().map(|&flow| flow.to_owned()).collect();
    assert_eq!(done, wanted);
    Ok(())
}
