//! The hosts of an installation, and the addresses people type to reach them.

use serde::{Deserialize, Serialize};

use crate::host::{Host, HostError};
use crate::slug::Slug;

/// Slug of the environment whose endpoint is the project's bare name.
pub const PRODUCTION: &str = "production";

/// Where an installation lives on the internet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Parent of the console, login and connect hosts.
    pub base: Host,
    /// Parent of every environment's endpoint; best a separate registrable domain, so that tenants are not
    /// same-site with the login host.
    pub apps: Host,
    /// The public port, as clients see it.
    pub port: u16,
}

/// Which of the platform's own hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlatformHost {
    /// Admin API and Console.
    Console,
    /// Hosted sign-in.
    Login,
    /// Enrollment and bundles.
    Connect,
}

impl PlatformHost {
    /// Its label under the platform domain.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Login => "login",
            Self::Connect => "connect",
        }
    }
}

impl Platform {
    /// The development installation: `mezu.localhost` and `localhost`, which resolve to loopback (RFC 6761 §6.3).
    pub fn development(port: u16) -> Result<Self, HostError> {
        Ok(Self { base: Host::parse("mezu.localhost")?, apps: Host::parse("localhost")?, port })
    }

    /// The full name of a platform host.
    pub fn host(&self, which: PlatformHost) -> Result<Host, HostError> {
        self.base.child(which.label())
    }

    /// Which platform host `host` is, if it is one.
    pub fn which(&self, host: &Host) -> Option<PlatformHost> {
        let label = host.as_str().strip_suffix(self.base.as_str())?.strip_suffix('.')?;
        [PlatformHost::Console, PlatformHost::Login, PlatformHost::Connect]
            .into_iter()
            .find(|which| which.label() == label)
    }

    /// `https://host`, with the port unless it is 443.
    pub fn origin(&self, host: &Host) -> String {
        if self.port == 443 { format!("https://{host}") } else { format!("https://{host}:{}", self.port) }
    }

    /// The endpoint of an environment: `<project>.A` for production, `<project>--<environment>.A` for others.
    ///
    /// # Errors
    /// [`HostError::Label`] if the two names together pass 63 characters.
    pub fn endpoint(&self, project: &Slug, environment: &Slug) -> Result<Host, HostError> {
        if environment.as_str() == PRODUCTION {
            self.apps.child(project.as_str())
        } else {
            self.apps.child(&format!("{project}--{environment}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_one_label_under_the_applications_domain() {
        let platform = Platform::development(8443).unwrap();
        let (shop, staging) = (Slug::parse("shop").unwrap(), Slug::parse("staging").unwrap());
        let production = Slug::parse(PRODUCTION).unwrap();
        assert_eq!(platform.endpoint(&shop, &production).unwrap().as_str(), "shop.localhost");
        assert_eq!(platform.endpoint(&shop, &staging).unwrap().as_str(), "shop--staging.localhost");
    }

    #[test]
    fn an_origin_names_the_port_only_where_it_matters() {
        let mut platform = Platform::development(8443).unwrap();
        let login = platform.host(PlatformHost::Login).unwrap();
        assert_eq!(platform.origin(&login), "https://login.mezu.localhost:8443");
        platform.port = 443;
        assert_eq!(platform.origin(&login), "https://login.mezu.localhost");
        assert_eq!(platform.which(&login), Some(PlatformHost::Login));
    }
}
