//! Whether the addresses a node shall listen on can be had, told with the flag that gives each.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::failure::{Failure, Kind};
use crate::node::{NodeConfig, Role};

/// The addresses a node listens on, each with the flag that gives it and whether UDP is wanted too.
pub(super) struct Wanted(Vec<(&'static str, SocketAddr, bool)>);

impl Wanted {
    /// Those of a configuration.
    pub(super) fn of(config: &NodeConfig) -> Self {
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
    pub(super) fn check(&self) -> Result<(), Failure> {
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
}
