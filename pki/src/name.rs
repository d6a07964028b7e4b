//! SPIFFE names of nodes: what a certificate says its holder is (SPIFFE-ID §2).
//!
//! ```text
//! spiffe://<trust domain>/edge/<edge id>
//! spiffe://<trust domain>/control/<control id>
//! spiffe://<trust domain>/project/<project id>/env/<environment id>/warpgate/<warpgate id>
//! ```
//! There is one spelling of each name; whatever reads differently is refused, so names may be compared as text.

use std::fmt;
use std::str::FromStr;

use mezusphere_model::id::{ControlId, EdgeId, EnvironmentId, ProjectId, WarpgateId};

/// The DNS name in every edge's certificate, so that stock verification of a server name runs first.
pub const EDGE_DNS_NAME: &str = "edge.mezu.internal";

/// The DNS name in every control node's certificate.
pub const CONTROL_DNS_NAME: &str = "control.mezu.internal";

/// Longest trust domain, in octets (SPIFFE-ID §2.4).
pub const TRUST_DOMAIN_LEN_MAX: usize = 255;

const SCHEME: &str = "spiffe://";

/// The name of an installation's trust: lower-case letters, digits, `.`, `-` and `_` (SPIFFE-ID §2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrustDomain(String);

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a SPIFFE trust domain.
    #[error("a trust domain has 1 to 255 lower-case letters, digits, dots, hyphens and underscores")]
    TrustDomain,
    /// Not a SPIFFE URI.
    #[error("a node's name starts with spiffe://")]
    Scheme,
    /// A SPIFFE URI, but not of a node of ours.
    #[error("the SPIFFE URI names no edge, control node or warpgate")]
    Path,
}

impl TrustDomain {
    /// Reads a trust domain.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
        };
        if text.is_empty() || text.len() > TRUST_DOMAIN_LEN_MAX || !text.bytes().all(allowed) {
            return Err(NameError::TrustDomain);
        }
        Ok(Self(text.to_owned()))
    }

    /// The bare domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its URI, `spiffe://<domain>`: the name of a CA, and the issuer of assertions.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// Reads [`TrustDomain::uri`].
    pub fn from_uri(uri: &str) -> Result<Self, NameError> {
        Self::parse(uri.strip_prefix(SCHEME).ok_or(NameError::Scheme)?)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

/// What a node is, and for a warpgate whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// An edge.
    Edge(EdgeId),
    /// A control node.
    Control(ControlId),
    /// A warpgate of one environment of one project.
    Warpgate {
        /// The tenant it belongs to.
        project: ProjectId,
        /// The environment it serves.
        environment: EnvironmentId,
        /// Which instance.
        id: WarpgateId,
    },
}

impl Role {
    /// The kind of node in one word, as people read it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Edge(_) => "edge",
            Self::Control(_) => "control node",
            Self::Warpgate { .. } => "warpgate",
        }
    }
}

/// A node's name within a trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeName {
    /// Whose node.
    pub trust_domain: TrustDomain,
    /// Which node.
    pub role: Role,
}

impl SpiffeName {
    /// The name of `role` in `trust_domain`.
    pub fn new(trust_domain: TrustDomain, role: Role) -> Self {
        Self { trust_domain, role }
    }
}

impl fmt::Display for SpiffeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.trust_domain)?;
        match &self.role {
            Role::Edge(id) => write!(f, "/edge/{id}"),
            Role::Control(id) => write!(f, "/control/{id}"),
            Role::Warpgate { project, environment, id } => {
                write!(f, "/project/{project}/env/{environment}/warpgate/{id}")
            }
        }
    }
}

impl FromStr for SpiffeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let rest = text.strip_prefix(SCHEME).ok_or(NameError::Scheme)?;
        let (domain, path) = rest.split_once('/').ok_or(NameError::Path)?;
        let trust_domain = TrustDomain::parse(domain)?;
        let mut parts = path.split('/');
        let mut next = || parts.next().ok_or(NameError::Path);
        let role = match next()? {
            "edge" => Role::Edge(id(next()?)?),
            "control" => Role::Control(id(next()?)?),
            "project" => {
                let project = id(next()?)?;
                literal(next()?, "env")?;
                let environment = id(next()?)?;
                literal(next()?, "warpgate")?;
                Role::Warpgate { project, environment, id: id(next()?)? }
            }
            _ => return Err(NameError::Path),
        };
        if parts.next().is_some() {
            return Err(NameError::Path);
        }
        Ok(Self { trust_domain, role })
    }
}

fn id<T: FromStr>(text: &str) -> Result<T, NameError> {
    text.parse().map_err(|_| NameError::Path)
}

fn literal(text: &str, expected: &str) -> Result<(), NameError> {
    if text == expected { Ok(()) } else { Err(NameError::Path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mezusphere_model::Entropy;

    fn names() -> Vec<SpiffeName> {
        let entropy = Entropy::counting();
        let domain = TrustDomain::parse("mezu.example").unwrap();
        vec![
            SpiffeName::new(domain.clone(), Role::Edge(EdgeId::random(&entropy))),
            SpiffeName::new(domain.clone(), Role::Control(ControlId::random(&entropy))),
            SpiffeName::new(
                domain,
                Role::Warpgate {
                    project: ProjectId::random(&entropy),
                    environment: EnvironmentId::random(&entropy),
                    id: WarpgateId::random(&entropy),
                },
            ),
        ]
    }

    #[test]
    fn a_name_survives_its_text_form() {
        for name in names() {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }

    #[test]
    fn what_is_not_exactly_a_name_is_refused() {
        let good = names()[0].to_string();
        let id = good.rsplit('/').next().unwrap();
        let rows = [
            (good.replace("spiffe", "SPIFFE"), NameError::Scheme),
            (good.replace("spiffe", "https"), NameError::Scheme),
            (good.replace("mezu.example", "Mezu.example"), NameError::TrustDomain),
            (good.replace("mezu.example", "mezu.example:443"), NameError::TrustDomain),
            (good.replace("mezu.example", "user@mezu.example"), NameError::TrustDomain),
            (good.replace("mezu.example", ""), NameError::TrustDomain),
            (format!("{good}/"), NameError::Path),
            (format!("{good}?x"), NameError::Path),
            (format!("{good}#x"), NameError::Path),
            (good.replace("/edge/", "//edge/"), NameError::Path),
            (good.replace("/edge/", "/edges/"), NameError::Path),
            (good.replace("/edge/", "/%65dge/"), NameError::Path),
            (good.replace("/edge/", "/control/"), NameError::Path), // an edge's id is no control node's
            ("spiffe://mezu.example".to_owned(), NameError::Path),
            (format!("spiffe://mezu.example/project/{id}"), NameError::Path),
        ];
        for (text, why) in rows {
            assert_eq!(text.parse::<SpiffeName>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_trust_domain_survives_its_uri() {
        let domain = TrustDomain::parse("mezu.example").unwrap();
        assert_eq!(TrustDomain::from_uri(&domain.uri()), Ok(domain));
        assert_eq!(TrustDomain::from_uri("spiffe://mezu.example/edge"), Err(NameError::TrustDomain));
    }
}
