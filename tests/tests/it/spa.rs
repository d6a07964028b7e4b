//! A single-page application with a sign-in form of its own, in a real browser: `examples/spa` behind a real warpgate.

use std::path::Path;

use anyhow::{Context as _, Result};
use mezusphere_tests::clients;
use mezusphere_tests::program::Program;
use mezusphere_tests::system::Node;
use tokio::process::Command;

const HOST: &str = "shop.localhost";
const EMAIL: &str = "ada@example.com";

/// A shop whose pages are public and whose API is not, and a blog with accounts of its own. Gives Ada's password and the
/// connection key.
async fn seed(node: &Node) -> Result<(String, String)> {
    for project in ["shop", "blog"] {
        node.admin(&["project", "create", project]).await?;
    }
    node.admin(&["route", "add", "shop", "/*", "--auth", "public", "--upstream", "web"]).await?;
    node.admin(&["route", "add", "shop", "/api/*", "--auth", "required", "--upstream", "api"]).await?;
    node.admin(&["route", "add", "blog", "/*", "--auth", "public"]).await?;
    let user = node.admin(&["user", "create", "shop", EMAIL, "--name", "Ada Lovelace"]).await?;
    let key = node.admin(&["api-key", "create", "shop"]).await?;
    let text =
        |value: &serde_json::Value, name: &str| value[name].as_str().map(str::to_owned).context("a text");
    Ok((text(&user, "password")?, text(&key, "secret")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_signs_people_in_with_a_form_of_its_own() -> Result<()> {
    let node = Node::start(&[]).await?;
    let (password, key) = seed(&node).await?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = root.join("../examples/spa");
    let pages = pages.to_str().context("a path in UTF-8")?;
    let words = ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", pages];
    let web = Program::start_outside(&clients::interpreter()?, &words)?;
    let line = web.line("its port", |line| line.starts_with("Serving HTTP on ")).await?;
    let port = line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next()).context("a port")?;
    let echo = Program::start("mezusphere-example-echo", &["--listen", "127.0.0.1:0"], &[])?;
    let line = echo.line("its address", |line| line.starts_with("listening on ")).await?;
    let (web_at, api_at) =
        (format!("web=http://127.0.0.1:{port}"), format!("api={}", line.trim_start_matches("listening on ")));
    let arguments = ["connect", "--output", "json", "--upstream", &web_at, "--upstream", &api_at];
    let gate = Program::start("warpgate", &arguments, &[("WARPGATE_KEY", &key)])?;
    gate.event("ready").await?;
    node.routes(HOST, "/api/me").await?;

    let folder = root.join("browser");
    anyhow::ensure!(
        folder.join("node_modules/playwright-core").exists(),
        "run `npm ci` in tests/browser first"
    );
    let pictures = tempfile::tempdir()?;
    let mut command = Command::new("node");
    command
        .arg(root.join("clients/spa.mjs"))
        .env("MEZU_URL", format!("https://{HOST}:{}/", node.port))
        .env("MEZU_OTHER", format!("https://blog.localhost:{}/.mezu/whoami", node.port))
        .env("MEZU_LOGIN", format!("https://login.mezu.localhost:{}", node.port))
        .env("MEZU_HOST", HOST)
        .env("MEZU_EMAIL", EMAIL)
        .env("MEZU_PASSWORD", &password)
        .env("MEZU_PICTURES", std::env::var_os("MEZU_PICTURES").unwrap_or_else(|| pictures.path().into()))
        .kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(90), command.output()).await??;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Ok(())
}
