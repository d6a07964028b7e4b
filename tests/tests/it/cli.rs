//! The admin CLI as scripts and people at night use it: secrets into files, errors as JSON, hints that can be pasted.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result};
use mezusphere_tests::program::{self, Program};
use mezusphere_tests::system::{Node, free_port};
use mezusphere_tests::upstream::Upstream;
use serde_json::{Value, json};
use tokio::process::Command;

/// An admin command as it is typed, without `--json`; nothing it prints goes to a terminal.
async fn typed(node: &Node, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(program::path("mezusphere")?);
    command.arg("--data").arg(node.data()).args(words).stdin(Stdio::null()).kill_on_drop(true);
    Ok(tokio::time::timeout(program::SAYS_WITHIN, command.output()).await??)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_key_redirected_to_a_file_connects_a_warpgate() -> Result<()> {
    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    node.seed_shop().await?;
    let folder = tempfile::tempdir()?;

    let redirected = typed(&node, &["api-key", "create", "shop"]).await?;
    assert!(redirected.status.success(), "{}", err(&redirected));
    assert!(err(&redirected).contains("next: warpgate connect"), "{}", err(&redirected));
    let file = folder.path().join("redirected");
    std::fs::write(&file, &redirected.stdout)?;
    connects(&file, &upstream.url()).await?;

    let kept = folder.path().join("kept");
    let at = kept.display().to_string();
    // An account has two live keys at most; a refusal leaves no file behind.
    let refused = typed(&node, &["api-key", "create", "shop", "--out", &at]).await?;
    assert!(refused.status.code() == Some(4) && !kept.exists(), "{}", err(&refused));
    node.admin(&["service-account", "create", "shop", "spare"]).await?;
    let spare = ["api-key", "create", "shop", "--account", "spare", "--out", &at];
    let answer = typed(&node, &spare).await?;
    assert!(answer.status.success() && !out(&answer).contains("mzw_"), "{}{}", out(&answer), err(&answer));
    assert_eq!(std::fs::metadata(&kept)?.permissions().mode() & 0o777, 0o600);
    connects(&kept, &upstream.url()).await?;

    let before = std::fs::read(&kept)?;
    let keys = node.admin(&["api-key", "list", "shop"]).await?;
    let again = typed(&node, &spare).await?;
    assert_eq!(again.status.code(), Some(4), "{}", err(&again));
    assert_eq!(std::fs::read(&kept)?, before);
    assert_eq!(node.admin(&["api-key", "list", "shop"]).await?, keys, "no key was made for nothing");

    let password = typed(&node, &["user", "set-password", "shop", "ada@example.com"]).await?;
    assert_eq!(out(&password).trim().len(), 23, "{}", out(&password));
    Ok(())
}

async fn connects(key: &Path, upstream: &str) -> Result<()> {
    let key = key.display().to_string();
    let words = ["connect", "--output", "json", "--key-file", &key, "--upstream", upstream];
    let gate = Program::start("warpgate", &words, &[])?;
    gate.event("ready").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_route_tells_what_its_requests_follow() -> Result<()> {
    let node = Node::start(&[]).await?;
    node.seed_shop().await?;
    let added =
        typed(&node, &["route", "add", "shop", "/admin", "--auth", "required", "--method", "GET"]).await?;
    assert!(
        out(&added).contains("other requests for /admin follow /* (public: no sign-in)"),
        "{}",
        out(&added)
    );

    let removed = node.admin(&["route", "remove", "shop", "/account/*"]).await?;
    assert_eq!((&removed["follows"][0]["path"], &removed["not_found"]), (&json!("/*"), &json!(false)));
    assert_eq!(removed["now"], "Requests for it now follow /* (public: no sign-in).");
    let removed = typed(&node, &["route", "remove", "shop", "/*"]).await?;
    assert_eq!(out(&removed), "Removed /*. Requests for it get 404 from now on.\n");

    node.admin(&["role", "set", "shop", "admin"]).await?;
    let words = ["--all-role", "admin", "--all-role", "customer", "--permission", "orders:read"];
    node.admin(&[&["route", "add", "shop", "/both/*", "--auth", "required"], &words[..]].concat()).await?;
    let listed = out(&typed(&node, &["route", "list", "shop"]).await?);
    assert!(listed.contains("role=admin+customer · permission=orders:read"), "{listed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_routes_need_is_deleted_only_by_force() -> Result<()> {
    let node = Node::start(&[]).await?;
    node.seed_shop().await?;
    let refused = typed(&node, &["role", "delete", "shop", "customer"]).await?;
    assert_eq!(refused.status.code(), Some(4), "{}", err(&refused));
    assert!(
        err(&refused).contains("/account/* (production)") && err(&refused).contains("--force"),
        "{}",
        err(&refused)
    );
    assert_eq!(node.admin(&["role", "show", "shop", "customer"]).await?["name"], "customer");
    assert_eq!(node.admin(&["role", "delete", "shop", "customer", "--force"]).await?, json!({}));

    let user = out(&typed(&node, &["user", "show", "shop", "ada@example.com"]).await?);
    assert!(user.contains("Ada Lovelace") && user.contains("yes") && !user.contains("true"), "{user}");
    let audit = out(&typed(&node, &["audit", "list"]).await?);
    assert!(audit.contains("ada@example.com") && audit.contains("/account/*"), "{audit}");

    node.admin(&["environment", "create", "shop", "staging"]).await?;
    node.admin(&["service-account", "create", "shop", "robot"]).await?;
    assert_eq!(node.admin(&["service-account", "delete", "shop", "robot"]).await?, json!({}));
    assert_eq!(node.admin(&["environment", "delete", "shop", "staging", "--yes"]).await?, json!({}));
    let unsure = typed(&node, &["project", "delete", "shop"]).await?;
    assert_eq!(unsure.status.code(), Some(2), "{}", err(&unsure));
    assert_eq!(node.admin(&["project", "delete", "shop", "--yes"]).await?, json!({}));
    assert_eq!(node.admin(&["project", "list"]).await?, json!([]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_can_be_pasted_and_an_error_read_by_a_script() -> Result<()> {
    let node = Node::start(&[]).await?;
    let at = node.data().display().to_string();
    let made = out(&typed(&node, &["project", "create", "shop"]).await?);
    assert!(made.contains(&format!("next: mezusphere --data {at} route add shop")), "{made}");
    let rows: [(&[&str], &str, &str, i64); 5] = [
        (&["project", "show", "nothing"], "object.not_found", "project list", 3),
        (&["project", "create", "login"], "name.invalid", "console", 7),
        (
            &["route", "add", "shop", "/x", "--auth", "public", "--head-timeout", "1"],
            "route.invalid",
            "--head-timeout",
            7,
        ),
        (&["route", "add", "shop", "/x"], "usage", "mezusphere route add --help", 2),
        (&["role", "show", "shop", "x"], "object.not_found", "role list", 3),
    ];
    for (words, code, next, exit) in rows {
        let output = node.try_admin(words).await?;
        let said = err(&output);
        let error: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
        let error = &error["error"];
        assert_eq!((&error["code"], &error["exit"]), (&json!(code), &json!(exit)), "{words:?}: {said}");
        assert_eq!(output.status.code().map(i64::from), Some(exit), "{words:?}");
        assert!(error["next"].as_str().unwrap_or_default().contains(next), "{words:?}: {said}");
        let plain = err(&typed(&node, words).await?);
        assert!(plain.starts_with("error: ") && plain.contains("\n  next: "), "{words:?}: {plain}");
        assert!(!plain.contains("list what there is") || plain.contains(&format!("--data {at}")), "{plain}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_cannot_listen_names_the_flag_and_leaves_nothing() -> Result<()> {
    let node = Node::start(&[]).await?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let (at, free) = (data.display().to_string(), format!("127.0.0.1:{}", free_port()?));
    let taken = format!("127.0.0.1:{}", node.port);
    for (listen, http, flag) in [(&taken, &free, "--listen"), (&free, &taken, "--http")] {
        let mut command = Command::new(program::path("mezusphere")?);
        command.args(["serve", "--data", &at, "--listen", listen, "--http", http]).kill_on_drop(true);
        let output = tokio::time::timeout(program::SAYS_WITHIN, command.output()).await??;
        assert_eq!(output.status.code(), Some(13), "{}", err(&output));
        assert!(err(&output).contains(&format!("{flag}: cannot listen on TCP {taken}")), "{}", err(&output));
        assert!(!data.exists());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_with_what_it_cannot_use_says_what_and_leaves_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, none) = (folder.path().join("data"), folder.path().join("none").display().to_string());
    let at = data.display().to_string();
    let rows: [(&[&str], &str, i32); 3] = [
        (&["--tls-cert", &none, "--tls-key", &none], "error: cannot read the certificate ", 11),
        (&["--operator", "nobody"], "is not an e-mail address for the operator", 2),
        (&["--leaf-ttl", "2d"], "leaf certificates live from 1m to 1d, not 2d", 2),
    ];
    for (words, told, code) in rows {
        let mut command = Command::new(program::path("mezusphere")?);
        let listen = format!("127.0.0.1:{}", free_port()?);
        command.args(["serve", "--data", &at, "--listen", &listen]).args(words).kill_on_drop(true);
        let output = tokio::time::timeout(program::SAYS_WITHIN, command.output()).await??;
        assert!(err(&output).contains(told), "{words:?}: {}", err(&output));
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        assert!(!data.exists(), "{words:?}");
    }
    Ok(())
}

/// Exit codes in the documentation's table below the heading.
fn documented(heading: &str) -> BTreeSet<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations/cli.md");
    let text = std::fs::read_to_string(root).expect("the page is there");
    let part = text.split(&format!("\n## {heading}\n")).nth(1).expect("the heading is there");
    let part = part.split("\n## ").next().unwrap_or_default();
    part.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect()
}

#[tokio::test]
async fn the_documented_exit_codes_are_those_of_both_programs() -> Result<()> {
    for name in ["mezusphere", "warpgate"] {
        // Each program's own tests hold its help to its codes.
        let help = Command::new(program::path(name)?).arg("--help").output().await?;
        let help = out(&help);
        let table = help.split("Exit codes:").nth(1).context("the help lists exit codes")?;
        let codes: BTreeSet<u8> =
            table.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert!(codes.len() > 8, "{help}");
        assert_eq!(documented(name), codes, "{name}");
    }
    Ok(())
}
