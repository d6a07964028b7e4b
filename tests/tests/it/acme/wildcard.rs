//! One certificate for all endpoints, proven by DNS records that a program of the operator's sets.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;
use mezusphere_tests::pebble::Habits;

use super::scene::Scene;

/// A hook as people write them: it sets the record where it is told, and notes what it was given.
const HOOK: &str = r#"#!/bin/sh
set -eu
here=$(dirname "$0")
until [ -s "$here/manager" ]; do sleep 0.1; done
echo "$1 $2" >>"$here/calls"
env | cut -d= -f1 | grep '^MEZU' | sort | tr '\n' ' ' >"$here/variables"
case "$1" in
    present) curl -sf --data "{\"host\":\"$2.\",\"value\":\"$3\"}" "$(cat "$here/manager")/set-txt" ;;
    cleanup) curl -sf --data "{\"host\":\"$2.\"}" "$(cat "$here/manager")/clear-txt" ;;
esac
echo "$1 done"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_is_proven_by_a_dns_hook() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hook = folder.path().join("hook");
    std::fs::write(&hook, HOOK)?;
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755))?;
    let program = hook.display().to_string();
    let flags =
        ["--base", "mezu.test", "--apps", "apps.test", "--acme-wildcard", "--acme-dns-hook", &program];
    // The hook waits for the DNS to be known, which starts with the scene.
    let scene = Scene::start(&Habits { bad_nonces: 20, ..Habits::default() }, &flags).await?;
    std::fs::write(folder.path().join("manager"), scene.names.manager())?;
    let node = &scene.node;
    node.admin(&["project", "create", "shop"]).await?;
    node.admin(&["route", "add", "shop", "/*", "--auth", "public"]).await?;
    let first = scene.served("shop.apps.test").await?;
    node.admin(&["project", "create", "blog"]).await?;
    node.admin(&["route", "add", "blog", "/*", "--auth", "public"]).await?;
    assert_eq!(scene.served("blog.apps.test").await?, first, "one certificate for both");

    let calls = std::fs::read_to_string(folder.path().join("calls"))?;
    assert!(calls.contains("present _acme-challenge.apps.test\n"), "{calls}");
    assert!(calls.contains("cleanup _acme-challenge.apps.test\n"), "{calls}");
    let variables = std::fs::read_to_string(folder.path().join("variables"))?;
    assert_eq!(variables.trim(), "MEZU_DNS_ACTION MEZU_DNS_NAME MEZU_DNS_VALUE", "r25");
    let events = node.admin(&["certificate", "events", "*.apps.test"]).await?.to_string();
    assert!(events.contains("present done"), "what a hook prints is in the time-line: {events}");
    Ok(())
}
