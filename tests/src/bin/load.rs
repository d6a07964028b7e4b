//! The load driver: requests in flight over h1 or h3 for some seconds; throughput and percentiles as JSON.
//!
//! Closed loop: each of N lanes sends its next request when the last one ended. A response that is not the
//! expected status ends the run with an error, so that no figure stands for failures.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::Request;
use http_body_util::Full;
use mezusphere_tests::client::{self, Target, h1, h3};
use mezusphere_tests::stats::Latencies;

/// Drives one URL and prints what it measured.
#[derive(Parser)]
struct Args {
    /// `https://host:port/path`; names under localhost are loopback.
    url: String,
    /// Which protocol.
    #[arg(long, value_enum, default_value = "h3")]
    protocol: Protocol,
    /// Requests in flight: connections on h1, streams spread over `--connections` on h3.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Connections of an h3 run.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Root certificates to trust, PEM.
    #[arg(long)]
    ca: PathBuf,
    /// A request header, `name: value`; may be repeated.
    #[arg(long = "header")]
    headers: Vec<String>,
    /// The status every response must have.
    #[arg(long, default_value_t = 200)]
    expect: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    H1,
    H3,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let target = Target::parse(&args.url)?;
    let alpn: &[u8] = if args.protocol == Protocol::H1 { b"http/1.1" } else { b"h3" };
    let tls = Arc::new(client::tls(&args.ca, &[alpn])?);

    let mut lanes = Vec::with_capacity(args.in_flight);
    let mut shared = Vec::new();
    for lane in 0..args.in_flight {
        lanes.push(match args.protocol {
            Protocol::H1 => Lane::H1(h1::Connection::open(&target, &tls).await?),
            Protocol::H3 => {
                if shared.len() < args.connections.max(1) {
                    shared.push(h3::Connection::open(&target, &tls).await?);
                }
                let connection = shared.get(lane % shared.len()).cloned();
                Lane::H3(connection.ok_or_else(|| anyhow::anyhow!("no connection"))?)
            }
        });
    }

    let run = Arc::new(Run { target, headers: args.headers, expect: args.expect });
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(args.seconds);
    let tasks: Vec<_> =
        lanes.into_iter().map(|lane| tokio::spawn(drive(lane, Arc::clone(&run), end))).collect();
    let mut all = Latencies::default();
    for task in tasks {
        all.merge(&task.await??);
    }
    let elapsed = begin.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let per_second = all.count() as f64 / elapsed;
    let figures = serde_json::json!({
        "requests": all.count(),
        "seconds": elapsed,
        "per_second": per_second,
        "p50_us": all.percentile(50.0),
        "p99_us": all.percentile(99.0),
    });
    writeln!(std::io::stdout(), "{figures}")?;
    Ok(())
}

/// What every lane sends, and what it must get.
struct Run {
    target: Target,
    headers: Vec<String>,
    expect: u16,
}

impl Run {
    fn request<B>(&self, uri: &str, body: B) -> anyhow::Result<Request<B>> {
        let mut request = Request::builder().uri(uri);
        for header in &self.headers {
            let (name, value) =
                header.split_once(':').ok_or_else(|| anyhow::anyhow!("{header}: no colon"))?;
            request = request.header(name.trim(), value.trim());
        }
        Ok(request.body(body)?)
    }
}

enum Lane {
    H1(h1::Connection),
    H3(h3::Connection),
}

async fn drive(mut lane: Lane, run: Arc<Run>, end: Instant) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    let absolute = format!("https://{}{}", run.target.authority, run.target.path);
    while Instant::now() < end {
        let begin = Instant::now();
        let status = match &mut lane {
            Lane::H1(connection) => {
                let mut request = run.request(&run.target.path, Full::new(Bytes::new()))?;
                request.headers_mut().insert(http::header::HOST, run.target.authority.parse()?);
                connection.fetch(request).await?.status()
            }
            Lane::H3(connection) => connection.fetch(run.request(&absolute, ())?).await?.status(),
        };
        anyhow::ensure!(status == run.expect, "{absolute} answered {status}, expected {}", run.expect);
        latencies.add(begin.elapsed().as_micros());
    }
    Ok(latencies)
}
