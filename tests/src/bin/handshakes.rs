//! The handshake driver: connections that are made, shaken hands on and closed, for some seconds; how many and how long
//! each took as JSON.
//!
//! Closed loop: each of N lanes begins its next when the last is over, which is when the server's ticket has come. A
//! handshake that is not of the kind asked for ends the run with an error, so that no figure stands for another.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use mezusphere_tests::client::{self, Target};
use mezusphere_tests::stats::Latencies;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

/// Drives one address and prints what it measured.
#[derive(Parser)]
struct Args {
    /// `https://host:port`; names under localhost are loopback.
    url: String,
    /// Handshakes in flight.
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Which version.
    #[arg(long, value_enum, default_value = "1.3")]
    tls: Version,
    /// The one group that is offered.
    #[arg(long, value_enum, default_value = "x25519")]
    group: Group,
    /// Resume: the first handshake of each lane is not counted.
    #[arg(long)]
    resumed: bool,
    /// Root certificates to trust, PEM.
    #[arg(long)]
    ca: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Version {
    #[value(name = "1.2")]
    Tls12,
    #[value(name = "1.3")]
    Tls13,
}

#[derive(Clone, Copy, ValueEnum)]
enum Group {
    X25519,
    X25519mlkem768,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let target = Arc::new(Target::parse(&args.url)?);
    let roots = Arc::new(client::roots(&args.ca)?);
    let mut lanes = Vec::with_capacity(args.in_flight);
    for _ in 0..args.in_flight {
        let lane = Lane::new(&args, Arc::clone(&target), Arc::clone(&roots))?;
        if args.resumed {
            lane.shake(HandshakeKind::Full).await?;
        }
        lanes.push(lane);
    }
    let expected = if args.resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(args.seconds);
    let tasks: Vec<_> = lanes.into_iter().map(|lane| tokio::spawn(drive(lane, expected, end))).collect();
    let mut all = Latencies::default();
    for task in tasks {
        all.merge(&task.await??);
    }
    writeln!(std::io::stdout(), "{}", all.figures(begin.elapsed()))?;
    Ok(())
}

async fn drive(lane: Lane, expected: HandshakeKind, end: Instant) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    while Instant::now() < end {
        let begin = Instant::now();
        lane.shake(expected).await?;
        latencies.add(begin.elapsed().as_micros());
    }
    Ok(latencies)
}

/// A client with tickets of its own.
struct Lane {
    target: Arc<Target>,
    connector: TlsConnector,
    tickets: watch::Receiver<usize>,
    group: NamedGroup,
}

impl Lane {
    fn new(args: &Args, target: Arc<Target>, roots: Arc<RootCertStore>) -> anyhow::Result<Self> {
        let (group, name) = match args.group {
            Group::X25519 => (aws_lc_rs::kx_group::X25519, NamedGroup::X25519),
            Group::X25519mlkem768 => (aws_lc_rs::kx_group::X25519MLKEM768, NamedGroup::X25519MLKEM768),
        };
        let version: &'static SupportedProtocolVersion = match args.tls {
            Version::Tls12 => &TLS12,
            Version::Tls13 => &TLS13,
        };
        let mut provider = aws_lc_rs::default_provider();
        // The certificate's own curve as well: in TLS 1.2 a server shows none whose curve the client does not know (RFC 8422 §5.1).
        provider.kx_groups = vec![group, aws_lc_rs::kx_group::SECP256R1];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (told, tickets) = watch::channel(0);
        let kept = args.resumed.then(|| ClientSessionMemoryCache::new(8));
        config.resumption = Resumption::store(Arc::new(Tickets { kept, told }));
        Ok(Self { target, connector: TlsConnector::from(Arc::new(config)), tickets, group: name })
    }

    /// One connection, until its ticket has come.
    async fn shake(&self, expected: HandshakeKind) -> anyhow::Result<()> {
        let before = *self.tickets.borrow();
        let tcp = TcpStream::connect(self.target.address).await?;
        tcp.set_nodelay(true)?;
        let mut stream = self.connector.connect(self.target.server_name()?, tcp).await?;
        let (_, session) = stream.get_ref();
        let kind = session.handshake_kind().context("it is done")?;
        anyhow::ensure!(kind == expected, "the handshake was {kind:?}, not {expected:?}");
        let group = session.negotiated_key_exchange_group().map(SupportedKxGroup::name);
        // A session of TLS 1.2 that is resumed has no key exchange of its own.
        anyhow::ensure!(group.is_none_or(|group| group == self.group), "the group was {group:?}");
        let mut tickets = self.tickets.clone();
        tokio::select! {
            come = tickets.wait_for(|count| *count > before) => drop(come?),
            // Reading is what takes tickets in; nothing else is sent to a client that asks for nothing.
            read = stream.read_u8() => anyhow::bail!("the server said something or left: {read:?}"),
        }
        stream.shutdown().await?;
        Ok(())
    }
}

/// Tells when a ticket comes, and keeps it if it is to be used.
#[derive(Debug)]
struct Tickets {
    kept: Option<ClientSessionMemoryCache>,
    told: watch::Sender<usize>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        if let Some(kept) = &self.kept {
            kept.set_tls12_session(name, value);
        }
        self.told.send_modify(|count| *count += 1);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept.as_ref()?.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        if let Some(kept) = &self.kept {
            kept.remove_tls12_session(name);
        }
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        if let Some(kept) = &self.kept {
            kept.insert_tls13_ticket(name, value);
        }
        self.told.send_modify(|count| *count += 1);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.as_ref()?.take_tls13_ticket(name)
    }
}
