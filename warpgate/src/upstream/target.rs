//! Where an upstream is: `[NAME=]URL`, as people write it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use mezusphere_model::slug::Slug;

use super::UpstreamError;
use super::settings::{Named, Settings};

/// How an upstream is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP/1.1 over TCP.
    Http,
    /// HTTP/2 or HTTP/1.1 over TLS, whichever the upstream prefers.
    Https,
    /// HTTP/2 over TCP, without an upgrade before (RFC 9113 §3.3).
    H2c,
    /// HTTP/1.1 over a socket in the file system.
    Unix,
}

impl Scheme {
    /// As it stands in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Unix => "unix",
        }
    }
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A TCP port.
    Tcp {
        /// Host name or address, IPv6 in brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Where an upstream listens, and what it speaks there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    scheme: Scheme,
    place: Place,
}

impl Target {
    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Host name or address, IPv6 in brackets; `None` for a socket in the file system.
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { host, .. } => Some(host),
            Place::Unix(_) => None,
        }
    }

    /// The socket's path, if it is one.
    pub fn socket(&self) -> Option<&Path> {
        match &self.place {
            Place::Tcp { .. } => None,
            Place::Unix(path) => Some(path),
        }
    }

    /// What a request of our own says in `host`.
    pub fn authority(&self) -> String {
        match &self.place {
            Place::Tcp { host, port } => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port } => write!(f, "{}://{host}:{port}", self.scheme.as_str()),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Target {
    type Err = UpstreamError;

    /// Reads a URL, which may leave out `http://`: `3000`, `127.0.0.1:3000`, `https://[::1]`, `unix:/run/app.sock`.
    fn from_str(url: &str) -> Result<Self, UpstreamError> {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => {
                let known = [Scheme::Http, Scheme::Https, Scheme::H2c, Scheme::Unix];
                let found = known.into_iter().find(|known| scheme.eq_ignore_ascii_case(known.as_str()));
                (found.ok_or_else(|| UpstreamError::Scheme(scheme.to_owned()))?, rest)
            }
            None => match url.split_once(':') {
                Some((scheme, path)) if scheme.eq_ignore_ascii_case("unix") => (Scheme::Unix, path),
                _ => (Scheme::Http, url),
            },
        };
        let place = match scheme {
            Scheme::Unix => socket(rest)?,
            Scheme::Http | Scheme::H2c => tcp(rest, 80)?,
            Scheme::Https => tcp(rest, 443)?,
        };
        Ok(Self { scheme, place })
    }
}

/// One `--upstream`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// What routes call it.
    pub name: Slug,
    /// Where it is.
    pub target: Target,
    /// What else is said of it.
    pub settings: Settings,
}

impl FromStr for Declared {
    type Err = UpstreamError;

    /// Reads `[NAME=]URL`, with nothing else said of it.
    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let Named { name, value: target } = text.parse()?;
        Ok(Self { name, target, settings: Settings::default() })
    }
}

/// Longest path of a socket, in octets, without the NUL behind it (unix(7)).
const SOCKET_PATH_LEN_MAX: usize = 107;

fn socket(path: &str) -> Result<Place, UpstreamError> {
    let usable = path.starts_with('/')
        && path.len() > 1
        && path.len() <= SOCKET_PATH_LEN_MAX
        && !path.bytes().any(|byte| byte.is_ascii_control());
    if usable {
        Ok(Place::Unix(PathBuf::from(path)))
    } else {
        Err(UpstreamError::SocketPath(path.to_owned()))
    }
}

