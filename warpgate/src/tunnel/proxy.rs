//! Which proxy leads out of this network, if one must be used for TCP: `--proxy`, `HTTPS_PROXY`, `NO_PROXY`.
//!
//! Only says which; [`super::proxied`] speaks to it. What it holds of a proxy's credentials is never printed.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mezusphere_telemetry::Redacted;

/// Where a proxy listens if its address names no port: that of its scheme (RFC 9110 §4.2.1).
const PORT: u16 = 80;

/// Longest address of a proxy, in octets: a host name, credentials, and room.
const URL_LEN_MAX: usize = 2048;

/// Most entries of `NO_PROXY` that are read.
const EXCEPTIONS_MAX: usize = 256;

/// Which TCP connections to the platform go through an HTTP proxy. QUIC never does.
#[derive(Clone, Debug, Default)]
pub struct ProxySettings {
    proxy: Option<Proxy>,
    /// Hosts of this machine are reached without it: the environment speaks of the way out.
    spares_loopback: bool,
    exceptions: Vec<Exception>,
}

/// An HTTP proxy that makes tunnels by CONNECT (RFC 9110 §9.3.6).
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of `proxy-authorization`.
    pub(crate) authorization: Option<Redacted<String>>,
}

/// Why an address is not one of a proxy. Never repeats it, because it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Another kind of proxy.
    #[error("{origin} asks for a proxy of kind {scheme:?}; only http:// proxies can be used")]
    Scheme {
        /// Where it was written: `--proxy`, or the name of the variable.
        origin: String,
        /// Which kind.
        scheme: String,
    },
    /// Not an address at all.
    #[error("{origin} is not the address of a proxy: {why}")]
    Malformed {
        /// Where it was written.
        origin: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl ProxyError {
    /// What to do.
    pub const fn next(&self) -> &'static str {
        "write it as http://host:port or http://user:password@host:port, with %XX for characters that an address has no room for"
    }
}

/// What `NO_PROXY` leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    /// This host and those below it.
    Host(String, Option<u16>),
    /// Addresses with this prefix.
    Network(IpAddr, u8, Option<u16>),
}

impl ProxySettings {
    /// What `flag` (`--proxy`) or else the environment says: `HTTPS_PROXY`, `https_proxy`, with `NO_PROXY` or `no_proxy`.
    /// An empty flag or variable means no proxy. `variable` reads the environment.
    ///
    /// # Errors
    /// [`ProxyError`] for an address that cannot be used; it is better to stop than to go past a proxy somebody asked for.
    pub fn find(flag: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let exceptions = ["NO_PROXY", "no_proxy"].iter().find_map(|name| variable(name)).unwrap_or_default();
        let exceptions: Vec<_> =
            exceptions.split([',', ' ']).filter_map(Exception::parse).take(EXCEPTIONS_MAX).collect();
        if let Some(flag) = flag {
            let proxy = Proxy::parse("--proxy", flag)?;
            return Ok(Self { proxy, spares_loopback: false, exceptions });
        }
        for name in ["HTTPS_PROXY", "https_proxy"] {
            let Some(value) = variable(name).filter(|value| !value.trim().is_empty()) else { continue };
            let proxy = Proxy::parse(name, &value)?;
            return Ok(Self { proxy, spares_loopback: true, exceptions });
        }
        Ok(Self::default())
    }

    /// The proxy for people, without credentials; `None`: there is none.
    pub fn shown(&self) -> Option<String> {
        self.proxy.as_ref().map(ToString::to_string)
    }

    /// The proxy through which `host` (a name or an address) is reached.
    pub(crate) fn for_host(&self, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = self.proxy.as_ref()?;
        let host = bare(host).trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        let is_loopback =
            address.is_some_and(|address| address.is_loopback()) || crate::resolve::is_local(&host);
        let spared = (self.spares_loopback && is_loopback)
            || self.exceptions.iter().any(|exception| exception.covers(&host, address, port));
        (!spared).then_some(proxy)
    }
}

