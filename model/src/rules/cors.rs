//! Which other origins' pages may read a route (Fetch §3.2).

use serde::{Deserialize, Serialize};

use super::{Origin, RULES_MAX, RuleError, field};

/// Longest time a browser is told to remember a preflight, in seconds: a day, the most that any browser keeps.
pub const CORS_AGE_S_MAX: u32 = 24 * 60 * 60;

/// Which other origins' pages may read a route, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CorsRule {
    /// Whose pages; `*` alone only without credentials.
    pub origins: Vec<Origin>,
    /// Methods beyond those that need no leave (GET, HEAD, POST); `*` for all, without credentials.
    pub methods: Vec<String>,
    /// Request headers beyond those that need no leave, in lower case; `*` for all, without credentials.
    pub headers: Vec<String>,
    /// Response headers that pages may read beyond those that need no leave, in lower case; `*` for all, without credentials.
    pub expose: Vec<String>,
    /// Whether cookies go along, so that a page acts as whoever is signed in.
    pub credentials: bool,
    /// How long a browser may remember a preflight, in seconds; 0: not at all.
    pub max_age_s: u32,
}

/// Methods that pages of other origins may use without asking (Fetch §2.2.1).
const SAFELISTED: [&str; 3] = ["GET", "HEAD", "POST"];

impl CorsRule {
    /// Whether pages of `origin` may read the route. Exact: neither sub-domains nor `null` are meant by anything but themselves.
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known.is_any() || known.as_str() == origin)
    }

    /// Whether they may use `method`; case matters (RFC 9110 §9.1).
    pub fn allows_method(&self, method: &str) -> bool {
        SAFELISTED.contains(&method) || self.methods.iter().any(|known| known == "*" || known == method)
    }

    /// Whether they may send the request header `name`, in any case. `authorization` must be named: `*` does not mean it (Fetch §3.2.3).
    pub fn allows_header(&self, name: &str) -> bool {
        let named = |known: &String| known.eq_ignore_ascii_case(name);
        let any = || self.headers.iter().any(|known| known == "*");
        self.headers.iter().any(named) || (any() && !name.eq_ignore_ascii_case("authorization"))
    }

    /// Whether the answer is the same for every origin, so that caches need not tell them apart.
    pub fn is_any(&self) -> bool {
        self.origins.iter().any(Origin::is_any)
    }

    pub(super) fn check(&self) -> Result<(), RuleError> {
        let lists = [
            ("CORS origins", self.origins.len()),
            ("CORS methods", self.methods.len()),
            ("CORS headers", self.headers.len()),
            ("CORS exposed headers", self.expose.len()),
        ];
        if let Some((what, _)) = lists.iter().find(|(_, length)| *length > RULES_MAX) {
            return Err(RuleError::TooMany(what));
        }
        if self.origins.is_empty() {
            return Err(RuleError::CorsOrigins);
        }
        let mut tokens = self.methods.iter().chain(&self.headers).chain(&self.expose);
        let has_wildcard = self.is_any() || tokens.clone().any(|token| token == "*");
        if self.credentials && has_wildcard {
            return Err(RuleError::CorsWildcard);
        }
        if let Some(bad) = tokens.find(|token| !field::is_token(token)) {
            return Err(RuleError::CorsToken(bad.clone()));
        }
        let mut names = self.headers.iter().chain(&self.expose);
        if let Some(bad) = names.find(|name| name.bytes().any(|byte| byte.is_ascii_uppercase())) {
            return Err(RuleError::CorsToken(bad.clone()));
        }
        if self.max_age_s > CORS_AGE_S_MAX { Err(RuleError::CorsAge) } else { Ok(()) }
    }
}

/// Whether a response header of this name, in lower case, is written by a CORS rule.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with("access-control-")
}
