//! `warpgate check`: everything a connect needs, looked at without leaving a trace.
//!
//! ```text
//! network     handshakes that only look          report     the table
//! ```
//!
//! The key is tried with the dry run of an enrollment: control says what it would find, and makes nothing. Edges are
//! dialled up to the point where they ask for a certificate.

mod network;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use mezusphere_model::Clock;
use mezusphere_model::bundle::EdgeAddress;
use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_model::slug::Slug;
use mezusphere_pki::EDGE_DNS_NAME;
use mezusphere_pki::tls::tunnel_check_config;
use tunnel_proto::exchange::FailureCode;

pub use report::{Report, Row, Verdict};

use crate::bundle::{Bundles, Trusted};
use crate::enroll::{self, ConnectFailure, ConnectService, DryRun, Known};
use crate::exchange::{Reached, reach_all};
use crate::exit::Exit;
use crate::limits::{CHECK_EDGES_MAX, PROBE_MAX};
use crate::resolve::resolve;
use crate::state::{self, Found, StateDir};
use crate::tunnel::Network;
use crate::upstream::{Scheme, Upstreams};
use network::Seen;

/// What is checked.
pub struct Check {
    /// The key; `Err`: why there is none.
    pub key: ConnectionKey,
    /// Its last four characters.
    pub key_hint: String,
    /// Where the key was found.
    pub key_source: String,
    /// The upstreams.
    pub upstreams: Upstreams,
    /// Where certificate and key are kept.
    pub state_dir: Option<PathBuf>,
    /// The socket, with the proxy of the way out.
    pub network: Network,
    /// Tells the time.
    pub clock: Clock,
    /// This machine's name.
    pub hostname: String,
}

/// Looks at everything. Takes a few seconds at most where nothing answers.
pub async fn run(check: Check) -> Report {
    let (way, upstreams) = tokio::join!(way(&check), reach_all(&check.upstreams, PROBE_MAX));
    let (mut rows, trusted) = way;
    rows.extend(upstreams.iter().map(upstream));
    if let Some(trusted) = trusted {
        rows.extend(undeclared(&trusted, &check.upstreams));
    }
    rows.push(buffers(&check.network));
    Report { rows }
}

/// The way to the platform, and what it said.
async fn way(check: &Check) -> (Vec<Row>, Option<Trusted>) {
    let known = known(check);
    let mut rows = connect_host(check, &known).await;
    let hint = format!("…{}", check.key_hint);
    let network = check.network.clone();
    let service =
        ConnectService::new(network, check.key.clone(), check.clock.clone(), check.hostname.clone());
    let found = match service.dry_run(&known).await {
        Ok(found) => found,
        Err(failure) => {
            rows.extend(refused(&failure, &service.address(), &hint, &check.key_source));
            return (rows, None);
        }
    };
    rows.push(Row::pass(
        "control plane",
        service.address(),
        format!("answers over {} in {} ms", found.transport.as_str(), found.took.as_millis()),
    ));
    rows.push(match &found.clock {
        Ok(skew) => Row::pass("clock", "", format!("{skew:+} ms from the control plane's")),
        Err(failure) => failed("clock", "", failure),
    });
    let belongs =
        format!("\"{}\" · project {} · environment {}", found.account, found.project, found.environment);
    rows.push(Row::pass("key", hint, belongs));
    let trusted = match trusted(check, &found) {
        Ok(bundles) => bundles,
        Err(failure) => {
            rows.push(failed("bundle", service.address(), &failure));
            return (rows, None);
        }
    };
    rows.push(certificate(check, found.certificate));
    let edges = trusted.current().edges.clone();
    rows.extend(edges_of(check, &trusted, &edges).await);
    let current = std::sync::Arc::clone(&trusted.current());
    drop(trusted);
    (rows, std::sync::Arc::into_inner(current))
}

fn trusted(check: &Check, found: &DryRun) -> Result<Bundles, ConnectFailure> {
    let (environment, clock) = (check.key.environment, check.clock.clone());
    Bundles::start(found.bundle.clone(), &found.pinned, environment, clock.now(), clock)
        .map_err(|why| ConnectFailure::unusable_bundle(&why))
}

