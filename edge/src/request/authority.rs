//! For which host a request is: every place that names one must name the same (R3).
//!
//! SNI, `Host`, `:authority` and the absolute form are compared after folding case and the default port. A host
//! other than the handshake's is legal only where HTTP lets connections be shared, and only under a
//! certificate that covers it.

use std::fmt;

use ::http::header::{HOST, HeaderMap};
use ::http::uri::{Scheme, Uri};
use mezusphere_model::Host;

use crate::http::{ConnectionInfo, Protocol};

/// The port of `https` when none is written.
const DEFAULT_PORT: u16 = 443;

/// The host a request is for, and the port as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// In canonical form.
    pub(crate) host: Host,
    /// Unless it is the default one.
    port: Option<u16>,
}

impl Authority {
    /// An authority of parts that are proven already.
    #[cfg(test)]
    pub(crate) fn new(host: Host, port: Option<u16>) -> Self {
        Self { host, port: port.filter(|port| *port != DEFAULT_PORT) }
    }

    /// The origin of this host (RFC 6454), as a browser that sent this request would write it.
    pub(crate) fn origin(&self) -> String {
        format!("https://{self}")
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

/// Why a request is for no host in particular.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// Nothing names a host, or something does so twice.
    #[error("a request names its host exactly once")]
    NotOne,
    /// It is not a host name with an optional port.
    #[error("the host is not a host name with an optional port")]
    Malformed,
    /// Two places name different hosts.
    #[error("the request names two different hosts")]
    Disagree,
    /// The absolute form asks for another scheme than the connection's.
    #[error("the request is for another scheme")]
    Scheme,
    /// The certificate the client was shown does not cover the host (RFC 9110 §15.5.20).
    #[error("this connection is not for that host")]
    Misdirected,
}

/// Reads the host of a request.
pub(crate) fn read(
    uri: &Uri,
    headers: &HeaderMap,
    connection: &ConnectionInfo,
) -> Result<Authority, AuthorityError> {
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTPS) {
        return Err(AuthorityError::Scheme);
    }
    let mut fields = headers.get_all(HOST).iter();
    let field =
        fields.next().map(|value| value.to_str().map_err(|_| AuthorityError::Malformed)).transpose()?;
    if fields.next().is_some() {
        return Err(AuthorityError::NotOne);
    }
    let target = uri.authority().map(::http::uri::Authority::as_str);
    let authority = match (target, field) {
        // RFC 9112 §3.2: a request without Host is malformed, whatever its target says.
        (_, None) if connection.protocol == Protocol::H1 => return Err(AuthorityError::NotOne),
        (None, None) => return Err(AuthorityError::NotOne),
        (Some(one), None) | (None, Some(one)) => parse(one)?,
        (Some(target), Some(field)) => {
            let authority = parse(target)?;
            if target != field && parse(field)? != authority {
                return Err(AuthorityError::Disagree);
            }
            authority
        }
    };
    agree_with_handshake(&authority.host, connection)?;
    Ok(authority)
}

fn agree_with_handshake(host: &Host, connection: &ConnectionInfo) -> Result<(), AuthorityError> {
    let named = connection.sni.as_deref();
    if named == Some(host.as_str()) {
        return Ok(());
    }
    if !connection.certificate.covers(host.as_str()) {
        return Err(AuthorityError::Misdirected);
    }
    // h2 and h3 connections may be shared by all hosts of a certificate (RFC 9113 §9.1.1, RFC 9114 §3.3).
    match connection.protocol {
        Protocol::H1 if named.is_some() => Err(AuthorityError::Disagree),
        Protocol::H1 | Protocol::H2 | Protocol::H3 => Ok(()),
    }
}

