//! `host[:port]` in rules: a name or an address, as it stands in `host` fields and URLs.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest host name, in octets (RFC 1035 §2.3.4).
const HOST_LEN_MAX: usize = 253;

/// Whether `text` is a host, with or without a port, in lower case. Unlike a public [`crate::Host`] it may be an address,
/// and names inside a network may have an underscore.
pub(super) fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // The last colon of an address stands between its brackets.
        Some((_, port)) if port.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    is_host(host) && port.is_none_or(is_port)
}

/// Whether `text` is a port in its one decimal form.
fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port != 0 && port.to_string() == text)
}

fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address);
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= HOST_LEN_MAX
        && text.split('.').all(is_label)
        // A last label of digits is an address to every parser, so it must be a whole one.
        && (!text.rsplit('.').next().is_some_and(is_numeric) || text.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_with_or_without_a_port_is_an_authority_and_nothing_else_is() {
        for good in
            ["app", "app.internal:8080", "my_service", "10.0.0.1", "10.0.0.1:80", "[::1]", "[::1]:8080"]
        {
            assert!(is_authority(good), "{good}");
        }
        for bad in [
            "",
            ":80",
            "app:",
            "app:0",
            "app:080",
            "app:65536",
            "App",
            "a b",
            "a/b",
            "a@b",
            "a..b",
            "-a",
            "::1",
            "[::1",
            "[::1]x",
            "[0:0::1]",
            "1.2.3",
            "10.0.0.256",
            "a\r\nb",
            "zoë.example",
            "a,b",
        ] {
            assert!(!is_authority(bad), "{bad:?}");
        }
    }

    /// An address of version 6 stands between brackets.
    fn in_url(address: IpAddr) -> String {
        match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        }
    }

    proptest! {
        #[test]
        fn every_address_is_an_authority(address: IpAddr, port in 1u16..) {
            prop_assert!(is_authority(&in_url(address)));
            let with_port = format!("{}:{port}", in_url(address));
            prop_assert!(is_authority(&with_port));
        }
    }
}
