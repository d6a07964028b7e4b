//! The upstreams this warpgate declares: what is written on the command line or in a file, read once at the border.
//!
//! ```text
//! target     where one is: `[NAME=]URL`          settings   what else may be said of one
//! tls        how an https upstream proves who it is
//! ```
//!
//! Nothing else is ever dialled for an exchange: a route names an upstream, never an address (R6). How they are
//! spoken to is [`crate::exchange`]'s.

mod settings;
mod target;
mod tls;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use mezusphere_model::slug::{Slug, SlugError};

pub use settings::{HealthCheck, Named, Pin, Protocol, Setting, Settings};
pub use target::{Declared, Place, Scheme, Target};
use tls::TlsError;
pub(crate) use tls::{ALPN_H2, Tls};

use crate::limits::{UPSTREAM_CA_LEN_MAX, UPSTREAMS_MAX};

/// Name of the upstream that is given without one.
pub const DEFAULT_NAME: &str = "default";

/// Where requests go when no upstream is given.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// What this version forwards to.
pub const SUPPORTED: &str = "http://HOST:PORT, https://HOST:PORT, h2c://HOST:PORT or unix:/PATH";

/// Why an upstream, or what is said of one, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// A scheme that is not spoken.
    #[error("{0}:// upstreams are not supported; write {SUPPORTED}")]
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
    /// Not a path of a socket.
    #[error("{0:?} is not the absolute path of a socket; write unix:/run/app.sock")]
    SocketPath(String),
    /// The same name twice.
    #[error("the upstream {0} is given twice; give each a name of its own: --upstream NAME=URL")]
    Twice(Slug),
    /// More than a Hello can name.
    #[error("more than {UPSTREAMS_MAX} upstreams")]
    TooMany,
    /// Something is said of an upstream that is not there.
    #[error("{setting} is given for the upstream {name}, which is not declared: --upstream {name}=URL")]
    Undeclared {
        /// The name.
        name: Slug,
        /// What was said.
        setting: &'static str,
    },
    /// The same is said twice of one upstream.
    #[error("{setting} is given twice for the upstream {name}")]
    SettingTwice {
        /// The name.
        name: Slug,
        /// What was said.
        setting: &'static str,
    },
    /// A setting that means nothing for an upstream of this scheme.
    #[error("{setting} is for {wanted} upstreams, but {name} is {target}")]
    OtherScheme {
        /// The name.
        name: Slug,
        /// What was said.
        setting: &'static str,
        /// The scheme it is for.
        wanted: &'static str,
        /// Where the upstream is.
        target: Target,
    },
    /// A CA and a pin: it would not be clear which of the two counts.
    #[error("the upstream {0} has a CA and a pin; give one of the two")]
    CaAndPin(Slug),
    /// A pin that cannot be read.
    #[error("{0:?} is not a pin; write sha256// and the base64 of the public key's SHA-256")]
    Pin(String),
    /// A protocol that is not spoken.
    #[error("{0:?} is not a protocol of an https upstream; use auto, h1 or h2")]
    Protocol(String),
    /// A health check that cannot be run.
    #[error("the health check {text:?} cannot be used: {why}")]
    HealthCheck {
        /// As typed.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// A CA file that cannot be used.
    #[error("the CA file {} of the upstream {name} cannot be used: {why}", path.display())]
    CaFile {
        /// Of which upstream.
        name: Slug,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// This system has no roots to judge an https upstream by.
    #[error(
        "this system has no certificate authorities to judge {0} by; install ca-certificates, or give its CA or pin"
    )]
    NoRoots(Target),
}

/// All upstreams of this process, by name: checked, and the files they name are read.
///
/// Two are equal if nothing about any upstream is different, what the files hold included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstreams(BTreeMap<Slug, Declaration>);

/// One upstream, ready to be spoken to.
#[derive(Clone, Debug)]
pub struct Declaration {
    target: Target,
    settings: Settings,
    /// What the CA file holds, PEM.
    ca_pem: Option<Bytes>,
    /// Made of the above.
    tls: Option<Tls>,
}

impl PartialEq for Declaration {
    fn eq(&self, other: &Self) -> bool {
        (&self.target, &self.settings, &self.ca_pem) == (&other.target, &other.settings, &other.ca_pem)
    }
}

impl Eq for Declaration {}

impl Declaration {
    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What else was said of it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What a connection to it begins with; `None` without TLS.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }
}

