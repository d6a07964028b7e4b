//! The flags of `mezusphere serve` for custom domains.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, ValueEnum};
use mezusphere_control::CustomDomains;

/// Where DNS servers listen.
const DNS_PORT: u16 = 53;

/// Custom domains, for roles all and control.
#[derive(Debug, Args)]
#[command(next_help_heading = "Custom domains (roles all and control)")]
pub(super) struct DomainFlags {
    /// Whether projects prove by a DNS record that a domain is theirs, or operators own all projects.
    #[arg(long, value_name = "WHO", value_enum, default_value_t = Who::Verified)]
    custom_domains: Who,
    /// DNS server to ask for such records. (default: this machine's)
    #[arg(long, value_name = "IP[:PORT]", value_parser = server)]
    dns_resolver: Option<SocketAddr>,
}

/// Who may publish under a custom domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Who {
    /// Whoever proves it
    Verified,
    /// Whoever asks first
    Trusted,
}

impl DomainFlags {
    /// Who may publish under a custom domain.
    pub(super) fn custom_domains(&self) -> CustomDomains {
        match self.custom_domains {
            Who::Verified => CustomDomains::Verified,
            Who::Trusted => CustomDomains::Trusted,
        }
    }

    /// Which DNS server is asked.
    pub(super) fn resolver(&self) -> Option<SocketAddr> {
        self.dns_resolver
    }
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let alone = || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    text.parse()
        .or_else(|_| alone().map(|ip| SocketAddr::new(ip, DNS_PORT)))
        .map_err(|_| format!("'{text}' is not an IP address, with or without a port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_server_is_an_address_with_or_without_a_port() {
        let rows = [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
        ];
        for (text, at) in rows {
            assert_eq!(server(text).unwrap().to_string(), at);
        }
        assert!(server("dns.example").unwrap_err().contains("not an IP address"));
    }
}