/// Reads `host[:port]`; user information, brackets and addresses are refused.
fn parse(text: &str) -> Result<Authority, AuthorityError> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let port = match port {
        None => None,
        Some(digits) if (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| AuthorityError::Malformed)?)
        }
        Some(_) => return Err(AuthorityError::Malformed),
    };
    if port == Some(0) {
        return Err(AuthorityError::Malformed);
    }
    let host = Host::parse(host).map_err(|_| AuthorityError::Malformed)?;
    Ok(Authority { host, port: port.filter(|port| *port != DEFAULT_PORT) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::CertificateNames;
    use ::http::HeaderValue;
    use std::sync::Arc;

    fn connection(protocol: Protocol, sni: Option<&str>) -> ConnectionInfo {
        let names = CertificateNames::new(["*.localhost", "login.mezu.localhost"]);
        ConnectionInfo {
            client: "192.0.2.7:5555".parse().unwrap(),
            protocol,
            sni: sni.map(Arc::from),
            certificate: Arc::new(names),
        }
    }

    #[test]
    fn r03_every_place_that_names_a_host_names_the_same_one() {
        use AuthorityError::{Disagree, Malformed, Misdirected, NotOne, Scheme};
        use Protocol::{H1, H2, H3};
        type Row<'a> = (Protocol, Option<&'a str>, &'a str, &'a [&'a str], Result<&'a str, AuthorityError>);
        let shop = Some("shop.localhost");
        let rows: &[Row<'_>] = &[
            // All agree.
            (H1, shop, "/", &["shop.localhost:8443"], Ok("shop.localhost:8443")),
            (H1, shop, "/", &["SHOP.localhost."], Ok("shop.localhost")),
            (H1, shop, "/", &["shop.localhost:443"], Ok("shop.localhost")),
            (H1, shop, "https://shop.localhost/", &["shop.localhost"], Ok("shop.localhost")),
            (H1, shop, "https://shop.localhost:443/", &["Shop.localhost"], Ok("shop.localhost")),
            (H2, shop, "https://shop.localhost/", &[], Ok("shop.localhost")),
            (H2, shop, "https://shop.localhost/", &["shop.localhost"], Ok("shop.localhost")),
            (H3, shop, "https://shop.localhost/", &[], Ok("shop.localhost")),
            // Nothing, or two of a kind.
            (H1, shop, "/", &[], Err(NotOne)),
            (H1, shop, "https://shop.localhost/", &[], Err(NotOne)),
            (H1, shop, "/", &["shop.localhost", "shop.localhost"], Err(NotOne)),
            (H2, shop, "/", &[], Err(NotOne)),
            (H2, shop, "https://shop.localhost/", &["shop.localhost", "shop.localhost"], Err(NotOne)),
            // Target and Host differ.
            (H1, shop, "https://shop.localhost/", &["blog.localhost"], Err(Disagree)),
            (H2, shop, "https://shop.localhost/", &["blog.localhost"], Err(Disagree)),
            (H3, shop, "https://shop.localhost/", &["shop.localhost:444"], Err(Disagree)),
            // SNI differs: coalescing under the certificate is legal on h2 and h3, never on h1.
            (H1, shop, "/", &["blog.localhost"], Err(Disagree)),
            (H2, shop, "https://blog.localhost/", &[], Ok("blog.localhost")),
            (H3, shop, "https://blog.localhost/", &[], Ok("blog.localhost")),
            (H1, shop, "/", &["shop.example"], Err(Misdirected)),
            (H2, shop, "https://shop.example/", &[], Err(Misdirected)),
            (H3, shop, "https://a.b.localhost/", &[], Err(Misdirected)),
            (H1, None, "/", &["shop.localhost"], Ok("shop.localhost")),
            (H1, None, "/", &["shop.example"], Err(Misdirected)),
            // Not a host.
            (H1, shop, "/", &[""], Err(Malformed)),
            (H1, shop, "/", &["shop.localhost:"], Err(Malformed)),
            (H1, shop, "/", &["shop.localhost:0"], Err(Malformed)),
            (H1, shop, "/", &["shop.localhost:+1"], Err(Malformed)),
            (H1, shop, "/", &["shop.localhost:99999"], Err(Malformed)),
            (H1, shop, "/", &["shop.localhost:80:80"], Err(Malformed)),
            (H1, shop, "/", &["user@shop.localhost"], Err(Malformed)),
            (H1, shop, "/", &["shop.localhost/x"], Err(Malformed)),
            (H1, shop, "/", &["shop.localhost, blog.localhost"], Err(Malformed)),
            (H1, shop, "/", &["127.0.0.1"], Err(Malformed)),
            (H1, shop, "/", &["[::1]:8443"], Err(Malformed)),
            // Another scheme.
            (H1, shop, "http://shop.localhost/", &["shop.localhost"], Err(Scheme)),
        ];
        for (protocol, sni, target, hosts, expected) in rows {
            let mut headers = HeaderMap::new();
            for host in *hosts {
                headers.append(HOST, HeaderValue::from_str(host).unwrap());
            }
            let uri: Uri = target.parse().unwrap();
            let got =
                read(&uri, &headers, &connection(*protocol, *sni)).map(|authority| authority.to_string());
            assert_eq!(got, expected.map(str::to_owned), "{protocol} {sni:?} {target} {hosts:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn r24_what_reads_as_an_authority_reads_the_same_in_its_canonical_form(
            text in "([a-zA-Z0-9.:@/_\\[\\]-]|localhost|:443){0,40}",
        ) {
            if let Ok(authority) = parse(&text) {
                proptest::prop_assert_eq!(parse(&authority.to_string()), Ok(authority.clone()));
                proptest::prop_assert!(!authority.to_string().contains(['@', '/', '[', '_']));
            }
        }
    }
}
