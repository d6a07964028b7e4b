//! How certificates are ordered, as an operator writes it: parsed once, so that a typing error is told at the start and
//! not in an order's time-line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use mezusphere_telemetry::Redacted;
use url::Url;

/// The public authority that most installations use, and the one to try things with, whose certificates nobody trusts.
const LETSENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETSENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// Longest key of an external account, in octets.
const EAB_KEY_LEN_MAX: usize = 512;

/// How public certificates are ordered from a certificate authority.
#[derive(Clone, Debug)]
pub struct AcmeConfig {
    /// The authority.
    pub directory: AcmeDirectory,
    /// Where the authority writes to when something is wrong, an e-mail address; `None`: nowhere.
    pub contact: Option<String>,
    /// Whether whoever runs the installation agrees to the authority's terms of service; without it there is no account.
    pub terms_agreed: bool,
    /// What the authority's own server is known by besides the system's authorities, PEM.
    pub roots_pem: Vec<u8>,
    /// The account elsewhere that the one here belongs to, where the authority asks for it.
    pub external_account: Option<AcmeExternalAccount>,
    /// Which challenges are answered, the one to try first first. dns-01 needs [`AcmeConfig::dns_hook`].
    pub challenges: Vec<AcmeChallenge>,
    /// The program that sets and removes DNS records.
    pub dns_hook: Option<PathBuf>,
    /// Whether endpoints share one wildcard certificate; needs [`AcmeConfig::dns_hook`].
    pub wildcard: bool,
}

impl AcmeConfig {
    /// Certificates from this authority, whose terms were agreed to: tls-alpn-01 first, because it needs no port besides
    /// the public one, then http-01.
    pub fn new(directory: AcmeDirectory) -> Self {
        Self {
            directory,
            contact: None,
            terms_agreed: true,
            roots_pem: Vec::new(),
            external_account: None,
            challenges: vec![AcmeChallenge::TlsAlpn01, AcmeChallenge::Http01],
            dns_hook: None,
            wildcard: false,
        }
    }

    /// Whether everything fits together.
    pub fn check(&self) -> Result<(), AcmeConfigError> {
        if !self.terms_agreed {
            return Err(AcmeConfigError::Terms);
        }
        if self.dns_hook.is_none() && (self.wildcard || self.challenges == [AcmeChallenge::Dns01]) {
            return Err(AcmeConfigError::NoHook);
        }
        if self.challenges.is_empty() {
            return Err(AcmeConfigError::Challenge(String::new()));
        }
        Ok(())
    }
}

/// The URL of an authority's directory (RFC 8555 §7.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeDirectory(String);

impl AcmeDirectory {
    /// The URL.
    pub fn url(&self) -> &str {
        &self.0
    }
}

impl FromStr for AcmeDirectory {
    type Err = AcmeConfigError;

    /// Reads `letsencrypt`, `letsencrypt-staging`, or an https URL.
    fn from_str(text: &str) -> Result<Self, AcmeConfigError> {
        match text {
            "letsencrypt" => return Ok(Self(LETSENCRYPT.to_owned())),
            "letsencrypt-staging" => return Ok(Self(LETSENCRYPT_STAGING.to_owned())),
            _ => {}
        }
        let url = Url::parse(text).map_err(|_| AcmeConfigError::Directory)?;
        if url.scheme() != "https" || !url.has_host() || !url.username().is_empty() {
            return Err(AcmeConfigError::Directory);
        }
        Ok(Self(url.to_string()))
    }
}

impl fmt::Display for AcmeDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An account elsewhere that proves who asks for the one at the authority (RFC 8555 §7.3.4).
#[derive(Clone, Debug)]
pub struct AcmeExternalAccount {
    /// Its key's name.
    pub(super) kid: String,
    /// The key itself.
    pub(super) key: Redacted<Vec<u8>>,
}

impl AcmeExternalAccount {
    /// Reads the key's name and the key as authorities hand it out: base64url.
    pub fn parse(kid: &str, key: &str) -> Result<Self, AcmeConfigError> {
        let text = key.trim().trim_end_matches('=');
        let key = BASE64URL.decode(text).map_err(|_| AcmeConfigError::ExternalKey)?;
        if kid.is_empty() || key.is_empty() || key.len() > EAB_KEY_LEN_MAX {
            return Err(AcmeConfigError::ExternalKey);
        }
        Ok(Self { kid: kid.to_owned(), key: Redacted::from(key) })
    }
}

