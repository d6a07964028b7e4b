//! `mezusphere serve`: runs control, an edge, or both in one process.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use mezusphere_control::{Advertise, CertificateFiles};
use mezusphere_model::document::NodeAddress;
use mezusphere_model::join_token::JoinToken;
use mezusphere_model::{Host, Platform};
use mezusphere_store::primary::PostgresConfig;
use mezusphere_telemetry::LogFormat;

use super::mail::MailFlags;
use super::seconds;
use crate::failure::{Failure, Kind};
use crate::node::{self, ControlPart, EdgePart, NodeConfig, NodePortPart, Role, Store};

/// Port of a development installation: needs no privilege.
const DEVELOPMENT_PORT: u16 = 8443;

/// Port where nodes reach control.
const NODE_PORT: u16 = 8444;

/// What --store says for the database in the data directory.
const SQLITE: &str = "sqlite";

/// Longest file with a join token, in octets.
const JOIN_FILE_LEN_MAX: u64 = 8 * 1024;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleName {
    /// Control and an edge in one process.
    All,
    /// Control alone; edges join over its node port.
    Control,
    /// An edge alone.
    Edge,
}

/// Runs the server until a signal ends it.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// What this node does.
    #[arg(long, value_name = "ROLE", default_value = "all", value_enum)]
    role: RoleName,
    /// What people call this node. (default: this machine's name)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where this node stands, for people.
    #[arg(long, value_name = "NAME", default_value = "local")]
    region: String,
    /// Private address for /healthz, /readyz and /metrics; keep it on loopback.
    #[arg(long, value_name = "ADDR")]
    health: Option<SocketAddr>,
    /// File with the master key that seals keys at rest. Also `MEZUSPHERE_MASTER_KEY` or the systemd
    /// credential `mezusphere-master-key`. (default: master.key in the data directory, made at the first start)
    #[arg(long, value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// What to log, as a tracing filter.
    #[arg(long, env = "MEZUSPHERE_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    #[command(flatten)]
    edge: EdgeFlags,
    #[command(flatten)]
    join: JoinFlags,
    #[command(flatten)]
    control: ControlFlags,
}

/// For roles all and edge.
#[derive(Debug, Args)]
#[command(next_help_heading = "Edge")]
struct EdgeFlags {
    /// Public address, TCP and UDP. (default: 0.0.0.0:443; for names under localhost 127.0.0.1:8443)
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Also answer plain HTTP here, with redirects to https.
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Where warpgates dial this edge, host:port. (default: connect. and --base, at the public port; needed for role edge)
    #[arg(long, value_name = "HOST:PORT", value_parser = advertise)]
    advertise: Option<Advertise>,
    /// Threads that serve connections. (default: one per core)
    #[arg(long, value_name = "COUNT", value_parser = workers)]
    workers: Option<NonZeroUsize>,
}

/// For role edge, at its first start.
#[derive(Debug, Args)]
#[command(next_help_heading = "Joining (role edge, first start)")]
struct JoinFlags {
    /// What `mezusphere edge invite` printed; good once.
    #[arg(
        long,
        env = "MEZUSPHERE_JOIN",
        hide_env_values = true,
        value_name = "TOKEN",
        conflicts_with = "join_file"
    )]
    join: Option<String>,
    /// File with the join token; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    join_file: Option<PathBuf>,
}