impl Proxy {
    /// Reads `[http://][user[:password]@]host[:port][/]`; `None` for an empty text.
    fn parse(origin: &str, text: &str) -> Result<Option<Self>, ProxyError> {
        let malformed = |why| ProxyError::Malformed { origin: origin.to_owned(), why };
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() > URL_LEN_MAX || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(malformed("it is too long, or has a space or a control character in it"));
        }
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => {
                let scheme = scheme.chars().take(16).filter(char::is_ascii_alphanumeric).collect();
                return Err(ProxyError::Scheme { origin: origin.to_owned(), scheme });
            }
            None => text,
        };
        // A password may hold `@`; a host cannot.
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials), authority),
            None => (None, rest),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#']) {
            return Err(malformed("it has a path"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| malformed("its port is no number"))?;
        let host = bare(host);
        let is_name = |host: &str| {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        };
        if host.parse::<IpAddr>().is_err() && !is_name(host) {
            return Err(malformed("it names no host"));
        }
        let authorization = credentials
            .map(|credentials| {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                let (user, password) = decoded(user).zip(decoded(password))?;
                // RFC 7617 §2: the first colon ends the user's name.
                (!user.contains(&b':'))
                    .then(|| BASE64.encode([user.as_slice(), b":", password.as_slice()].concat()))
            })
            .map(|basic| {
                basic.ok_or_else(|| malformed("its credentials are not percent-encoded as they should be"))
            })
            .transpose()?
            .map(|basic| Redacted::new(format!("Basic {basic}")));
        Ok(Some(Self { host: host.to_owned(), port: port.unwrap_or(PORT), authorization }))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            write!(f, "http://[{host}]:{port}")
        } else {
            write!(f, "http://{host}:{port}")
        }
    }
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::All);
        }
        if let Some((network, length)) = text.split_once('/') {
            let network: IpAddr = bare(network).parse().ok()?;
            let length = length.parse::<u8>().ok().filter(|length| *length <= bits(network))?;
            return Some(Self::Network(network, length, None));
        }
        let (host, port) = match text.parse::<IpAddr>() {
            Ok(_) => (text.as_str(), None),
            Err(_) => split_port(&text)?,
        };
        let host = bare(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Network(address, bits(address), port));
        }
        let host = host.trim_start_matches("*.").trim_matches('.');
        (!host.is_empty()).then(|| Self::Host(host.to_owned(), port))
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Host(name, only) => {
                let below = host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && only.is_none_or(|only| only == port)
            }
            Self::Network(network, length, only) => {
                address.is_some_and(|address| is_within(address, *network, *length))
                    && only.is_none_or(|only| only == port)
            }
        }
    }
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let left = |value: u128, of: u8| value.checked_shr(u32::from(of - length)).unwrap_or(0);
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            left(address.to_bits().into(), 32) == left(network.to_bits().into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            left(address.to_bits(), 128) == left(network.to_bits(), 128)
        }
        _ => false,
    }
}

/// `host` without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Host and port; `None` if what follows the colon is no port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_address = authority.rfind(']').map_or(0, |end| end + 1);
    match authority.get(after_address..)?.rsplit_once(':') {
        None => Some((authority, None)),
        Some((_, port)) => {
            let host = authority.get(..authority.len() - port.len() - 1)?;
            port.parse().ok().filter(|port| *port != 0).map(|port| (host, Some(port)))
        }
    }
}