/// What was kept from before: the key is told to nobody to whom the warpgate itself would not tell it.
fn known(check: &Check) -> Known {
    let Some(directory) = &check.state_dir else { return Known::default() };
    match state::read(directory, check.key.environment, check.clock.now()) {
        Ok(Found::Kept(kept) | Found::Ended(kept)) => Known::kept(&kept, &check.clock),
        // What cannot be read is not used by a warpgate that starts either.
        Ok(Found::Nothing) | Err(_) => Known::default(),
    }
}

/// The connect service's host: its name, the proxy, UDP and TCP.
async fn connect_host(check: &Check, known: &Known) -> Vec<Row> {
    let (host, port) = (check.key.host.as_str(), check.key.port);
    let authority = format!("{host}:{port}");
    let proxy = check.network.proxy.for_host(host, port);
    let mut rows = Vec::new();
    let addresses = match resolve(host, port).await {
        Ok(addresses) => {
            let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            rows.push(Row::pass("dns", host, shown.join(", ")));
            addresses
        }
        Err(why) => {
            let advice = "check the resolver of this machine (/etc/resolv.conf), or that the name is right";
            rows.push(match proxy {
                Some(_) => {
                    Row::warn("dns", host, why.to_string(), "the proxy may know the name; QUIC needs it here")
                }
                None => Row::fail("dns", host, why.to_string(), advice, Exit::ControlUnreachable),
            });
            Vec::new()
        }
    };
    if addresses.is_empty() && proxy.is_none() {
        rows.push(Row::skip(&format!("udp {port}"), authority.clone(), "the name has no address"));
        rows.push(Row::skip(&format!("tcp {port}"), authority, "the name has no address"));
        return rows;
    }
    let Ok(tls) = enroll::tls(&check.key, known, &check.clock) else {
        rows.push(Row::fail("tls", authority, "TLS cannot be set up here", "report it", Exit::Failed));
        return rows;
    };
    let (udp, tcp) = tokio::join!(
        network::quic(&check.network.endpoint, &tls, &addresses, host),
        network::tcp(&tls, &addresses, proxy.map(|proxy| (proxy, authority.as_str())), host),
    );
    if let Some(proxy) = proxy {
        let proxy = proxy.to_string();
        rows.push(match &tcp {
            Seen::Wrong { code, what, next } if code.starts_with("proxy.") => {
                Row::fail("proxy", proxy, what.clone(), next, Exit::NoTransport).coded(code)
            }
            _ => Row::pass("proxy", proxy, format!("connects to {authority}")),
        });
    }
    let transport = |name: &str, seen: &Seen, other_works: bool, advice: &str| {
        let check = format!("{name} {port}");
        match seen {
            Seen::Right { took } => {
                Row::pass(&check, authority.clone(), format!("handshake in {} ms", took.as_millis()))
            }
            Seen::Open => {
                Row::pass(&check, authority.clone(), "open; the connect service is reached otherwise")
            }
            Seen::Wrong { code, what, next } => {
                Row::fail(&check, authority.clone(), what.clone(), next, Exit::ControlUnreachable).coded(code)
            }
            Seen::Silent(why) if other_works => Row::warn(&check, authority.clone(), why.clone(), advice),
            Seen::Silent(why) => {
                Row::fail(&check, authority.clone(), why.clone(), UNREACHABLE, Exit::ControlUnreachable)
            }
        }
    };
    rows.push(transport("udp", &udp, tcp.is_open(), NO_UDP));
    rows.push(transport("tcp", &tcp, udp.is_open(), NO_TCP));
    rows
}

const NO_UDP: &str =
    "let UDP out to that port; until then tunnels run over TCP, where one loss holds up everything";

const NO_TCP: &str = "let TCP out to that port: it is the way that is left when UDP is blocked";

const UNREACHABLE: &str =
    "check that the platform runs, and that a firewall lets UDP or TCP out to that port";

fn refused(failure: &ConnectFailure, address: &str, hint: &str, source: &str) -> Vec<Row> {
    if !failure.by_control {
        let whole = failed("control plane", address, failure);
        return vec![whole, Row::skip("key", hint, "well-formed; the control plane was not asked")];
    }
    let control = Row::pass("control plane", address, "answers");
    let target = format!("{hint} from {source}");
    vec![control, failed(if failure.exit == Exit::TooOld { "version" } else { "key" }, target, failure)]
}