/// For roles all and control.
#[derive(Debug, Args)]
#[command(next_help_heading = "Control")]
struct ControlFlags {
    /// Parent domain of console., login. and connect.
    #[arg(long, value_name = "DOMAIN", default_value = "mezu.localhost")]
    base: Host,
    /// Parent domain of the endpoints; best another registrable domain than --base.
    #[arg(long, value_name = "DOMAIN", default_value = "localhost")]
    apps: Host,
    /// The public port as clients see it, where a load balancer changes it. (default: the port of --listen)
    #[arg(long, value_name = "PORT")]
    public_port: Option<u16>,
    /// Where state is kept: <postgres://user:password@host/database>, or sqlite, which is in the data directory. (default
    /// for role all: sqlite)
    #[arg(long, env = "MEZUSPHERE_STORE", hide_env_values = true, value_name = "URL")]
    store: Option<String>,
    /// Where other nodes arrive, TCP. (default: 0.0.0.0:8444 for role control; nowhere for role all)
    #[arg(long, value_name = "ADDR")]
    node_listen: Option<SocketAddr>,
    /// Where other nodes dial this one, host:port. (default: this machine's name and the port of --node-listen)
    #[arg(long, value_name = "HOST:PORT", value_parser = advertise)]
    node_advertise: Option<Advertise>,
    /// Public certificate chain, PEM, leaf first; may be repeated. Without it the internal CA issues one.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Vec<PathBuf>,
    /// Private key of the public certificate, PEM; one for each --tls-cert, in the same order.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Vec<PathBuf>,
    /// E-mail address of the first operator. (default: operator@ and --base)
    #[arg(long, value_name = "EMAIL")]
    operator: Option<String>,
    /// Life of internal certificates, 1m to 24h.
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = seconds)]
    leaf_ttl: u64,
    #[command(flatten)]
    mail: MailFlags,
}

impl Serve {
    /// Runs the server; gives its exit code.
    pub(crate) fn run(self, data: PathBuf, json: bool) -> Result<ExitCode, Failure> {
        let config = self.config(data, json)?;
        let wanted = Wanted::of(&config);
        // A first start that cannot serve must not leave half an installation behind. On a directory that is there the
        // node finds out by itself, after it knows that no other process holds it, which is the better answer.
        if !config.data.exists() {
            wanted.check()?;
        }
        node::run(config).map_err(|failure| match failure.kind {
            Kind::Listen => wanted.check().err().unwrap_or(failure),
            _ => failure,
        })
    }

    /// Whether this node is an edge alone.
    pub(crate) fn is_edge(&self) -> bool {
        self.role == RoleName::Edge
    }

    fn config(self, data: PathBuf, json: bool) -> Result<NodeConfig, Failure> {
        let name = self.name.unwrap_or_else(machine_name);
        let role = match self.role {
            RoleName::All => {
                let edge = self.edge.part(self.control.is_development());
                let port = edge.listen.port();
                let node_port = self.control.node_port(&name)?;
                Role::All(Box::new(self.control.part(port, node_port)?), edge)
            }
            RoleName::Control => {
                self.edge.refuse_for_control()?;
                if self.control.store.is_none() {
                    // Falling back to an empty SQLite because a variable was not set would start a second installation.
                    return Err(Failure::new(Kind::Usage, "a control node must be told where its state is kept").next(
                        "give --store postgres://… (or MEZUSPHERE_STORE); --store sqlite keeps it in the data directory, for one control node alone",
                    ));
                }
                let port = if self.control.is_development() { DEVELOPMENT_PORT } else { 443 };
                let node_port = self.control.node_port(&name)?;
                let node_port = node_port.unwrap_or_else(|| NodePortPart {
                    listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, NODE_PORT)),
                    advertise: self.control.node_address(&name, NODE_PORT),
                });
                Role::Control(Box::new(self.control.part(port, Some(node_port))?))
            }
            RoleName::Edge => {
                if self.control.store.is_some() {
                    return Err(Failure::new(Kind::Usage, "an edge has no database")
                        .next("leave --store out; what the edge needs comes from control"));
                }
                let edge = self.edge.part(false);
                if edge.advertise.is_none() {
                    return Err(Failure::new(Kind::Usage, "warpgates must know where to dial this edge")
                        .next("give --advertise HOST:PORT, a name or address that is this edge's alone"));
                }
                Role::Edge(edge, self.join.token()?)
            }
        };
        Ok(NodeConfig {
            data,
            master_key_file: self.master_key_file,
            name,
            region: self.region,
            health: self.health,
            log: self.log,
            log_format: json.then_some(LogFormat::Json),
            json,
            role,
        })
    }
}

