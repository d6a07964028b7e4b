//! The flags of `mezusphere serve` for its edge: where it listens, where warpgates dial it.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;

use clap::Args;
use mezusphere_control::Advertise;

use crate::failure::{Failure, Kind};
use crate::node::EdgePart;

/// Port of a development installation: needs no privilege.
pub(super) const DEVELOPMENT_PORT: u16 = 8443;

/// For roles all and edge.
#[derive(Debug, Args)]
#[command(next_help_heading = "Edge")]
pub(super) struct EdgeFlags {
    /// Public address, TCP and UDP. (default: 0.0.0.0:443; for names under localhost 127.0.0.1:8443)
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Also answer plain HTTP here, with redirects to https.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    http: Option<SocketAddr>,
    /// Where warpgates dial this edge, host:port. (default: connect.BASE at the public port; needed for role edge)
    #[arg(long, value_name = "HOST:PORT", value_parser = advertise)]
    advertise: Option<Advertise>,
    /// Threads that serve connections. (default: one per core)
    #[arg(long, value_name = "COUNT", value_parser = workers)]
    workers: Option<NonZeroUsize>,
}

impl EdgeFlags {
    /// What the edge is told.
    pub(super) fn part(self, is_development: bool) -> EdgePart {
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

    /// Refuses flags that a control node has no use for.
    pub(super) fn refuse_for_control(&self) -> Result<(), Failure> {
        if self.listen.is_some() || self.http.is_some() || self.advertise.is_some() {
            return Err(Failure::new(Kind::Usage, "a control node has no public address")
                .next("give --listen, --http and --advertise to the edges; --node-listen says where they arrive here"));
        }
        Ok(())
    }
}

/// An address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an IP address and a port: 0.0.0.0:443, 127.0.0.1:8443 or [::]:443".to_owned())
}

fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let count = text.parse::<usize>().map_err(|_| format!("'{text}' is not a whole number"))?;
    NonZeroUsize::new(count).ok_or_else(|| "give at least 1".to_owned())
}

/// A host and a port; brackets around an IPv6 address are left away.
pub(super) fn advertise(text: &str) -> Result<Advertise, String> {
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
    fn there_is_at_least_one_worker() {
        assert_eq!(workers("2"), Ok(NonZeroUsize::new(2).unwrap()));
        assert_eq!(workers("0"), Err("give at least 1".to_owned()));
        assert!(workers("two").is_err());
    }

    #[test]
    fn an_address_to_listen_on_is_an_ip_address_and_a_port() {
        assert_eq!(address("[::1]:443"), Ok(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 443))));
        for bad in ["", "443", ":443", "localhost:443", "127.0.0.1"] {
            assert!(address(bad).unwrap_err().contains("127.0.0.1:8443"), "{bad}");
        }
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
