//! What may be said of an upstream beside where it is: how its certificate is judged, what it speaks, how its
//! health is checked. The same words on the command line and in a file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mezusphere_model::slug::Slug;

use super::target::{Declared, Scheme, Target};
use super::{DEFAULT_NAME, UpstreamError};
use crate::limits::{HEALTH_CHECK_EVERY, HEALTH_CHECK_MAX};

/// `[NAME=]VALUE`: something said of the upstream NAME, or of the default one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T> {
    /// Of which upstream.
    pub name: Slug,
    /// What.
    pub value: T,
}

impl<T: FromStr> FromStr for Named<T>
where
    UpstreamError: From<T::Err>,
{
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let (name, value) = match text.split_once('=') {
            // A name has neither; URLs, paths and pins do.
            Some((name, value)) if !name.contains(['/', ':']) => (name, value),
            _ => (DEFAULT_NAME, text),
        };
        let name = Slug::parse(name).map_err(|why| UpstreamError::Name { name: name.to_owned(), why })?;
        Ok(Self { name, value: value.parse()? })
    }
}

impl From<std::convert::Infallible> for UpstreamError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// The SHA-256 of the public key that an upstream must show, in place of a certificate authority.
///
/// Written as curl's `--pinnedpubkey`: `sha256//BASE64`, of the `SubjectPublicKeyInfo` in DER (RFC 7469 §2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The digest.
    pub fn digest(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of this digest; what is no SHA-256 gives the pin of nothing.
    pub(super) fn from_digest(digest: &[u8]) -> Self {
        Self(digest.try_into().unwrap_or_default())
    }
}

impl FromStr for Pin {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let digest = text.strip_prefix("sha256//").and_then(|text| BASE64.decode(text).ok());
        let digest = digest.and_then(|digest| <[u8; 32]>::try_from(digest).ok());
        digest.map(Self).ok_or_else(|| UpstreamError::Pin(text.to_owned()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256//{}", BASE64.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an https upstream is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/2, then HTTP/1.1; the upstream chooses.
    #[default]
    Auto,
    /// Only HTTP/1.1.
    H1,
    /// Only HTTP/2.
    H2,
}

impl FromStr for Protocol {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        match text {
            "auto" => Ok(Self::Auto),
            "h1" => Ok(Self::H1),
            "h2" => Ok(Self::H2),
            _ => Err(UpstreamError::Protocol(text.to_owned())),
        }
    }
}

/// How an upstream is asked, again and again, whether it is well: `GET path`; 2xx and 3xx are good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// Path and query.
    pub path: String,
    /// How often, ± a fifth.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// This many good answers in a row make it good again.
    pub good_after: u32,
    /// This many bad ones in a row make it bad.
    pub bad_after: u32,
}

impl HealthCheck {
    /// A check of this path with the usual times.
    ///
    /// # Errors
    /// [`UpstreamError::HealthCheck`] if it is no path.
    pub fn new(path: &str) -> Result<Self, UpstreamError> {
        let check = Self {
            path: path.to_owned(),
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            good_after: 2,
            bad_after: 3,
        };
        check.check()?;
        Ok(check)
    }

    /// Whether it can be run: a path, and times and counts within bounds.
    ///
    /// # Errors
    /// [`UpstreamError::HealthCheck`] with what is wrong.
    pub fn check(&self) -> Result<(), UpstreamError> {
        let wrong = |why: String| UpstreamError::HealthCheck { text: self.path.clone(), why };
        let is_path = self.path.starts_with('/')
            && self.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_path || self.path.len() > tunnel_proto::limits::URI_LEN_MAX {
            return Err(wrong("it is not a path; write /healthz".to_owned()));
        }
        let (shortest, longest) = HEALTH_CHECK_EVERY;
        if !(shortest..=longest).contains(&self.every) {
            return Err(wrong(format!("it runs every {shortest:?} to {longest:?}")));
        }
        if self.timeout.is_zero() || self.timeout > HEALTH_CHECK_MAX {
            return Err(wrong(format!("an answer may take up to {HEALTH_CHECK_MAX:?}")));
        }
        if !(1..=100).contains(&self.good_after) || !(1..=100).contains(&self.bad_after) {
            return Err(wrong("it takes 1 to 100 answers in a row to change its mind".to_owned()));
        }
        Ok(())
    }
}

impl FromStr for HealthCheck {
    type Err = UpstreamError;

    /// Reads `PATH`, with the usual times.
    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        Self::new(text)
    }
}

/// Everything that may be said of an upstream beside where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// A file with the certificate authorities an https upstream is judged by, PEM, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The public key an https upstream must show, in place of any authority and any name.
    pub pin: Option<Pin>,
    /// The name an https upstream is asked for and must prove, in place of its host.
    pub server_name: Option<String>,
    /// What an https upstream is offered.
    pub protocol: Option<Protocol>,
    /// How its health is checked; `None`: only by what requests meet.
    pub health: Option<HealthCheck>,
}

