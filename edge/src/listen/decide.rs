//! What a connection is for, from its ClientHello alone: a pure function (design §4).

use mezusphere_model::platform::PlatformHost;
use mezusphere_model::{Host, Platform};
use mezusphere_pki::acme::ACME_TLS_ALPN;

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

/// How much of an installation's public face ends at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of it: edge and control are one process.
    Whole,
    /// Applications and tunnels: a split edge. What is control's is passed on unopened.
    Sites,
    /// What split edges pass on: a control node's front.
    Platform,
}

/// What is served at a port.
#[derive(Clone, Copy)]
pub struct Served<'a> {
    /// How much of it ends here.
    pub scope: Scope,
    /// The names there are certificates for.
    pub certificates: &'a CertificateTable,
    /// The installation's hosts.
    pub platform: &'a Platform,
    /// Whether a tls-alpn-01 challenge is open for a host.
    pub is_challenged: &'a dyn Fn(&Host) -> bool,
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Public HTTP for an application host.
    Site,
    /// Public HTTP for one of the platform's own hosts.
    Platform(PlatformHost),
    /// A warpgate's tunnel.
    Tunnel,
    /// A warpgate that enrols, or asks for its bundle.
    Connect,
    /// One of the two before, at a split edge: to a control node, unopened.
    Splice,
    /// A certificate authority's challenge for this host.
    Challenge(Host),
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
    /// The platform's own hosts are spliced, which QUIC cannot be; the client falls back to TCP.
    #[error("the platform's own hosts are served over TCP only")]
    TcpOnly,
    /// A certificate authority asks about a name that nobody asked it about.
    #[error("no challenge is open for the name")]
    NoChallenge,
}

impl Refusal {
    /// The TLS alert that says so (RFC 8446 §6.2).
    pub const fn alert(self) -> u8 {
        match self {
            Self::NoProtocol => 120, // no_application_protocol
            // unrecognized_name
            Self::NoServerName | Self::UnknownServerName | Self::TcpOnly | Self::NoChallenge => 112,
        }
    }
}

/// What a connection is for.
///
/// Internal protocols are looked for first and regardless of the name: their configurations present only the
/// internal CA's chain, so a public client that offers one gains nothing but an alert. A split edge knows the
/// platform's hosts by their names alone: a certificate of its own that covers one opens nothing.
pub fn decide<'a>(
    carrier: Carrier,
    server_name: Option<&str>,
    alpn: impl Iterator<Item = &'a [u8]>,
    served: &Served<'_>,
) -> Destination {
    use Destination::{Challenge, Connect, Platform, Refuse, Site, Splice, Tunnel};
    let host = server_name.and_then(|name| Host::parse(name).ok());
    match (speech(carrier, alpn), served.scope, carrier) {
        (None, ..)
        | (Some(Speech::Challenge | Speech::Tunnel), Scope::Platform, _)
        | (Some(Speech::Connect), Scope::Sites, Carrier::Quic) => return Refuse(Refusal::NoProtocol),
        (Some(Speech::Tunnel), ..) => return Tunnel,
        (Some(Speech::Connect), Scope::Sites, Carrier::Tcp) => return Splice,
        (Some(Speech::Connect), ..) => return Connect,
        (Some(Speech::Challenge), ..) => {
            let challenged = host.filter(|host| (served.is_challenged)(host));
            return challenged.map_or(Refuse(Refusal::NoChallenge), Challenge);
        }
        (Some(Speech::Public), ..) => {}
    }
    let Some(name) = server_name else { return Refuse(Refusal::NoServerName) };
    let which = host.and_then(|host| served.platform.which(&host));
    match (which, served.scope, carrier) {
        (Some(_), Scope::Sites, Carrier::Tcp) => Splice,
        (Some(_), Scope::Sites, Carrier::Quic) => Refuse(Refusal::TcpOnly),
        (None, Scope::Platform, _) => Refuse(Refusal::UnknownServerName),
        _ if !served.certificates.covers(name) => Refuse(Refusal::UnknownServerName),
        (Some(which), ..) => Platform(which),
        (None, ..) => Site,
    }
}

/// What a client offers to speak, the most particular last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Speech {
    Public,
    Challenge,
    Connect,
    Tunnel,
}