impl EdgeFlags {
    fn part(self, is_development: bool) -> EdgePart {
        let listen = self.listen.unwrap_or_else(|| {
            if is_development {
                SocketAddr::from((Ipv4Addr::LOCALHOST, DEVELOPMENT_PORT))
            } else {
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443))
            }
        });
        EdgePart {
            listen,
            plain_http: self.http,
            workers: self.workers.unwrap_or_else(mezusphere_edge::EdgeConfig::workers_for_this_machine),
            advertise: self.advertise,
        }
    }

    fn refuse_for_control(&self) -> Result<(), Failure> {
        if self.listen.is_some() || self.http.is_some() || self.advertise.is_some() {
            return Err(Failure::new(Kind::Usage, "a control node has no public address")
                .next("give --listen, --http and --advertise to the edges; --node-listen says where they arrive here"));
        }
        Ok(())
    }
}

impl JoinFlags {
    fn token(self) -> Result<Option<JoinToken>, Failure> {
        let text = match (self.join, self.join_file) {
            (Some(text), _) => text,
            (None, Some(file)) => read_token(&file)?,
            (None, None) => return Ok(None),
        };
        let parsed = text.trim().parse().map_err(|why| {
            Failure::new(Kind::Usage, why).next("make one on a control node: mezusphere edge invite NAME")
        })?;
        Ok(Some(parsed))
    }
}

fn read_token(file: &Path) -> Result<String, Failure> {
    let unreadable = |why: io::Error| {
        Failure::new(Kind::Files, format!("cannot read {}: {why}", file.display())).next("check --join-file")
    };
    let mut text = String::new();
    if file.as_os_str() == "-" {
        io::stdin().take(JOIN_FILE_LEN_MAX).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        let open = std::fs::File::open(file).map_err(unreadable)?;
        open.take(JOIN_FILE_LEN_MAX).read_to_string(&mut text).map_err(unreadable)?;
    }
    Ok(text)
}

impl ControlFlags {
    fn is_development(&self) -> bool {
        self.base.as_str() == "localhost" || self.base.as_str().ends_with(".localhost")
    }

    fn node_address(&self, name: &str, port: u16) -> NodeAddress {
        match &self.node_advertise {
            Some(at) => NodeAddress { host: at.host.clone(), port: at.port },
            None => NodeAddress { host: name.to_owned(), port },
        }
    }

    fn node_port(&self, name: &str) -> Result<Option<NodePortPart>, Failure> {
        match self.node_listen {
            Some(listen) if listen.port() == 0 && self.node_advertise.is_none() => {
                Err(Failure::new(Kind::Usage, "other nodes must know the node port")
                    .next("give --node-listen a port, or --node-advertise"))
            }
            Some(listen) => {
                Ok(Some(NodePortPart { listen, advertise: self.node_address(name, listen.port()) }))
            }
            None => Ok(None),
        }
    }

    fn part(self, listen_port: u16, node_port: Option<NodePortPart>) -> Result<ControlPart, Failure> {
        let port = self.public_port.unwrap_or(listen_port);
        if port == 0 {
            return Err(Failure::new(Kind::Usage, "clients must know the port")
                .next("give --listen a port, or --public-port"));
        }
        if self.tls_cert.len() != self.tls_key.len() {
            return Err(Failure::new(Kind::Usage, "each --tls-cert needs its --tls-key")
                .next("give both, in the same order"));
        }
        let store = match &self.store {
            None => Store::Sqlite,
            Some(word) if word == SQLITE => Store::Sqlite,
            Some(url) => Store::Postgres(PostgresConfig::parse(url).map_err(|why| {
                Failure::new(Kind::Usage, why).next("write it as postgres://user:password@host/database")
            })?),
        };
        let mail = self.mail.config(&self.base)?;
        let files = self.tls_cert.into_iter().zip(self.tls_key);
        Ok(ControlPart {
            platform: Platform { base: self.base, apps: self.apps, port },
            operator: self.operator,
            leaf_ttl: Duration::from_secs(self.leaf_ttl),
            certificates: files.map(|(chain, key)| CertificateFiles { chain, key }).collect(),
            store,
            node_port,
            mail,
        })
    }
}

