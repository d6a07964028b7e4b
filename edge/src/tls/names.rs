//! The names a certificate answers for, matched as clients match them (RFC 6125 §6.4).

/// DNS names of a certificate: exact ones, and `*.` ones that stand for exactly one label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    names: Box<[Box<str>]>,
}

impl CertificateNames {
    /// The names as a certificate lists them; case is folded.
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        Self { names: names.into_iter().map(|name| name.as_ref().to_ascii_lowercase().into()).collect() }
    }

    /// Whether the certificate answers for `host`, which is lower-case and without a port.
    pub fn covers(&self, host: &str) -> bool {
        let parent = parent(host);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => **name == *host,
        })
    }

    /// The names, as listed.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }
}

/// What a wildcard must stand before to cover `host`: everything after the first label.
pub(super) fn parent(host: &str) -> Option<&str> {
    let (label, parent) = host.split_once('.')?;
    (!label.is_empty()).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        let names = CertificateNames::new(["*.localhost", "Console.Mezu.localhost"]);
        assert!(names.covers("shop.localhost"));
        assert!(names.covers("console.mezu.localhost"));
        for outside in
            ["localhost", ".localhost", "a.b.localhost", "login.mezu.localhost", "shoplocalhost", ""]
        {
            assert!(!names.covers(outside), "{outside:?}");
        }
    }
}