fn speech<'a>(carrier: Carrier, alpn: impl Iterator<Item = &'a [u8]>) -> Option<Speech> {
    let mut most = None;
    let mut offers = 0_usize;
    let mut is_challenge = false;
    for protocol in alpn {
        offers += 1;
        let offered = match (carrier, protocol) {
            (_, tunnel_proto::ALPN) => Some(Speech::Tunnel),
            (_, tunnel_proto::CONNECT_ALPN) => Some(Speech::Connect),
            (Carrier::Quic, ALPN_H3) | (Carrier::Tcp, ALPN_H1 | ALPN_H2) => Some(Speech::Public),
            (Carrier::Tcp, ACME_TLS_ALPN) => {
                is_challenge = true;
                None
            }
            _ => None,
        };
        most = most.max(offered);
    }
    match offers {
        // A client that says nothing of ALPN on TCP speaks HTTP/1.1; on QUIC it must (RFC 9001 §8.1).
        0 => (carrier == Carrier::Tcp).then_some(Speech::Public),
        // An authority offers this and nothing else (RFC 8737 §3).
        1 if is_challenge => Some(Speech::Challenge),
        _ => most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row<'a> = (Carrier, Option<&'a str>, &'a [&'a [u8]], Destination);

    const TUNNEL: &[u8] = tunnel_proto::ALPN;
    const CONNECT: &[u8] = tunnel_proto::CONNECT_ALPN;
    const NO_PROTOCOL: Destination = Destination::Refuse(Refusal::NoProtocol);
    const UNKNOWN: Destination = Destination::Refuse(Refusal::UnknownServerName);

    fn check(scope: Scope, rows: &[Row<'_>]) {
        let platform = Platform::development(8443).unwrap();
        let certificates = CertificateTable::covering(&["*.localhost", "login.mezu.localhost"]);
        let challenged = [host("new.localhost"), host("console.mezu.localhost")];
        let served = Served {
            scope,
            certificates: &certificates,
            platform: &platform,
            is_challenged: &|host| challenged.contains(host),
        };
        for (carrier, name, alpn, expected) in rows {
            let decided = decide(*carrier, *name, alpn.iter().copied(), &served);
            assert_eq!(decided, *expected, "{scope:?} {carrier:?} {name:?} {alpn:?}");
        }
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn the_hello_decides() {
        let login = Destination::Platform(PlatformHost::Login);
        check(
            Scope::Whole,
            &[
                (Carrier::Tcp, Some("shop.localhost"), &[b"h2", b"http/1.1"], Destination::Site),
                (Carrier::Tcp, Some("shop.localhost"), &[], Destination::Site),
                (Carrier::Quic, Some("shop.localhost"), &[b"h3"], Destination::Site),
                (Carrier::Tcp, Some("login.mezu.localhost"), &[b"h2"], login.clone()),
                (Carrier::Quic, Some("login.mezu.localhost"), &[b"h3"], login),
                (Carrier::Quic, Some("edge.mezu.internal"), &[TUNNEL], Destination::Tunnel),
                (Carrier::Quic, None, &[b"h3", TUNNEL], Destination::Tunnel),
                (Carrier::Quic, None, &[CONNECT], Destination::Connect),
                (Carrier::Tcp, None, &[CONNECT, b"h2"], Destination::Connect),
                (Carrier::Tcp, Some("edge.mezu.internal"), &[TUNNEL], Destination::Tunnel),
                (Carrier::Tcp, Some("shop.localhost"), &[b"h2", TUNNEL], Destination::Tunnel),
                (Carrier::Quic, Some("shop.localhost"), &[], NO_PROTOCOL),
                (Carrier::Quic, Some("shop.localhost"), &[b"h2"], NO_PROTOCOL),
                (Carrier::Tcp, Some("shop.localhost"), &[b"h3"], NO_PROTOCOL),
                (Carrier::Tcp, None, &[b"h2"], Destination::Refuse(Refusal::NoServerName)),
                (Carrier::Tcp, Some("a.b.localhost"), &[b"h2"], UNKNOWN),
                (Carrier::Quic, Some("console.mezu.localhost"), &[b"h3"], UNKNOWN),
                (Carrier::Quic, Some("not a name"), &[b"h3"], UNKNOWN),
            ],
        );
    }

    #[test]
    fn a_split_edge_opens_nothing_that_is_controls() {
        let tcp_only = Destination::Refuse(Refusal::TcpOnly);
        check(
            Scope::Sites,
            &[
                (Carrier::Tcp, Some("shop.localhost"), &[b"h2"], Destination::Site),
                (Carrier::Quic, Some("shop.localhost"), &[b"h3"], Destination::Site),
                (Carrier::Quic, None, &[TUNNEL], Destination::Tunnel),
                (Carrier::Tcp, None, &[TUNNEL], Destination::Tunnel),
                // One without a certificate here, and one that a certificate here covers.
                (Carrier::Tcp, Some("console.mezu.localhost"), &[b"h2", b"http/1.1"], Destination::Splice),
                (Carrier::Tcp, Some("login.mezu.localhost"), &[b"h2"], Destination::Splice),
                (Carrier::Tcp, Some("connect.mezu.localhost"), &[], Destination::Splice),
                (Carrier::Quic, Some("console.mezu.localhost"), &[b"h3"], tcp_only.clone()),
                (Carrier::Quic, Some("login.mezu.localhost"), &[b"h3"], tcp_only),
                (Carrier::Tcp, None, &[CONNECT], Destination::Splice),
                (Carrier::Tcp, Some("edge.mezu.internal"), &[CONNECT, b"h2"], Destination::Splice),
                (Carrier::Quic, None, &[CONNECT], NO_PROTOCOL),
                (Carrier::Tcp, Some("login.mezu.localhost"), &[b"spdy/3"], NO_PROTOCOL),
                (Carrier::Tcp, Some("other.mezu.localhost"), &[b"h2"], UNKNOWN),
            ],
        );
    }

    #[test]
    fn a_front_serves_the_platform_alone() {
        check(
            Scope::Platform,
            &[
                (
                    Carrier::Tcp,
                    Some("login.mezu.localhost"),
                    &[b"h2"],
                    Destination::Platform(PlatformHost::Login),
                ),
                (Carrier::Tcp, None, &[CONNECT], Destination::Connect),
                // No certificate.
                (Carrier::Tcp, Some("console.mezu.localhost"), &[b"h2"], UNKNOWN),
                // A certificate, and not the platform's.
                (Carrier::Tcp, Some("shop.localhost"), &[b"h2"], UNKNOWN),
                (Carrier::Tcp, None, &[b"h2"], Destination::Refuse(Refusal::NoServerName)),
                (Carrier::Tcp, Some("new.localhost"), &[ACME_TLS_ALPN], NO_PROTOCOL),
                (Carrier::Tcp, Some("login.mezu.localhost"), &[TUNNEL], NO_PROTOCOL),
            ],
        );
    }

    #[test]
    fn any_edge_answers_an_authority_about_the_names_that_were_asked_for() {
        let none = Destination::Refuse(Refusal::NoChallenge);
        let (new, console) = (host("new.localhost"), host("console.mezu.localhost"));
        for scope in [Scope::Whole, Scope::Sites] {
            check(
                scope,
                &[
                    (
                        Carrier::Tcp,
                        Some("new.localhost"),
                        &[ACME_TLS_ALPN],
                        Destination::Challenge(new.clone()),
                    ),
                    (
                        Carrier::Tcp,
                        Some("console.mezu.localhost"),
                        &[ACME_TLS_ALPN],
                        Destination::Challenge(console.clone()),
                    ),
                    (Carrier::Tcp, Some("shop.localhost"), &[ACME_TLS_ALPN], none.clone()),
                    (Carrier::Tcp, None, &[ACME_TLS_ALPN], none.clone()),
                    // Offered beside others it is no challenge (RFC 8737 §3).
                    (Carrier::Tcp, Some("shop.localhost"), &[ACME_TLS_ALPN, b"h2"], Destination::Site),
                    (Carrier::Tcp, Some("new.localhost"), &[ACME_TLS_ALPN, b"spdy/3"], NO_PROTOCOL),
                    (Carrier::Quic, Some("new.localhost"), &[ACME_TLS_ALPN], NO_PROTOCOL),
                ],
            );
        }
    }
}
