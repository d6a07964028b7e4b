//! Sign-in as people meet it: every hosted flow in a real browser, with the mails it sends; and how mail gets out.

mod flows;
mod mail;
mod timing;

use anyhow::{Context as _, Result};
use mezusphere_tests::system::Node;
use serde_json::Value;
use tokio::process::Command;

/// Asks the admin API through the node's socket, for what has no command of its own.
async fn api(node: &Node, method: &str, path: &str, body: &Value) -> Result<Value> {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--request", method, "--unix-socket"])
        .arg(node.data().join("admin.sock"))
        .args(["--header", "content-type: application/json", "--data", &body.to_string()])
        .args(["--write-out", "\n%{http_code}"])
        .arg(format!("http://localhost/api/v1{path}"))
        .kill_on_drop(true);
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (answer, status) = said.rsplit_once('\n').context("a status")?;
    anyhow::ensure!(status.starts_with('2'), "{method} {path}: {status} {answer}");
    Ok(serde_json::from_str(answer).unwrap_or(Value::Null))
}