/// The addresses a node listens on, each with the flag that gives it and whether UDP is wanted too.
struct Wanted(Vec<(&'static str, SocketAddr, bool)>);

impl Wanted {
    fn of(config: &NodeConfig) -> Self {
        let (control, edge) = match &config.role {
            Role::All(control, edge) => (Some(control), Some(edge)),
            Role::Control(control) => (Some(control), None),
            Role::Edge(edge, _) => (None, Some(edge)),
        };
        let mut wanted = Vec::new();
        if let Some(edge) = edge {
            wanted.push(("--listen", edge.listen, true));
            wanted.extend(edge.plain_http.map(|at| ("--http", at, false)));
        }
        let node_port = control.and_then(|control| control.node_port.as_ref());
        wanted.extend(node_port.map(|port| ("--node-listen", port.listen, false)));
        wanted.extend(config.health.map(|at| ("--health", at, false)));
        Self(wanted)
    }

    /// Whether each can be had now; the answer names the flag of the first that cannot.
    fn check(&self) -> Result<(), Failure> {
        for &(flag, at, udp) in &self.0 {
            TcpListener::bind(at).map_err(|why| not_to_be_had(flag, "TCP", at, &why))?;
            if udp {
                UdpSocket::bind(at).map_err(|why| not_to_be_had(flag, "UDP", at, &why))?;
            }
        }
        Ok(())
    }
}

fn not_to_be_had(flag: &str, protocol: &str, at: SocketAddr, why: &io::Error) -> Failure {
    let words = why.to_string();
    let words = words.split(" (os error").next().unwrap_or(&words).to_lowercase();
    let next = match why.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("ports under 1024 need CAP_NET_BIND_SERVICE; or give {flag} another one")
        }
        io::ErrorKind::AddrNotAvailable => format!("give {flag} an address of this machine"),
        _ => format!("stop what listens there, or give {flag} another address"),
    };
    Failure::new(Kind::Listen, format!("{flag}: cannot listen on {protocol} {at}: {words}")).next(next)
}

fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let count = text.parse::<usize>().map_err(|_| format!("'{text}' is not a whole number"))?;
    NonZeroUsize::new(count).ok_or_else(|| "give at least 1".to_owned())
}

/// What this machine calls itself.
fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "node".to_owned() } else { name.to_owned() }
}

fn advertise(text: &str) -> Result<Advertise, String> {
    let wrong = || format!("'{text}' is not host:port");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() { Err(wrong()) } else { Ok(Advertise { host, port }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_told_with_its_flag() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = taken.local_addr().unwrap();
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let failure = Wanted(vec![("--listen", free, true), ("--http", at, false)]).check().unwrap_err();
        assert_eq!(failure.kind, Kind::Listen);
        assert!(failure.what.starts_with(&format!("--http: cannot listen on TCP {at}: ")), "{failure}");
        drop(taken);
        assert!(Wanted(vec![("--listen", free, true), ("--http", at, false)]).check().is_ok());
    }

    #[test]
    fn there_is_at_least_one_worker() {
        assert_eq!(workers("2"), Ok(NonZeroUsize::new(2).unwrap()));
        assert_eq!(workers("0"), Err("give at least 1".to_owned()));
        assert!(workers("two").is_err());
    }

    #[test]
    fn an_advertised_address_has_a_host_and_a_port() {
        assert_eq!(
            advertise("edge.example:443"),
            Ok(Advertise { host: "edge.example".to_owned(), port: 443 })
        );
        assert_eq!(advertise("[::1]:443"), Ok(Advertise { host: "::1".to_owned(), port: 443 }));
        for bad in ["edge.example", ":443", "edge.example:0x1"] {
            assert!(advertise(bad).is_err(), "{bad}");
        }
    }
}
