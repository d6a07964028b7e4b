//! The upstreams this warpgate declares: `[NAME=]URL` on the command line, read once at the border.
//!
//! Nothing else is ever dialled for an exchange: a route names an upstream, never an address (R6).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use mezusphere_model::slug::{Slug, SlugError};

use crate::limits::UPSTREAMS_MAX;

/// Name of the upstream that is given without one.
pub const DEFAULT_NAME: &str = "default";

/// Where requests go when no upstream is given.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// What this version forwards to.
pub const SUPPORTED: &str = "http://HOST:PORT";

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// Host name or address, IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

/// One `--upstream`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// What routes call it.
    pub name: Slug,
    /// Where it is.
    pub target: Target,
}

/// Why an `--upstream` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// A scheme that is not spoken.
    #[error("{0}:// upstreams are not supported by this version; supported: {SUPPORTED}")]
    Scheme(String),
    /// The name before `=`.
    #[error("{name:?} is not a name for an upstream: {why}")]
    Name {
        /// As typed.
        name: String,
        /// What is wrong with it.
        why: SlugError,
    },
    /// No host, or one with characters that no host has.
    #[error("{0:?} is not a host name or address")]
    Host(String),
    /// Not a port.
    #[error("{0:?} is not a port; use 1 to 65535")]
    Port(String),
    /// Something after host and port.
    #[error("an upstream has no path, query or credentials; write {SUPPORTED}")]
    Extra,
    /// The same name twice.
    #[error("the upstream {0} is given twice; give each a name of its own: --upstream NAME=URL")]
    Twice(Slug),
    /// More than a Hello can name.
    #[error("more than {UPSTREAMS_MAX} upstreams")]
    TooMany,
}

impl FromStr for Declared {
    type Err = UpstreamError;

    /// Reads `[NAME=]URL`, where the URL may leave out `http://`: `3000`, `127.0.0.1:3000`, `api=http://[::1]:80`.
    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let (name, url) = match text.split_once('=') {
            Some((name, url)) if !name.contains(['/', ':']) => (name, url),
            _ => (DEFAULT_NAME, text),
        };
        let name = Slug::parse(name).map_err(|why| UpstreamError::Name { name: name.to_owned(), why })?;
        Ok(Self { name, target: target(url)? })
    }
}

fn target(url: &str) -> Result<Target, UpstreamError> {
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) => return Err(UpstreamError::Scheme(scheme.to_owned())),
        None if url.starts_with("unix:") => return Err(UpstreamError::Scheme("unix".to_owned())),
        None => url,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return Err(UpstreamError::Extra);
    }
    if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Target { host: "127.0.0.1".to_owned(), port: port(rest)? });
    }
    let bracket = rest.rfind(']');
    let (host, port) = match rest.rfind(':') {
        Some(colon) if bracket.is_none_or(|bracket| colon > bracket) => {
            let (host, after) = rest.split_at_checked(colon).unwrap_or((rest, ""));
            (host, port(after.strip_prefix(':').unwrap_or(after))?)
        }
        _ => (rest, 80),
    };
    let host = if host.is_empty() && rest.starts_with(':') { "127.0.0.1" } else { host };
    if is_host(host) {
        Ok(Target { host: host.to_ascii_lowercase(), port })
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

/// All upstreams of this process, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstreams(BTreeMap<Slug, Target>);

impl Upstreams {
    /// Checks that names are unique; with none given, [`DEFAULT_URL`] is the default one.
    pub fn new(declared: Vec<Declared>) -> Result<Self, UpstreamError> {
        if declared.len() > UPSTREAMS_MAX {
            return Err(UpstreamError::TooMany);
        }
        let declared = if declared.is_empty() { vec![DEFAULT_URL.parse()?] } else { declared };
        let mut by_name = BTreeMap::new();
        for Declared { name, target } in declared {
            if by_name.insert(name.clone(), target).is_some() {
                return Err(UpstreamError::Twice(name));
            }
        }
        Ok(Self(by_name))
    }

    /// Each with its name, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&Slug, &Target)> {
        self.0.iter()
    }

    /// The one with this name.
    pub fn get(&self, name: &Slug) -> Option<&Target> {
        self.0.get(name)
    }
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
        ];
        for (text, name, url) in rows {
            let declared: Declared = text.parse().unwrap();
            assert_eq!((declared.name.as_str(), declared.target.to_string().as_str()), (name, url), "{text}");
        }
    }

    #[test]
    fn a_bad_upstream_is_named_for_what_is_wrong() {
        let rows = [
            (
                "https://127.0.0.1:3000",
                "https:// upstreams are not supported by this version; supported: http://HOST:PORT",
            ),
            ("h2c://127.0.0.1:3000", "h2c:// upstreams are not supported"),
            ("unix:/run/app.sock", "unix:// upstreams are not supported"),
            ("unix:///run/app.sock", "unix:// upstreams are not supported"),
            ("Web=http://a", "\"Web\" is not a name for an upstream"),
            ("=http://a", "is not a name for an upstream"),
            ("http://", "is not a host name"),
            ("", "is not a host name"),
            ("http://a b", "is not a host name"),
            ("http://[::1", "is not a"),
            ("http://a:0", "is not a port"),
            ("http://a:70000", "is not a port"),
            ("http://a:", "is not a port"),
            ("99999", "is not a port"),
            ("http://a/path", "no path"),
            ("http://a?x=1", "no path"),
            ("http://user@a", "no path, query or credentials"),
        ];
        for (text, says) in rows {
            let error = text.parse::<Declared>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn without_upstreams_there_is_one_default_and_names_are_unique() {
        let none = Upstreams::new(Vec::new()).unwrap();
        assert_eq!(none.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [DEFAULT_NAME]);
        let twice = ["http://a", "http://b"].map(|text| text.parse().unwrap()).to_vec();
        assert!(Upstreams::new(twice).unwrap_err().to_string().contains("given twice"));
    }
}