/// What a percent-encoded text stands for (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_flag(text: &str) -> Result<ProxySettings, ProxyError> {
        ProxySettings::find(Some(text), |_| None)
    }

    #[test]
    fn an_address_of_a_proxy_is_read_and_shown_without_its_password() {
        let rows = [
            ("http://proxy.example:3128", "http://proxy.example:3128", None),
            ("proxy.example:3128/", "http://proxy.example:3128", None),
            ("HTTP://10.0.0.1", "http://10.0.0.1:80", None),
            ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080", None),
            ("http://ann:s%40cret@proxy:1", "http://proxy:1", Some("ann:s@cret")),
            ("http://ann:p@ss:word@proxy:1", "http://proxy:1", Some("ann:p@ss:word")),
            ("http://ann@proxy:1", "http://proxy:1", Some("ann:")),
        ];
        for (text, shown, credentials) in rows {
            let settings = from_flag(text).unwrap();
            assert_eq!(settings.shown().as_deref(), Some(shown), "{text}");
            let basic = credentials.map(|plain| format!("Basic {}", BASE64.encode(plain)));
            let kept =
                settings.proxy.as_ref().unwrap().authorization.as_ref().map(|kept| kept.expose().clone());
            assert_eq!(kept, basic, "{text}");
        }
        assert_eq!(from_flag("").unwrap().shown(), None, "an empty flag switches the variable off");
    }

    #[test]
    fn r25_nothing_repeats_a_proxys_password() {
        let settings = from_flag("http://ann:canary@proxy:3128").unwrap();
        let encoded = BASE64.encode("ann:canary");
        let debug = format!("{settings:?}");
        assert!(!debug.contains("canary") && !debug.contains(&encoded), "{debug}");
        for text in [
            "https://ann:canary@proxy:1",
            "http://ann:canary@proxy:x",
            "http://ann:canary@",
            "http://a:canary%4@h",
        ] {
            let why = from_flag(text).unwrap_err();
            assert!(!format!("{why:?} {why}").contains("canary"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_says_where_it_was_written() {
        for text in [
            "http://",
            "http://proxy:0",
            "http://proxy:99999",
            "http://proxy/path",
            "http://pro xy:1",
            "http://a%4@h",
        ] {
            assert!(matches!(from_flag(text), Err(ProxyError::Malformed { .. })), "{text}");
        }
        let variable = |name: &str| (name == "https_proxy").then(|| "socks5://proxy:1080".to_owned());
        let why = ProxySettings::find(None, variable).unwrap_err();
        assert_eq!(
            why.to_string(),
            "https_proxy asks for a proxy of kind \"socks5\"; only http:// proxies can be used"
        );
    }

    #[test]
    fn the_flag_wins_over_the_environment_and_exceptions_hold_for_both() {
        let environment = |name: &str| match name {
            "HTTPS_PROXY" => Some("http://from-environment:1".to_owned()),
            "NO_PROXY" => Some("inside.example, .svc,10.0.0.0/8 ,192.0.2.1:8443,[2001:db8::]/32".to_owned()),
            _ => None,
        };
        let by_environment = ProxySettings::find(None, environment).unwrap();
        let by_flag = ProxySettings::find(Some("http://from-flag:2"), environment).unwrap();
        let none = ProxySettings::find(Some(""), environment).unwrap();
        assert_eq!(by_environment.shown().unwrap(), "http://from-environment:1");
        assert_eq!((by_flag.shown().unwrap().as_str(), none.shown()), ("http://from-flag:2", None));
        let rows = [
            ("edge.example", 443, true),
            ("inside.example", 443, false),
            ("a.INSIDE.example.", 443, false),
            ("notinside.example", 443, true),
            ("edge.svc", 443, false),
            ("10.1.2.3", 443, false),
            ("11.1.2.3", 443, true),
            ("192.0.2.1", 8443, false),
            ("192.0.2.1", 443, true),
            ("[2001:db8:1::2]", 443, false),
        ];
        for (host, port, proxied) in rows {
            assert_eq!(by_environment.for_host(host, port).is_some(), proxied, "{host}:{port}");
            assert_eq!(by_flag.for_host(host, port).is_some(), proxied, "{host}:{port}");
        }
        // The environment speaks of the way out; a flag means what it says.
        for host in ["localhost", "connect.mezu.localhost", "127.0.0.1", "::1"] {
            assert!(by_environment.for_host(host, 443).is_none(), "{host}");
            assert!(by_flag.for_host(host, 443).is_some(), "{host}");
        }
    }
}
