//! The load driver: requests in flight over h1, h2 or h3, or messages over a WebSocket, for some seconds; throughput
//! and percentiles as JSON.
//!
//! Closed loop: each of N lanes sends its next request when the last one ended. A response that is not the
//! expected status ends the run with an error, so that no figure stands for failures. With `--hold` each lane sends one
//! request and waits for an answer that never comes, until standard input ends: what so many cost can be measured.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::Request;
use http_body_util::Full;
use mezusphere_tests::client::{self, Target, h1, h2, h3, ws};
use mezusphere_tests::stats::Latencies;

/// Drives one URL and prints what it measured.
#[derive(Parser)]
struct Args {
    /// `https://host:port/path`; names under localhost are loopback.
    url: String,
    /// Which protocol.
    #[arg(long, value_enum, default_value = "h3")]
    protocol: Protocol,
    /// Requests in flight: connections on h1 and ws, streams spread over `--connections` on h2 and h3.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Connections of an h2 or h3 run.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Send one request on each lane and hold it until standard input ends.
    #[arg(long)]
    hold: bool,
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
    H2,
    H3,
    /// WebSocket echo over h1: a message of 100 octets there and back counts as a request.
    Ws,
}

impl Protocol {
    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::H1 | Self::Ws => b"http/1.1",
            Self::H2 => b"h2",
            Self::H3 => b"h3",
        }
    }
}

/// What a WebSocket lane sends.
const MESSAGE: &[u8; 100] = &[b'm'; 100];

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let target = Target::parse(&args.url)?;
    let tls = Arc::new(client::tls(&args.ca, &[args.protocol.alpn()])?);
    let lanes = open(&args, &target, &tls).await?;
    let run = Arc::new(Run { target, headers: args.headers, expect: args.expect });
    if args.hold {
        return hold(lanes, run).await;
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(args.seconds);
    let tasks: Vec<_> =
        lanes.into_iter().map(|lane| tokio::spawn(drive(lane, Arc::clone(&run), end))).collect();
    let mut all = Latencies::default();
    for task in tasks {
        all.merge(&task.await??);
    }
    writeln!(std::io::stdout(), "{}", all.figures(begin.elapsed()))?;
    Ok(())
}

/// Opens the connections and spreads the lanes over them.
async fn open(args: &Args, target: &Target, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Vec<Lane>> {
    let mut lanes: Vec<Lane> = Vec::with_capacity(args.in_flight);
    let connections = args.connections.max(1);
    for lane in 0..args.in_flight {
        let shared = lanes.get(lane % connections).filter(|_| lane >= connections);
        lanes.push(match (args.protocol, shared) {
            (Protocol::H1, _) => Lane::H1(h1::Connection::open(target, tls).await?),
            (Protocol::Ws, _) => Lane::Ws(Box::new(ws::WebSocket::open(target, tls).await?)),
            (_, Some(Lane::H2(open))) => Lane::H2(open.clone()),
            (_, Some(Lane::H3(open))) => Lane::H3(open.clone()),
            (Protocol::H2, _) => Lane::H2(h2::Connection::open(target, tls).await?),
            (Protocol::H3, _) => Lane::H3(h3::Connection::open(target, tls).await?),
        });
    }
    Ok(lanes)
}

/// Sends one request on each lane and waits until standard input ends; an answer is an error.
async fn hold(lanes: Vec<Lane>, run: Arc<Run>) -> anyhow::Result<()> {
    let count = lanes.len();
    let mut held = tokio::task::JoinSet::new();
    for mut lane in lanes {
        let run = Arc::clone(&run);
        held.spawn(async move { lane.ask(&run).await });
    }
    writeln!(std::io::stdout(), "{}", serde_json::json!({ "held": count }))?;
    let (ended, end) = tokio::sync::oneshot::channel();
    // Ends with standard input, or with the process.
    std::thread::spawn(move || ended.send(std::io::copy(&mut std::io::stdin(), &mut std::io::sink())));
    tokio::select! {
        ended = end => drop(ended??),
        Some(answered) = held.join_next() => anyhow::bail!("a held request was answered: {:?}", answered?),
    }
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
    H2(h2::Connection),
    H3(h3::Connection),
    Ws(Box<ws::WebSocket>),
}

impl Lane {
    /// One request and its answer, or one message and its echo.
    async fn ask(&mut self, run: &Run) -> anyhow::Result<()> {
        let absolute = format!("https://{}{}", run.target.authority, run.target.path);
        let status = match self {
            Self::H1(connection) => {
                let mut request = run.request(&run.target.path, Full::new(Bytes::new()))?;
                request.headers_mut().insert(http::header::HOST, run.target.authority.parse()?);
                connection.fetch(request).await?.status()
            }
            Self::H2(connection) => {
                connection.fetch(run.request(&absolute, Full::new(Bytes::new()))?).await?.status()
            }
            Self::H3(connection) => connection.fetch(run.request(&absolute, ())?).await?.status(),
            Self::Ws(socket) => return socket.echo(MESSAGE).await,
        };
        anyhow::ensure!(status == run.expect, "{absolute} answered {status}, expected {}", run.expect);
        Ok(())
    }
}

async fn drive(mut lane: Lane, run: Arc<Run>, end: Instant) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    while Instant::now() < end {
        let begin = Instant::now();
        lane.ask(&run).await?;
        latencies.add(begin.elapsed().as_micros());
    }
    Ok(latencies)
}
