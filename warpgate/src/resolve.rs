//! Turns host names into addresses. Names under `localhost` never leave this machine (RFC 6761 §6.3).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::{ADDRESSES_MAX, RESOLVE_MAX};

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The resolver said no.
    #[error("the name {0} does not resolve")]
    NoAddress(String, #[source] Option<io::Error>),
    /// The resolver said nothing in time.
    #[error("looking up {0} took more than {seconds} s", seconds = RESOLVE_MAX.as_secs())]
    Timeout(String),
}

/// The addresses of `host`, which is a name or an address (IPv6 with or without brackets), in the order to try them.
///
/// Cancel safe. Waits up to [`RESOLVE_MAX`] for the system's resolver.
///
/// # Errors
/// [`ResolveError`]; the list is never empty.
pub async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    if is_local(host) {
        // IPv4 first: a development server bound to 127.0.0.1 only is the common case.
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(loopback.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    let found = tokio::time::timeout(RESOLVE_MAX, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| ResolveError::Timeout(host.to_owned()))?
        .map_err(|why| ResolveError::NoAddress(host.to_owned(), Some(why)))?;
    let mut addresses: Vec<_> = found.collect();
    addresses.truncate(ADDRESSES_MAX);
    if addresses.is_empty() {
        return Err(ResolveError::NoAddress(host.to_owned(), None));
    }
    Ok(addresses)
}

/// Whether `host` is `localhost` or a name under it.
pub(crate) fn is_local(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_under_localhost_are_loopback_without_a_resolver() {
        for name in ["localhost", "connect.mezu.localhost", "LOCALHOST.", "a.b.c.Localhost"] {
            let found = resolve(name, 80).await.unwrap();
            assert!(found.iter().all(|address| address.ip().is_loopback()), "{name}");
            assert_eq!(found.len(), 2);
        }
        assert!(!is_local("evillocalhost"));
        assert!(!is_local("localhost.example"));
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer() {
        assert_eq!(resolve("192.0.2.7", 80).await.unwrap(), ["192.0.2.7:80".parse().unwrap()]);
        assert_eq!(resolve("[::1]", 80).await.unwrap(), resolve("::1", 80).await.unwrap());
    }
}
