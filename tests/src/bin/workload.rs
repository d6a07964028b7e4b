//! The workload of the tests as a program, for the bench: says where it listens, as JSON, and runs until it is ended.

use std::io::Write as _;

use mezusphere_tests::workload::Workload;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let workload = Workload::start().await?;
    let places = serde_json::json!({ "event": "ready", "h1": workload.h1(), "h2c": workload.h2c() });
    writeln!(std::io::stdout(), "{places}")?;
    std::future::pending().await
}