/// How a name is proved to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AcmeChallenge {
    /// A file at http, port 80 (RFC 8555 §8.3).
    Http01,
    /// A certificate at https, port 443 (RFC 8737).
    TlsAlpn01,
    /// A DNS record (RFC 8555 §8.4); the only one for wildcards.
    Dns01,
}

impl AcmeChallenge {
    /// Its name in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }
}

impl fmt::Display for AcmeChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AcmeChallenge {
    type Err = AcmeConfigError;

    fn from_str(text: &str) -> Result<Self, AcmeConfigError> {
        [Self::Http01, Self::TlsAlpn01, Self::Dns01]
            .into_iter()
            .find(|challenge| challenge.name() == text)
            .ok_or_else(|| AcmeConfigError::Challenge(text.to_owned()))
    }
}

/// What is wrong with how certificates should be ordered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcmeConfigError {
    /// Neither a known name nor an https URL.
    #[error("an authority is letsencrypt, letsencrypt-staging, or the https URL of its directory")]
    Directory,
    /// Nobody agreed.
    #[error("an authority gives no account to whoever does not agree to its terms of service")]
    Terms,
    /// A key that cannot be read.
    #[error("an external account has a key id, and a key in base64url as the authority handed it out")]
    ExternalKey,
    /// No known challenge.
    #[error("'{0}' is no challenge: use tls-alpn-01, http-01 or dns-01")]
    Challenge(String),
    /// DNS records are needed, and nobody sets them.
    #[error("wildcards and dns-01 need a program that sets DNS records")]
    NoHook,
    /// The authorities in the file cannot be read.
    #[error("the certificates that the authority's server is known by cannot be used: {0}")]
    Roots(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_known_name_or_an_https_url() {
        let url = |text: &str| text.parse::<AcmeDirectory>().map(|directory| directory.url().to_owned());
        assert_eq!(url("letsencrypt").unwrap(), LETSENCRYPT);
        assert_eq!(url("letsencrypt-staging").unwrap(), LETSENCRYPT_STAGING);
        assert_eq!(url("https://ca.example:14000/dir").unwrap(), "https://ca.example:14000/dir");
        for bad in ["", "lets encrypt", "http://ca.example/dir", "https://", "https://user@ca.example/dir"] {
            assert_eq!(url(bad), Err(AcmeConfigError::Directory), "{bad}");
        }
    }

    #[test]
    fn r25_the_key_of_an_external_account_does_not_print_itself() {
        let account = AcmeExternalAccount::parse("kid-1", "c2VjcmV0LW9mLXRoZS1hY2NvdW50\n").unwrap();
        let mut config = AcmeConfig::new("letsencrypt".parse().unwrap());
        config.external_account = Some(account);
        let printed = format!("{config:?}");
        assert!(
            printed.contains("kid-1") && !printed.contains("115, 101") && !printed.contains("secret"),
            "{printed}"
        );
        for (kid, key) in [("", "c2VjcmV0"), ("kid", ""), ("kid", "not base64!")] {
            assert_eq!(AcmeExternalAccount::parse(kid, key).unwrap_err(), AcmeConfigError::ExternalKey);
        }
    }

    #[test]
    fn a_wildcard_needs_a_program_that_sets_records() {
        let config = AcmeConfig::new("letsencrypt".parse().unwrap());
        assert_eq!(config.check(), Ok(()));
        let wildcard = AcmeConfig { wildcard: true, ..config.clone() };
        assert_eq!(wildcard.check(), Err(AcmeConfigError::NoHook));
        let dns = AcmeConfig { challenges: vec![AcmeChallenge::Dns01], ..config.clone() };
        assert_eq!(dns.check(), Err(AcmeConfigError::NoHook));
        assert_eq!(AcmeConfig { dns_hook: Some("/bin/true".into()), ..dns }.check(), Ok(()));
        assert_eq!(AcmeConfig { terms_agreed: false, ..config }.check(), Err(AcmeConfigError::Terms));
        assert_eq!("dns-02".parse::<AcmeChallenge>(), Err(AcmeConfigError::Challenge("dns-02".to_owned())));
    }
}
