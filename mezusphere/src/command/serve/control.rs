//! The flags of `mezusphere serve` for control: its hosts, its state, where other nodes arrive.

use std::net::SocketAddr;

use clap::Args;
use mezusphere_control::Advertise;
use mezusphere_model::document::NodeAddress;
use mezusphere_model::{Host, Platform};
use mezusphere_store::primary::PostgresConfig;

use super::certificate::CertificateFlags;
use super::domain::DomainFlags;
use super::edge::{address, advertise};
use super::mail::MailFlags;
use super::trust::TrustFlags;
use crate::failure::{Failure, Kind};
use crate::node::{ControlPart, NodePortPart, Store};

/// What --store says for the database in the data directory.
const SQLITE: &str = "sqlite";

/// For roles all and control.
#[derive(Debug, Args)]
#[command(next_help_heading = "Control")]
pub(super) struct ControlFlags {
    /// Parent domain of the platform's hosts: console.BASE, login.BASE and connect.BASE.
    #[arg(long, value_name = "DOMAIN", default_value = "mezu.localhost")]
    base: Host,
    /// Parent domain of the endpoints; best another registrable domain than --base.
    #[arg(long, value_name = "DOMAIN", default_value = "localhost")]
    apps: Host,
    /// The public port as clients see it, where a load balancer changes it. (default: the port of --listen)
    #[arg(long, value_name = "PORT")]
    public_port: Option<u16>,
    /// Where state is kept: `postgres://user:password@host/database`, or sqlite, which is in the data directory. (default
    /// for role all: sqlite)
    #[arg(long, env = "MEZUSPHERE_STORE", hide_env_values = true, value_name = "URL")]
    pub(super) store: Option<String>,
    /// Where other nodes arrive, TCP. (default: 0.0.0.0:8444 for role control; nowhere for role all)
    #[arg(long, value_name = "ADDR", value_parser = address)]
    node_listen: Option<SocketAddr>,
    /// Where other nodes dial this one, host:port. (default: this machine's name and the port of --node-listen)
    #[arg(long, value_name = "HOST:PORT", value_parser = advertise)]
    node_advertise: Option<Advertise>,
    /// E-mail address of the first operator. (default: operator@BASE)
    #[arg(long, value_name = "EMAIL")]
    operator: Option<String>,
    #[command(flatten)]
    mail: MailFlags,
    #[command(flatten)]
    certificate: CertificateFlags,
    #[command(flatten)]
    domain: DomainFlags,
}

impl ControlFlags {
    /// Whether this installation is for one machine alone.
    pub(super) fn is_development(&self) -> bool {
        self.base.as_str() == "localhost" || self.base.as_str().ends_with(".localhost")
    }

    /// Where other nodes dial this one.
    pub(super) fn node_address(&self, name: &str, port: u16) -> NodeAddress {
        match &self.node_advertise {
            Some(at) => NodeAddress { host: at.host.clone(), port: at.port },
            None => NodeAddress { host: name.to_owned(), port },
        }
    }

    /// Where other nodes arrive; `None`: nowhere.
    pub(super) fn node_port(&self, name: &str) -> Result<Option<NodePortPart>, Failure> {
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

    /// What control is told.
    pub(super) fn part(
        self,
        listen_port: u16,
        node_port: Option<NodePortPart>,
        trust: &TrustFlags,
    ) -> Result<ControlPart, Failure> {
        let port = self.public_port.unwrap_or(listen_port);
        if port == 0 {
            return Err(Failure::new(Kind::Usage, "clients must know the port")
                .next("give --listen a port, or --public-port"));
        }
        let store = match &self.store {
            None => Store::Sqlite,
            Some(word) if word == SQLITE => Store::Sqlite,
            Some(url) => Store::Postgres(PostgresConfig::parse(url).map_err(|why| {
                Failure::new(Kind::Usage, why).next("write it as postgres://user:password@host/database")
            })?),
        };
        let mail = self.mail.config(&self.base)?;
        let certificate = self.certificate.source()?;
        Ok(ControlPart {
            platform: Platform { base: self.base, apps: self.apps, port },
            root_elsewhere: trust.root_elsewhere()?,
            operator: self.operator,
            leaf_ttl: trust.leaf_ttl(),
            assertion_rotation: trust.assertion_rotation(),
            certificate,
            custom_domains: self.domain.custom_domains(),
            dns_resolver: self.domain.resolver(),
            store,
            node_port,
            mail,
        })
    }
}
