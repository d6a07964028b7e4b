//! A real browser and its own verifier, told to trust the root as a company tells its machines: it takes the chain, and
//! without being told it does not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::process::Command;
use tokio::time::timeout;

use super::{BASE, Scene};

/// A cold start on a busy machine takes a while.
const LOADS_WITHIN: Duration = Duration::from_mins(1);

async fn certutil(database: &Path, words: &[&str], file: Option<&Path>) -> Result<()> {
    let mut command = Command::new("certutil");
    command.arg("-d").arg(format!("sql:{}", database.display())).args(words).kill_on_drop(true);
    if let Some(file) = file {
        command.arg("-i").arg(file);
    }
    let output = timeout(LOADS_WITHIN, command.output()).await??;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What the browser shows at `url` to somebody whose home is `home`.
async fn page(home: &Path, url: &str) -> Result<String> {
    let program = std::env::var_os("MEZU_CHROMIUM").map_or_else(|| PathBuf::from("chromium"), PathBuf::from);
    let mut command = Command::new(program);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]);
    command.arg(format!("--host-resolver-rules=MAP *.{BASE} 127.0.0.1"));
    command.arg(format!("--user-data-dir={}", home.join("profile").display())).arg(url);
    command.env("HOME", home).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = timeout(LOADS_WITHIN, command.output()).await.context("the browser does not end")??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_takes_the_chain_where_the_root_is_trusted() -> Result<()> {
    let scene = Scene::start().await?;
    let (trusting, stranger) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let database = trusting.path().join(".pki/nssdb");
    std::fs::create_dir_all(&database)?;
    certutil(&database, &["-N", "--empty-password"], None).await?;
    certutil(&database, &["-A", "-n", "mezusphere", "-t", "C,,"], Some(&scene.node.roots())).await?;
    let url = format!("https://login.{BASE}:{}/nothing-here", scene.node.port);
    let seen = page(trusting.path(), &url).await?;
    assert!(seen.contains("login.not_found"), "{seen}");
    let seen = page(stranger.path(), &url).await?;
    assert!(!seen.contains("login.not_found"), "it was not told to trust: {seen}");
    Ok(())
}
