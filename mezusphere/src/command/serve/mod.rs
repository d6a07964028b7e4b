//! `mezusphere serve`: runs control, an edge, or both in one process.
//!
//! Decides what the node does; each theme's flags are a file of their own.

mod certificate;
mod control;
mod domain;
mod edge;
mod join;
mod mail;
mod trust;
mod wanted;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use mezusphere_telemetry::LogFormat;

use crate::failure::{Failure, Kind};
use crate::node::{self, NodeConfig, NodePortPart, Role};
use control::ControlFlags;
use edge::{DEVELOPMENT_PORT, EdgeFlags};
use join::JoinFlags;
use trust::TrustFlags;
use wanted::Wanted;

/// Port where nodes reach control.
const NODE_PORT: u16 = 8444;

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
    /// What to log, as a tracing filter.
    #[arg(long, env = "MEZUSPHERE_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    #[command(flatten)]
    trust: TrustFlags,
    #[command(flatten)]
    edge: EdgeFlags,
    #[command(flatten)]
    join: JoinFlags,
    #[command(flatten)]
    control: ControlFlags,
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
            node::check(&config)?;
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
                Role::All(Box::new(self.control.part(port, node_port, &self.trust)?), edge)
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
                Role::Control(Box::new(self.control.part(port, Some(node_port), &self.trust)?))
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
            key_files: self.trust.key_files(),
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

/// What this machine calls itself.
fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "node".to_owned() } else { name.to_owned() }
}