/// One thing said of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `--upstream-ca`.
    Ca(PathBuf),
    /// `--upstream-pin`.
    Pin(Pin),
    /// `--upstream-server-name`.
    ServerName(String),
    /// `--upstream-protocol`.
    Protocol(Protocol),
    /// `--upstream-health`.
    Health(HealthCheck),
}

impl Setting {
    /// What it is called in sentences.
    pub const fn describe(&self) -> &'static str {
        match self {
            Self::Ca(_) => CA,
            Self::Pin(_) => PIN,
            Self::ServerName(_) => SERVER_NAME,
            Self::Protocol(_) => PROTOCOL,
            Self::Health(_) => "a health check",
        }
    }
}

const CA: &str = "a CA";
const PIN: &str = "a pin";
const SERVER_NAME: &str = "a server name";
const PROTOCOL: &str = "a protocol";

impl Settings {
    /// Notes `setting` for the upstream `name` of `declared`.
    ///
    /// # Errors
    /// [`UpstreamError::Undeclared`], [`UpstreamError::SettingTwice`].
    pub fn say(declared: &mut [Declared], name: &Slug, setting: Setting) -> Result<(), UpstreamError> {
        let what = setting.describe();
        let Some(found) = declared.iter_mut().find(|declared| declared.name == *name) else {
            return Err(UpstreamError::Undeclared { name: name.clone(), setting: what });
        };
        let settings = &mut found.settings;
        let is_new = match setting {
            Setting::Ca(path) => settings.ca.replace(path).is_none(),
            Setting::Pin(pin) => settings.pin.replace(pin).is_none(),
            Setting::ServerName(name) => settings.server_name.replace(name).is_none(),
            Setting::Protocol(protocol) => settings.protocol.replace(protocol).is_none(),
            Setting::Health(check) => settings.health.replace(check).is_none(),
        };
        if is_new { Ok(()) } else { Err(UpstreamError::SettingTwice { name: name.clone(), setting: what }) }
    }

    /// Whether they fit an upstream there.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, name: &Slug, target: &Target) -> Result<(), UpstreamError> {
        let for_tls = [
            (self.ca.is_some(), CA),
            (self.pin.is_some(), PIN),
            (self.server_name.is_some(), SERVER_NAME),
            (self.protocol.is_some(), PROTOCOL),
        ];
        if target.scheme() != Scheme::Https
            && let Some((_, setting)) = for_tls.into_iter().find(|(is_said, _)| *is_said)
        {
            let (name, target) = (name.clone(), target.clone());
            return Err(UpstreamError::OtherScheme { name, setting, wanted: "https", target });
        }
        if self.ca.is_some() && self.pin.is_some() {
            return Err(UpstreamError::CaAndPin(name.clone()));
        }
        if let Some(name) = &self.server_name
            && rustls_pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            return Err(UpstreamError::Host(name.clone()));
        }
        self.health.as_ref().map_or(Ok(()), HealthCheck::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_names_its_upstream_or_means_the_default_one() {
        let pin = format!("sha256//{}=", "A".repeat(43));
        let named: Named<Pin> = format!("api={pin}").parse().unwrap();
        assert_eq!((named.name.as_str(), named.value.to_string()), ("api", pin.clone()));
        let default: Named<Pin> = pin.parse().unwrap();
        assert_eq!((default.name.as_str(), default.value), (DEFAULT_NAME, named.value));
        let file: Named<PathBuf> = "/etc/a=b.pem".parse().unwrap();
        assert_eq!((file.name.as_str(), file.value.to_str()), (DEFAULT_NAME, Some("/etc/a=b.pem")));
        let check: Named<HealthCheck> = "api=/healthz?deep=1".parse().unwrap();
        assert_eq!((check.name.as_str(), check.value.path.as_str()), ("api", "/healthz?deep=1"));
    }

    #[test]
    fn what_cannot_be_a_setting_is_refused() {
        for pin in ["", "sha256//", "sha256//AAAA", "sha1//AAAA", "sha256//!!"] {
            assert!(matches!(pin.parse::<Pin>(), Err(UpstreamError::Pin(_))), "{pin}");
        }
        for path in ["", "healthz", "/a b", "/a#b", "/a\r\nx: y", "http://a/"] {
            assert!(matches!(HealthCheck::new(path), Err(UpstreamError::HealthCheck { .. })), "{path:?}");
        }
        let usual = HealthCheck::new("/").unwrap();
        let rows = [
            HealthCheck { every: Duration::ZERO, ..usual.clone() },
            HealthCheck { every: Duration::from_hours(25), ..usual.clone() },
            HealthCheck { timeout: Duration::ZERO, ..usual.clone() },
            HealthCheck { timeout: Duration::from_mins(2), ..usual.clone() },
            HealthCheck { good_after: 0, ..usual.clone() },
            HealthCheck { bad_after: 101, ..usual },
        ];
        for check in rows {
            assert!(check.check().is_err(), "{check:?}");
        }
        assert!("h3".parse::<Protocol>().is_err());
    }
}
