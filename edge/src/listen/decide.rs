//! What a connection is for, from its ClientHello alone: a pure function (design §4).

use mezusphere_model::platform::PlatformHost;
use mezusphere_model::{Host, Platform};

use crate::tls::CertificateTable;

/// ALPN of HTTP/3 (RFC 9114 §3.1).
pub const ALPN_H3: &[u8] = b"h3";
/// ALPN of HTTP/2 over TLS (RFC 9113 §3.2).
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN of HTTP/1.1 (RFC 7301 §6).
pub const ALPN_H1: &[u8] = b"http/1.1";

/// What carries the TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TLS over TCP.
    Tcp,
    /// QUIC over UDP.
    Quic,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Public HTTP for an application host.
    Site,
    /// Public HTTP for one of the platform's own hosts; a split edge hands these to control unopened.
    Platform(PlatformHost),
    /// A warpgate's tunnel.
    Tunnel,
    /// A warpgate that enrols, or asks for its bundle.
    Connect,
    /// Nothing that is served here.
    Refuse(Refusal),
}

/// Why a connection is refused before its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing the client offers to speak is spoken here.
    #[error("the client offers no protocol that is spoken here")]
    NoProtocol,
    /// The client named no host, so there is no certificate to choose and no tenant to serve.
    #[error("the client named no host")]
    NoServerName,
    /// No certificate here covers the name.
    #[error("no certificate covers the name the client asks for")]
    UnknownServerName,
}

impl Refusal {
    /// The TLS alert that says so (RFC 8446 §6.2).
    pub const fn alert(self) -> u8 {
        match self {
            Self::NoProtocol => 120,                             // no_application_protocol
            Self::NoServerName | Self::UnknownServerName => 112, // unrecognized_name
        }
    }
}

/// What a connection is for.
///
/// Internal protocols are looked for first and regardless of the name: their configurations present only the
/// internal CA's chain, so a public client that offers one gains nothing but an alert.
pub fn decide<'a>(
    carrier: Carrier,
    server_name: Option<&str>,
    alpn: impl Iterator<Item = &'a [u8]>,
    certificates: &CertificateTable,
    platform: &Platform,
) -> Destination {
    match speech(carrier, alpn) {
        Some(Speech::Tunnel) => return Destination::Tunnel,
        Some(Speech::Connect) => return Destination::Connect,
        Some(Speech::Public) => {}
        None => return Destination::Refuse(Refusal::NoProtocol),
    }
    let Some(name) = server_name else { return Destination::Refuse(Refusal::NoServerName) };
    if !certificates.covers(name) {
        return Destination::Refuse(Refusal::UnknownServerName);
    }
    match Host::parse(name).ok().and_then(|host| platform.which(&host)) {
        Some(which) => Destination::Platform(which),
        None => Destination::Site,
    }
}

/// What a client offers to speak, the most particular last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Speech {
    Public,
    Connect,
    Tunnel,
}

fn speech<'a>(carrier: Carrier, alpn: impl Iterator<Item = &'a [u8]>) -> Option<Speech> {
    let mut most = None;
    let mut is_silent = true;
    for protocol in alpn {
        is_silent = false;
        let offered = match (carrier, protocol) {
            (Carrier::Quic, tunnel_proto::ALPN) => Some(Speech::Tunnel),
            (_, tunnel_proto::CONNECT_ALPN) => Some(Speech::Connect),
            (Carrier::Quic, ALPN_H3) | (Carrier::Tcp, ALPN_H1 | ALPN_H2) => Some(Speech::Public),
            _ => None,
        };
        most = most.max(offered);
    }
    // A client that says nothing of ALPN on TCP speaks HTTP/1.1; on QUIC it must (RFC 9001 §8.1).
    if is_silent && carrier == Carrier::Tcp { Some(Speech::Public) } else { most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hello_decides() {
        type Row<'a> = (Carrier, Option<&'a str>, &'a [&'a [u8]], Destination);
        let platform = Platform::development(8443).unwrap();
        let certificates = CertificateTable::covering(&["*.localhost", "login.mezu.localhost"]);
        let (tunnel, connect) = (tunnel_proto::ALPN, tunnel_proto::CONNECT_ALPN);
        let login = Destination::Platform(PlatformHost::Login);
        let no_protocol = Destination::Refuse(Refusal::NoProtocol);
        let unknown = Destination::Refuse(Refusal::UnknownServerName);
        let rows: &[Row<'_>] = &[
            (Carrier::Tcp, Some("shop.localhost"), &[b"h2", b"http/1.1"], Destination::Site),
            (Carrier::Tcp, Some("shop.localhost"), &[], Destination::Site),
            (Carrier::Quic, Some("shop.localhost"), &[b"h3"], Destination::Site),
            (Carrier::Tcp, Some("login.mezu.localhost"), &[b"h2"], login),
            (Carrier::Quic, Some("edge.mezu.internal"), &[tunnel], Destination::Tunnel),
            (Carrier::Quic, None, &[b"h3", tunnel], Destination::Tunnel),
            (Carrier::Quic, None, &[connect], Destination::Connect),
            (Carrier::Tcp, None, &[connect, b"h2"], Destination::Connect),
            // The tunnel over TCP is not spoken here yet.
            (Carrier::Tcp, Some("shop.localhost"), &[tunnel], no_protocol),
            (Carrier::Quic, Some("shop.localhost"), &[], no_protocol),
            (Carrier::Quic, Some("shop.localhost"), &[b"h2"], no_protocol),
            (Carrier::Tcp, Some("shop.localhost"), &[b"h3"], no_protocol),
            (Carrier::Tcp, None, &[b"h2"], Destination::Refuse(Refusal::NoServerName)),
            (Carrier::Tcp, Some("a.b.localhost"), &[b"h2"], unknown),
            (Carrier::Quic, Some("console.mezu.localhost"), &[b"h3"], unknown),
            (Carrier::Quic, Some("not a name"), &[b"h3"], unknown),
        ];
        for (carrier, name, alpn, expected) in rows {
            let decided = decide(*carrier, *name, alpn.iter().copied(), &certificates, &platform);
            assert_eq!(decided, *expected, "{carrier:?} {name:?} {alpn:?}");
        }
    }
}
