//! A real browser signs in and reads its name from the workload's page.

use std::path::Path;

use anyhow::Result;
use mezusphere_tests::program::Program;
use mezusphere_tests::system::Node;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn chromium_signs_in_and_reads_its_name() -> Result<()> {
    let node = Node::start(&[]).await?;
    let shop = node.seed_shop().await?;
    let workload = Program::start("mezusphere-example-echo", &["--listen", "127.0.0.1:0"], &[])?;
    let line = workload.line("its address", |line| line.starts_with("listening on ")).await?;
    let _gate = node.connect(&shop.connection_key, line.trim_start_matches("listening on ")).await?;

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    anyhow::ensure!(
        folder.join("node_modules/playwright-core").exists(),
        "run `npm ci` in tests/browser first"
    );
    let pictures = tempfile::tempdir()?;
    let mut command = Command::new("node");
    command
        .arg(folder.join("sign-in.mjs"))
        .env("MEZU_URL", format!("https://{}:{}/account/me", shop.host, node.port))
        .env("MEZU_EMAIL", &shop.email)
        .env("MEZU_PASSWORD", &shop.password)
        .env("MEZU_NAME", "Ada Lovelace")
        .env("MEZU_PICTURES", std::env::var_os("MEZU_PICTURES").unwrap_or_else(|| pictures.path().into()))
        .kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(90), command.output()).await??;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Ok(())
}
