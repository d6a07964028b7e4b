//! The recording upstream as a program, for the bench: reads every body to its end and answers.

use std::io::Write as _;
use std::net::SocketAddr;

use clap::Parser;
use mezusphere_tests::upstream::Upstream;

/// A workload for measurements.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let upstream = Upstream::listen(Args::parse().listen).await?;
    writeln!(std::io::stdout(), "listening on {}", upstream.url())?;
    std::future::pending().await
}