fn failed(check: &str, target: impl Into<String>, failure: &ConnectFailure) -> Row {
    let exit = if failure.exit == Exit::Done { Exit::Failed } else { failure.exit };
    Row::fail(check, target, failure.message.clone(), &failure.next, exit).coded(&failure.code)
}

/// The certificate that is kept, or how long a new one would be good for.
fn certificate(check: &Check, life: Duration) -> Row {
    let fresh = format!("a new one would be valid {} h", life.as_secs() / 3600);
    let Some(directory) = &check.state_dir else { return Row::pass("certificate", "", fresh) };
    let shown = directory.display().to_string();
    if !directory.exists() {
        return Row::pass("certificate", shown, format!("nothing is kept yet; {fresh}"));
    }
    match StateDir::open(directory) {
        Ok(state) => match state.load(check.key.environment, check.clock.now()) {
            Ok(Found::Kept(kept)) => {
                Row::pass("certificate", shown, format!("kept, valid until {}", kept.identity.not_after()))
            }
            Ok(Found::Nothing) => Row::pass("certificate", shown, format!("nothing is kept yet; {fresh}")),
            Ok(Found::Ended(kept)) => Row::warn(
                "certificate",
                shown,
                format!(
                    "what is kept ended at {}; this machine's clock says {}",
                    kept.identity.not_after(),
                    check.clock.now()
                ),
                "connect gets a new one; if it ended lately, check the clock (timedatectl)",
            ),
            Err(why) => Row::warn(
                "certificate",
                shown,
                format!("what is kept is not used: {why}"),
                "connect gets a new one",
            ),
        },
        Err(why @ state::StateError::InUse(_)) => Row::pass("certificate", shown, why.to_string()),
        Err(why) => Row::fail(
            "certificate",
            shown,
            why.to_string(),
            "give a directory that this user owns, or leave --state-dir out",
            Exit::Usage,
        ),
    }
}

/// Each edge of the bundle, over UDP and over TCP. One that works is enough.
async fn edges_of(check: &Check, trusted: &Bundles, edges: &[EdgeAddress]) -> Vec<Row> {
    if edges.is_empty() {
        let advice = "ask who runs the installation: no edge is announced for this environment";
        return vec![Row::fail("edges", "", "there is none", advice, Exit::NoTransport)];
    }
    let looking = edges
        .iter()
        .take(CHECK_EDGES_MAX)
        .map(|edge| async move { (edge, dial(check, trusted, edge).await) });
    let seen = join_all(looking).await;
    let is_right = |seen: &Seen| matches!(seen, Seen::Right { .. });
    let any = seen.iter().any(|(_, (udp, tcp))| is_right(udp) || is_right(tcp));
    seen.iter().map(|(edge, (udp, tcp))| edge_row(edge, udp, tcp, any)).collect()
}

async fn dial(check: &Check, trusted: &Bundles, edge: &EdgeAddress) -> (Seen, Seen) {
    let authority = format!("{}:{}", edge.host, edge.port);
    let proxy = check.network.proxy.for_host(&edge.host, edge.port);
    let addresses = match resolve(&edge.host, edge.port).await {
        Ok(addresses) => addresses,
        Err(why) if proxy.is_none() => {
            return (Seen::Silent(why.to_string()), Seen::Silent(why.to_string()));
        }
        Err(_) => Vec::new(),
    };
    let tls = tunnel_check_config(trusted.trust(), edge.id, &check.clock, &[tunnel_proto::ALPN]);
    let Ok(tls) = tls else {
        let why = || Seen::Silent("TLS cannot be set up here".to_owned());
        return (why(), why());
    };
    tokio::join!(
        network::quic(&check.network.endpoint, &tls, &addresses, EDGE_DNS_NAME),
        network::tcp(&tls, &addresses, proxy.map(|proxy| (proxy, authority.as_str())), EDGE_DNS_NAME),
    )
}

