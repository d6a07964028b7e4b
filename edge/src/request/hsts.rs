//! Tells browsers to come back over https alone (RFC 6797), on every answer whoever made it.
//!
//! Where plain HTTP is answered at all, it leads to https; a browser that was told once does not ask there again, and
//! lets nobody click a broken certificate away. The application's own word counts more: it may ask for longer, for
//! subdomains, or with `max-age=0` for none.

use ::http::header::{HeaderMap, HeaderValue, STRICT_TRANSPORT_SECURITY};
use mezusphere_model::Host;

/// A year. Not for subdomains: those of a custom domain may be somebody else's, and not on https.
const HSTS: &str = "max-age=31536000";

/// Says it in an answer for `host`, unless it is said already.
///
/// Not for names under `localhost`: a browser knows them by name and not by port, so a developer's other programs
/// there, which speak plain HTTP, would be out of its reach for a year.
pub(super) fn put(headers: &mut HeaderMap, host: Option<&Host>) {
    if host.is_some_and(|host| !is_local(host)) {
        headers.entry(STRICT_TRANSPORT_SECURITY).or_insert_with(|| HeaderValue::from_static(HSTS));
    }
}

fn is_local(host: &Host) -> bool {
    host.as_str().rsplit('.').next() == Some("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(host: &str, by_the_application: Option<&'static str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(value) = by_the_application {
            headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(value));
        }
        put(&mut headers, Host::parse(host).ok().as_ref());
        assert!(headers.get_all(STRICT_TRANSPORT_SECURITY).iter().count() <= 1);
        headers.get(STRICT_TRANSPORT_SECURITY).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn every_host_but_those_of_this_machine_is_for_https_alone() {
        let year = Some("max-age=31536000".to_owned());
        for host in ["shop.example", "localhost.example", "notlocalhost.example"] {
            assert_eq!(said(host, None), year, "{host}");
        }
        for host in ["localhost", "shop.localhost", "login.mezu.localhost", "no host"] {
            assert_eq!(said(host, None), None, "{host}");
        }
    }

    #[test]
    fn what_the_application_says_itself_stays_as_it_is() {
        for own in ["max-age=0", "max-age=63072000; includeSubDomains; preload"] {
            assert_eq!(said("shop.example", Some(own)).as_deref(), Some(own));
            assert_eq!(said("shop.localhost", Some(own)).as_deref(), Some(own));
        }
    }
}