impl Upstreams {
    /// Checks that names are unique and settings fit, and reads CA files; with none given, [`DEFAULT_URL`] is the
    /// default one.
    pub fn new(declared: Vec<Declared>) -> Result<Self, UpstreamError> {
        if declared.len() > UPSTREAMS_MAX {
            return Err(UpstreamError::TooMany);
        }
        let declared = if declared.is_empty() { vec![DEFAULT_URL.parse()?] } else { declared };
        let mut by_name = BTreeMap::new();
        for Declared { name, target, settings } in declared {
            settings.check(&name, &target)?;
            let ca_pem = match &settings.ca {
                Some(path) => Some(read_ca(&name, path)?),
                None => None,
            };
            let tls = match tls::configure(&target, &settings, ca_pem.as_deref()) {
                Ok(tls) => tls,
                Err(TlsError::Ca(why)) => {
                    let path = settings.ca.unwrap_or_default();
                    return Err(UpstreamError::CaFile { name, path, why });
                }
                Err(TlsError::NoRoots) => return Err(UpstreamError::NoRoots(target)),
                Err(TlsError::Name) => return Err(UpstreamError::Host(target.authority())),
            };
            if by_name.insert(name.clone(), Declaration { target, settings, ca_pem, tls }).is_some() {
                return Err(UpstreamError::Twice(name));
            }
        }
        Ok(Self(by_name))
    }

    /// Each with its name, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&Slug, &Declaration)> {
        self.0.iter()
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<Slug> {
        self.0.keys().cloned().collect()
    }

    /// Where the one with this name is.
    pub fn get(&self, name: &Slug) -> Option<&Target> {
        self.0.get(name).map(Declaration::target)
    }
}

fn read_ca(name: &Slug, path: &std::path::Path) -> Result<Bytes, UpstreamError> {
    let unusable = |why: String| UpstreamError::CaFile { name: name.clone(), path: path.to_owned(), why };
    let pem = std::fs::read(path).map_err(|why| unusable(why.to_string()))?;
    if pem.len() > UPSTREAM_CA_LEN_MAX {
        return Err(unusable(format!("it is longer than {UPSTREAM_CA_LEN_MAX} octets")));
    }
    Ok(pem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(texts: &[&str]) -> Vec<Declared> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn without_upstreams_there_is_one_default_and_names_are_unique() {
        let none = Upstreams::new(Vec::new()).unwrap();
        assert_eq!(none.names().iter().map(Slug::as_str).collect::<Vec<_>>(), [DEFAULT_NAME]);
        let twice = Upstreams::new(declared(&["http://a", "http://b"]));
        assert!(twice.unwrap_err().to_string().contains("given twice"));
    }

    #[test]
    fn a_setting_belongs_to_a_declared_upstream_of_the_right_scheme() {
        let name = |text: &str| Slug::parse(text).unwrap();
        let pin: Pin = format!("sha256//{}", "A".repeat(43) + "=").parse().unwrap();
        let said = |url: &str, to: &str, settings: Vec<Setting>| {
            let mut all = declared(&[url]);
            for setting in settings {
                Settings::say(&mut all, &name(to), setting)?;
            }
            Upstreams::new(all).map(drop)
        };
        let ca = || Setting::Ca(PathBuf::from("/nonexistent/ca.pem"));
        let rows: [(&str, &str, Vec<Setting>, &str); 7] = [
            ("https://a", "default", vec![Setting::Pin(pin)], ""),
            ("https://a", "web", vec![Setting::Pin(pin)], "which is not declared: --upstream web=URL"),
            ("https://a", "default", vec![Setting::Pin(pin), Setting::Pin(pin)], "given twice"),
            ("https://a", "default", vec![Setting::Pin(pin), ca()], "a CA and a pin"),
            (
                "http://a",
                "default",
                vec![Setting::Pin(pin)],
                "a pin is for https upstreams, but default is http://a:80",
            ),
            ("unix:/a", "default", vec![Setting::Protocol(Protocol::H2)], "is for https upstreams"),
            ("https://a", "default", vec![ca()], "the CA file /nonexistent/ca.pem of the upstream default"),
        ];
        for (url, to, settings, says) in rows {
            let what = format!("{url} {settings:?}");
            match said(url, to, settings) {
                Ok(()) => assert_eq!(says, "", "{what}"),
                Err(why) => assert!(!says.is_empty() && why.to_string().contains(says), "{what}: {why}"),
            }
        }
    }
}
