//! An installation that begins under a root whose key never was on its server, and `ca.pem` when the roots change (R20).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mezusphere_tests::admin::Admin;
use mezusphere_tests::program::Program;
use mezusphere_tests::system::{Node, free_port};

/// How long a rotation in a hurry may take on a node that is alone.
const ROTATES_WITHIN: Duration = Duration::from_mins(1);

/// `mezusphere serve` on SQLite with these flags behind the usual ones.
fn serve(data: &Path, (public, plain): (u16, u16), flags: &[&str]) -> Result<Program> {
    let (data, listen, http) =
        (data.display().to_string(), format!("127.0.0.1:{public}"), format!("127.0.0.1:{plain}"));
    let usual = ["serve", "--json", "--data", &data, "--listen", &listen, "--http", &http];
    let words = [&usual[..], flags].concat();
    Program::start("mezusphere", &words, &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_a_first_start_asks_a_root_elsewhere_to_sign_and_the_next_one_serves_under_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (key, root, issuing) = (at("root.pem"), at("root.crt"), at("issuing.pem"));
    let (data, ports) = (folder.path().join("data"), (free_port()?, free_port()?));
    let admin = Admin::of(&data);
    let new = ["ca", "root", "new", "--trust-domain", "shop.example", "--out", &key, "--certificate", &root];
    admin.run(&new).await?;

    let mut first = serve(&data, ports, &["--ca-root", &root])?;
    ensure!(first.exit_code().await? == 2, "{}", first.output().join("\n"));
    let said = first.output().join("\n");
    ensure!(said.contains("ca root sign") && said.contains("issuing.csr"), "{said}");
    let request = data.join("issuing.csr").display().to_string();
    admin.run(&["ca", "root", "sign", "--root-key", &key, "--request", &request, "--out", &issuing]).await?;

    let mut serving = serve(&data, ports, &["--ca-root", &root, "--ca-issuing", &issuing])?;
    serving.event("ready").await?;
    ensure!(std::fs::read_to_string(data.join("ca.pem"))? == std::fs::read_to_string(&root)?);
    let status = admin.run(&["ca", "status"]).await?;
    ensure!(status["root_key"] == false && status["trust_domain"] == "shop.example", "{status:#}");
    serving.signal("TERM").await?;
    serving.exit_code().await?;
    let again = serve(&data, ports, &[])?;
    again.event("ready").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_roots_for_clients_follows_a_new_root_while_the_server_runs() -> Result<()> {
    let node = Node::start(&[]).await?;
    let file = node.data().join("ca.pem");
    let old = std::fs::read_to_string(&file)?;
    node.admin(&["ca", "rotate", "--root", "--now"]).await?;
    let since = Instant::now();
    loop {
        let now = std::fs::read_to_string(&file)?;
        if now != old && !now.contains(&old) {
            ensure!(now.matches("BEGIN CERTIFICATE").count() == 1, "{now}");
            return Ok(());
        }
        ensure!(since.elapsed() < ROTATES_WITHIN, "{:#}", node.admin(&["ca", "status"]).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
