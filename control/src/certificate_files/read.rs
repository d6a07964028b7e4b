//! Reads a certificate with its key, checks it, and says whose key it is: the platform's, which stays in control, or the
//! applications', which every edge holds.

use std::path::Path;

use mezusphere_model::document::{CertificateDoc, Partition};
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::{Platform, Timestamp};
use mezusphere_pki::PublicCertificate as Verified;
use mezusphere_pki::public::covers;

use crate::OpenError;
use crate::config::{CertificateFiles, ControlConfig};

/// What no installation can do without.
const PLATFORM_HOSTS: [PlatformHost; 3] = [PlatformHost::Console, PlatformHost::Login, PlatformHost::Connect];

/// What a certificate is and where it is published.
pub(super) type Filed = (Partition, CertificateDoc);

/// Reads a chain with its key. Says where it is published.
pub(super) fn load_pair(
    config: &ControlConfig,
    CertificateFiles { chain, key }: &CertificateFiles,
    now: Timestamp,
) -> Result<Filed, OpenError> {
    let (chain_pem, key_pem) = (read("certificate", chain)?, read("key", key)?);
    let verified = Verified::from_pem(&chain_pem, &key_pem, now).map_err(|why| OpenError::Certificate {
        chain: chain.clone(),
        key: key.clone(),
        why,
    })?;
    let names = verified.names().to_vec();
    let partition = match platform_host(&config.platform, &names)? {
        None => Partition::Platform,
        Some(platform) => {
            let application = names.iter().find(|name| is_application(&config.platform, name));
            if let Some(application) = application.filter(|_| config.node_port_open) {
                let application = application.clone();
                return Err(OpenError::CertificateShared { chain: chain.clone(), platform, application });
            }
            Partition::Control
        }
    };
    Ok((partition, CertificateDoc { names, chain_pem, key_pem, not_after: verified.not_after() }))
}

/// Refuses certificates that together are not good for the platform's hosts.
pub(super) fn covers_platform(
    config: &ControlConfig,
    files: &[CertificateFiles],
    docs: &[&Filed],
) -> Result<(), OpenError> {
    for which in PLATFORM_HOSTS {
        let host = config.platform.host(which)?;
        if !docs.iter().any(|(_, doc)| covers(&doc.names, &host)) {
            let chains: Vec<_> = files.iter().map(|file| file.chain.display().to_string()).collect();
            let files = format!("the certificate in {}", chains.join(" and in "));
            return Err(OpenError::CertificateNames { files, missing: host.to_string() });
        }
    }
    Ok(())
}

fn read(what: &'static str, path: &Path) -> Result<String, OpenError> {
    std::fs::read_to_string(path).map_err(|source| OpenError::CertificateFile {
        what,
        path: path.to_owned(),
        source,
    })
}

/// A platform host that these names cover.
fn platform_host(platform: &Platform, names: &[String]) -> Result<Option<String>, OpenError> {
    for which in PLATFORM_HOSTS {
        let host = platform.host(which)?;
        if covers(names, &host) {
            return Ok(Some(host.to_string()));
        }
    }
    Ok(None)
}

/// Whether a name in a certificate is for anything but the platform: an endpoint, or a domain of a customer's.
fn is_application(platform: &Platform, name: &str) -> bool {
    let below = |domain: &str| name.strip_suffix(domain).is_some_and(|front| front.ends_with('.'));
    let parent = name.strip_prefix("*.").unwrap_or(name);
    if PLATFORM_HOSTS.iter().any(|which| platform.host(*which).is_ok_and(|host| host.as_str() == name)) {
        return false;
    }
    let base = platform.base.as_str();
    let of_base = parent == base || below(base);
    let apps = platform.apps.as_str();
    let of_apps = name != apps && (parent == apps || below(apps));
    // One domain may lie within the other: the longer one is the one that is meant.
    match (of_base, of_apps) {
        (true, true) => apps.len() >= base.len(),
        (of_base, _) => !of_base,
    }
}

#[cfg(test)]
mod tests {
    use mezusphere_model::Host;

    use super::*;

    #[test]
    fn a_name_is_the_platforms_or_the_applications() {
        let rows = [
            ("mezu.example", "apps.example", "*.mezu.example", false),
            ("mezu.example", "apps.example", "mezu.example", false),
            ("mezu.example", "apps.example", "login.mezu.example", false),
            ("mezu.example", "apps.example", "*.apps.example", true),
            ("mezu.example", "apps.example", "www.shop.example", true),
            // The applications' domain within the platform's, and the other way round.
            ("example.com", "apps.example.com", "*.example.com", false),
            ("example.com", "apps.example.com", "*.apps.example.com", true),
            ("mezu.example.com", "example.com", "*.mezu.example.com", false),
            ("mezu.example.com", "example.com", "*.example.com", true),
            // One domain for both: its wildcard is good for endpoints and for the login host.
            ("example.com", "example.com", "*.example.com", true),
            ("example.com", "example.com", "login.example.com", false),
        ];
        for (base, apps, name, expected) in rows {
            let [base, apps] = [base, apps].map(|name| Host::parse(name).unwrap());
            let platform = Platform { base, apps, port: 443 };
            assert_eq!(is_application(&platform, name), expected, "{platform:?} {name}");
        }
    }
}