fn tcp(rest: &str, default_port: u16) -> Result<Place, UpstreamError> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return Err(UpstreamError::Extra);
    }
    if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Place::Tcp { host: "127.0.0.1".to_owned(), port: port(rest)? });
    }
    let bracket = rest.rfind(']');
    let (host, port) = match rest.rfind(':') {
        Some(colon) if bracket.is_none_or(|bracket| colon > bracket) => {
            let (host, after) = rest.split_at_checked(colon).unwrap_or((rest, ""));
            (host, port(after.strip_prefix(':').unwrap_or(after))?)
        }
        _ => (rest, default_port),
    };
    let host = if host.is_empty() && rest.starts_with(':') { "127.0.0.1" } else { host };
    if is_host(host) {
        Ok(Place::Tcp { host: host.to_ascii_lowercase(), port })
    } else {
        Err(UpstreamError::Host(host.to_owned()))
    }
}

fn port(text: &str) -> Result<u16, UpstreamError> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| UpstreamError::Port(text.to_owned()))
}

/// A bracketed IPv6 address, an IPv4 address, or a name. Names on private networks hold `_` at times.
fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !host.is_empty() && host.len() <= 253 && host.bytes().all(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_may_be_written_short_or_in_full() {
        let rows = [
            ("3000", "default", "http://127.0.0.1:3000"),
            (":3000", "default", "http://127.0.0.1:3000"),
            ("127.0.0.1:3000", "default", "http://127.0.0.1:3000"),
            ("http://127.0.0.1:3000/", "default", "http://127.0.0.1:3000"),
            ("HTTP://Web", "default", "http://web:80"),
            ("docs=http://docs.internal:8081", "docs", "http://docs.internal:8081"),
            ("v6=http://[::1]:80", "v6", "http://[::1]:80"),
            ("[::1]", "default", "http://[::1]:80"),
            ("c=my_container:5000", "c", "http://my_container:5000"),
            ("https://127.0.0.1:3000", "default", "https://127.0.0.1:3000"),
            ("HTTPS://Api.internal", "default", "https://api.internal:443"),
            ("s=https://[::1]", "s", "https://[::1]:443"),
            ("grpc=h2c://127.0.0.1:50051", "grpc", "h2c://127.0.0.1:50051"),
            ("h2c://a", "default", "h2c://a:80"),
            ("unix:/run/app.sock", "default", "unix:/run/app.sock"),
            ("unix:///run/app.sock", "default", "unix:/run/app.sock"),
            ("app=unix:/run/a=b.sock", "app", "unix:/run/a=b.sock"),
            ("unix:/run/a=b.sock", "default", "unix:/run/a=b.sock"),
        ];
        for (text, name, url) in rows {
            let declared: Declared = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((declared.name.as_str(), declared.target.to_string().as_str()), (name, url), "{text}");
            assert_eq!(declared.settings, Settings::default());
        }
    }

    #[test]
    fn a_bad_upstream_is_named_for_what_is_wrong() {
        let long = format!("unix:/{}", "a".repeat(107));
        let rows = [
            (
                "ftp://127.0.0.1",
                "ftp:// upstreams are not supported; write http://HOST:PORT, https://HOST:PORT",
            ),
            ("ws://127.0.0.1", "ws:// upstreams are not supported"),
            ("unix:run/app.sock", "is not the absolute path of a socket"),
            ("unix://run/app.sock", "is not the absolute path of a socket"),
            ("unix:", "is not the absolute path of a socket"),
            ("unix:/", "is not the absolute path of a socket"),
            ("unix:/a\nb", "is not the absolute path of a socket"),
            (long.as_str(), "is not the absolute path of a socket"),
            ("Web=http://a", "\"Web\" is not a name for an upstream"),
            ("=http://a", "is not a name for an upstream"),
            ("http://", "is not a host name"),
            ("", "is not a host name"),
            ("http://a b", "is not a host name"),
            ("http://[::1", "is not a"),
            ("http://a:0", "is not a port"),
            ("https://a:70000", "is not a port"),
            ("http://a:", "is not a port"),
            ("99999", "is not a port"),
            ("http://a/path", "no path"),
            ("h2c://a?x=1", "no path"),
            ("http://user@a", "no path, query or credentials"),
        ];
        for (text, says) in rows {
            let error = text.parse::<Declared>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