fn edge_row(edge: &EdgeAddress, udp: &Seen, tcp: &Seen, others_work: bool) -> Row {
    let (check, target) = (format!("edge {}", edge.name), format!("{}:{}", edge.host, edge.port));
    let words = |name: &str, seen: &Seen| match seen {
        Seen::Right { took } => format!("{name} {} ms", took.as_millis()),
        Seen::Open => format!("{name} open"),
        Seen::Wrong { what, .. } => format!("{name}: {what}"),
        Seen::Silent(why) => format!("{name}: {why}"),
    };
    let found = format!("{}, {}", words("quic", udp), words("tcp", tcp));
    match (udp, tcp) {
        (Seen::Right { .. }, Seen::Right { .. }) => Row::pass(&check, target, found),
        (Seen::Right { .. }, _) => Row::warn(&check, target, found, NO_TCP),
        (_, Seen::Right { .. }) => Row::warn(&check, target, found, NO_UDP),
        _ if others_work => {
            Row::warn(&check, target, found, "other edges take the requests; ask who runs it")
        }
        (Seen::Wrong { code, next, .. }, _) | (_, Seen::Wrong { code, next, .. }) => {
            Row::fail(&check, target, found, next, Exit::NoTransport).coded(code)
        }
        _ => Row::fail(&check, target, found, UNREACHABLE, Exit::NoTransport),
    }
}

fn upstream(reached: &Reached) -> Row {
    let (check, target) = (format!("upstream {}", reached.name), reached.target.to_string());
    match &reached.outcome {
        Ok(probed) => {
            let took = probed.took.as_millis();
            match probed.status {
                Some(status) => Row::pass(&check, target, format!("answers {status} in {took} ms")),
                None => Row::warn(
                    &check,
                    target,
                    "takes the connection, but does not answer HTTP",
                    "check the port and the scheme: http, https, h2c or unix",
                ),
            }
        }
        Err(failure) => {
            let detail = failure.detail.split(" (os error").next().unwrap_or(&failure.detail);
            // The target stands in front of it already.
            let detail = detail.strip_prefix(&format!("{target}: ")).unwrap_or(detail);
            let advice = advice(failure.code, detail, reached.target.scheme());
            Row::fail(&check, target, detail, advice, Exit::Origin).coded(failure.code.name())
        }
    }
}

fn advice(code: FailureCode, detail: &str, scheme: Scheme) -> &'static str {
    match code {
        FailureCode::UpstreamUnresolved => "correct the name, or check this machine's resolver",
        FailureCode::UpstreamTls => {
            "give its certificate authority with --upstream-ca, or its key with --upstream-pin"
        }
        _ if scheme == Scheme::Unix && detail.to_lowercase().contains("permission") => {
            "let this user write to the socket, for example by its group"
        }
        _ if scheme == Scheme::Unix => "start what listens on that socket, or correct its path",
        FailureCode::UpstreamConnectTimeout => {
            "check the address, and that a firewall lets this machine through"
        }
        _ => "start what listens there, or correct --upstream",
    }
}

/// Upstreams that routes lead to and nobody declared here.
fn undeclared(trusted: &Trusted, upstreams: &Upstreams) -> Vec<Row> {
    let mut missing: Vec<&Slug> = trusted
        .routes()
        .iter()
        .map(|route| &route.upstream)
        .filter(|name| upstreams.get(name).is_none())
        .collect();
    missing.sort_unstable();
    missing.dedup();
    let row = |name: &Slug| {
        let advice = format!("declare it: --upstream {name}=URL, unless another warpgate serves it");
        Row::warn(&format!("upstream {name}"), "", "routes lead to it, and it is not declared here", &advice)
    };
    missing.into_iter().map(row).collect()
}

fn buffers(network: &Network) -> Row {
    let mebibytes = |octets: usize| {
        let tenths = octets.saturating_mul(10) / (1024 * 1024);
        format!("{}.{} MiB", tenths / 10, tenths % 10)
    };
    let found =
        format!("{} receive, {} send", mebibytes(network.receive_buffer), mebibytes(network.send_buffer));
    match network.advice() {
        None => Row::pass("udp buffers", "", found),
        Some(advice) => Row::warn("udp buffers", "", format!("{found}: small for fast links"), &advice),
    }
}
