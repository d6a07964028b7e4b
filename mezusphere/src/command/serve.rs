//! `mezusphere serve`: runs edge and control in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use mezusphere_control::{Advertise, ControlConfig, PublicCertificate};
use mezusphere_model::{Host, Platform};
use mezusphere_telemetry::LogFormat;

use super::seconds;
use crate::failure::{Failure, Kind};
use crate::node::{self, NodeConfig};

/// Port of a development installation: needs no privilege.
const DEVELOPMENT_PORT: u16 = 8443;

/// Runs the server until a signal ends it.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Public address, TCP and UDP. (default: 0.0.0.0:443; for names under localhost 127.0.0.1:8443)
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Also answer plain HTTP here, with redirects to https.
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Parent domain of console., login. and connect.
    #[arg(long, value_name = "DOMAIN", default_value = "mezu.localhost")]
    base: Host,
    /// Parent domain of the endpoints; best another registrable domain than --base.
    #[arg(long, value_name = "DOMAIN", default_value = "localhost")]
    apps: Host,
    /// The public port as clients see it, where a load balancer changes it. (default: the port of --listen)
    #[arg(long, value_name = "PORT")]
    public_port: Option<u16>,
    /// Where warpgates dial, host:port. (default: connect. and --base, at the public port)
    #[arg(long, value_name = "HOST:PORT", value_parser = advertise)]
    advertise: Option<Advertise>,
    /// Public certificate chain, PEM, leaf first; without it the internal CA issues one.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the public certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// File with the master key that seals keys at rest. Also `MEZUSPHERE_MASTER_KEY` or the systemd
    /// credential `mezusphere-master-key`. (default: master.key in the data directory, made at the first start)
    #[arg(long, value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// E-mail address of the first operator. (default: operator@ and --base)
    #[arg(long, value_name = "EMAIL")]
    operator: Option<String>,
    /// Life of internal certificates, 1m to 24h.
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = seconds)]
    leaf_ttl: u64,
    /// Threads that serve connections. (default: one per core)
    #[arg(long, value_name = "COUNT")]
    workers: Option<NonZeroUsize>,
    /// Where this node stands, for people.
    #[arg(long, value_name = "NAME", default_value = "local")]
    region: String,
    /// Private address for /healthz, /readyz and /metrics; keep it on loopback.
    #[arg(long, value_name = "ADDR")]
    health: Option<SocketAddr>,
    /// What to log, as a tracing filter.
    #[arg(long, env = "MEZUSPHERE_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

impl Serve {
    /// Runs the server; gives its exit code.
    pub(crate) fn run(self, data: PathBuf, json: bool) -> Result<ExitCode, Failure> {
        node::run(self.config(data, json)?)
    }

    fn config(self, data: PathBuf, json: bool) -> Result<NodeConfig, Failure> {
        let development = self.base.as_str() == "localhost" || self.base.as_str().ends_with(".localhost");
        let listen = self.listen.unwrap_or_else(|| {
            if development {
                SocketAddr::from((Ipv4Addr::LOCALHOST, DEVELOPMENT_PORT))
            } else {
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443))
            }
        });
        let port = self.public_port.unwrap_or(listen.port());
        if port == 0 {
            return Err(Failure::new(Kind::Usage, "clients must know the port")
                .next("give --listen a port, or --public-port"));
        }
        let mut control = ControlConfig::new(Platform { base: self.base, apps: self.apps, port });
        control.operator_email = self.operator;
        control.leaf_ttl = Duration::from_secs(self.leaf_ttl);
        if let Some(advertise) = self.advertise {
            control.advertise = advertise;
        }
        if let (Some(chain), Some(key)) = (self.tls_cert, self.tls_key) {
            control.public_certificate = PublicCertificate::Files { chain, key };
        }
        Ok(NodeConfig {
            data,
            control,
            listen,
            plain_http: self.http,
            master_key_file: self.master_key_file,
            workers: self.workers.unwrap_or_else(mezusphere_edge::EdgeConfig::workers_for_this_machine),
            region: self.region,
            health: self.health,
            log: self.log,
            log_format: json.then_some(LogFormat::Json),
            json,
        })
    }
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
