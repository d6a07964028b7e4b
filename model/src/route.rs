//! Routes: what is published, under which host and path, and for whom; and finding the one for a request.
//!
//! Order: exact paths first, then the longest prefix of whole segments, then regular expressions in the
//! order they were written; equal ones too. A route that lists methods is passed over by all others, and the next
//! one that matches is taken. Knows nothing of sessions; [`crate::policy`] decides what the caller may do next.

use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::id::{DirectoryId, EnvironmentId, OrganizationId, ProjectId, RouteId};
use crate::path::{self, Reading, RequestPath, WrittenError};
use crate::slug::{Name, Slug};

/// The newest policy document this code understands; a route that asks for more is closed, never guessed at.
pub const READER: u32 = 1;

/// Longest path pattern, in characters.
pub const PATTERN_LEN_MAX: usize = 512;

/// Most routes of one environment.
pub const ROUTES_MAX: usize = 1000;

/// Memory a compiled regular expression may take, in bytes; matching is linear in the path's length whatever it says.
pub const REGEX_SIZE_MAX: usize = 64 * 1024;

/// Memory a regular expression may take for its cache while it matches, in bytes per thread; beyond it
/// matching goes on without.
pub const REGEX_CACHE_MAX: usize = 256 * 1024;

/// Methods that a route may list, at most.
pub const METHODS_MAX: usize = 16;

/// How a route matches a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// This path and no other: `/a` does not match `/a/`.
    Exact(String),
    /// This path and all below it, whole segments only: `/api` matches `/api` and `/api/v1`, not `/apis`.
    Prefix(String),
    /// The whole path matches this regular expression.
    Regex(String),
}

/// Who may use a route at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Everybody; no identity is looked for and none is forwarded.
    Public,
    /// Everybody; an identity is forwarded when there is one.
    Optional,
    /// Only callers with an identity.
    Required,
}

/// What an identity must hold; empty lists ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requirement {
    /// At least one of these roles.
    pub any_role: Vec<Name>,
    /// Each of these roles.
    pub all_roles: Vec<Name>,
    /// At least one of these permissions.
    pub any_permission: Vec<Name>,
    /// Each of these permissions.
    pub all_permissions: Vec<Name>,
}

impl Requirement {
    /// Whether it asks for nothing beyond being signed in.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Time-outs of a route, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteTimeouts {
    /// To reach the upstream.
    pub connect_ms: u32,
    /// From the request's last byte to the response head.
    pub head_ms: u32,
    /// Without a byte in either direction.
    pub idle_ms: u32,
}

impl Default for RouteTimeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, head_ms: 60_000, idle_ms: 300_000 }
    }
}

/// A route as published to edges and warpgates. What a newer control adds, it adds as a field and raises
/// [`RouteDoc::min_reader`], so that an older reader closes the route instead of guessing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteDoc {
    /// Oldest reader that may decide on it; see [`READER`].
    pub min_reader: u32,
    /// Which route.
    pub id: RouteId,
    /// Which paths.
    pub path: PathMatch,
    /// Which methods, upper case; empty: all. One that lists `GET` also takes `HEAD`.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Who.
    pub auth: AuthMode,
    /// What else they must hold.
    #[serde(default)]
    pub require: Requirement,
    /// The warpgate's name for where it leads; the upstream given without a name is `default`.
    pub upstream: Slug,
    /// Its time-outs.
    #[serde(default)]
    pub timeouts: RouteTimeouts,
}

impl RouteDoc {
    /// Who may use the route, demands included: one that demands something of its callers needs to know them,
    /// whatever its mode says. Control refuses to store such a contradiction; here it is closed.
    pub fn auth_in_force(&self) -> AuthMode {
        if self.require.is_empty() { self.auth } else { AuthMode::Required }
    }

    /// Whether requests with this method may match. A route that lists `GET` also takes `HEAD`
    /// (RFC 9110 §9.3.2); case matters (§9.1).
    pub fn takes(&self, method: &str) -> bool {
        let lists = |method: &str| self.methods.iter().any(|known| known == method);
        self.methods.is_empty() || lists(method) || (method == "HEAD" && lists("GET"))
    }
}

/// One published environment: its hosts and routes. What a site table is built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteDoc {
    /// Oldest reader that may serve it.
    pub min_reader: u32,
    /// Owner of the project.
    pub organization: OrganizationId,
    /// The tenant.
    pub project: ProjectId,
    /// Which environment.
    pub environment: EnvironmentId,
    /// The project's slug, for logs and pages.
    pub project_slug: Slug,
    /// The environment's slug.
    pub environment_slug: Slug,
    /// The project's name as people wrote it, for pages.
    pub display_name: String,
    /// Where its users live.
    pub directory: DirectoryId,
    /// Its endpoint and custom domains.
    pub hosts: Vec<Host>,
    /// In the order they were written.
    pub routes: Vec<RouteDoc>,
    /// Grows by one with every change; the environment's bundle carries the same number.
    pub revision: u64,
}

/// Why a route cannot be used as written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Longer than [`PATTERN_LEN_MAX`].
    #[error("a path pattern has at most {PATTERN_LEN_MAX} characters")]
    TooLong,
    /// An exact path or prefix that does not start with `/`.
    #[error("a path starts with /")]
    NotAbsolute,
    /// An exact path or prefix that is not in canonical form, so that no request could ever match it.
    #[error("write the path in canonical form: {0}")]
    NotCanonical(String),
    /// More than [`ROUTES_MAX`] routes, or more than [`METHODS_MAX`] methods on one.
    #[error(
        "an environment has at most {ROUTES_MAX} routes, and a route lists at most {METHODS_MAX} methods"
    )]
    TooMany,
    /// Two routes with one id.
    #[error("two routes have the id {0}")]
    DuplicateId(RouteId),
    /// A regular expression that does not compile, or grows too large.
    #[error("the regular expression cannot be used: {0}")]
    Regex(String),
}

impl PathMatch {
    /// Reads the short form people type: `/a` exact, `/a/*` prefix, `~REGEX` regular expression.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let pattern = if let Some(regex) = text.strip_prefix('~') {
            Self::Regex(regex.to_owned())
        } else if text == "/*" {
            Self::Prefix("/".to_owned())
        } else if let Some(prefix) = text.strip_suffix("/*") {
            Self::Prefix(prefix.to_owned())
        } else {
            Self::Exact(text.to_owned())
        };
        Pattern::compile(&pattern)?;
        Ok(pattern)
    }
}

impl std::fmt::Display for PathMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{}/*", prefix.trim_end_matches('/')),
            Self::Regex(regex) => write!(f, "~{regex}"),
        }
    }
}

/// A [`PathMatch`] ready to be used.
#[derive(Clone, Debug)]
enum Pattern {
    Exact(String),
    /// Without a trailing slash; the root prefix is empty.
    Prefix(String),
    Regex(Regex),
}

impl Pattern {
    fn compile(from: &PathMatch) -> Result<Self, PatternError> {
        let (PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::Regex(text)) = from;
        if text.len() > PATTERN_LEN_MAX {
            return Err(PatternError::TooLong);
        }
        match from {
            PathMatch::Exact(path) => Ok(Self::Exact(canonical(path)?)),
            PathMatch::Prefix(path) => {
                let path = if path.is_empty() { "/" } else { path };
                Ok(Self::Prefix(canonical(path)?.trim_end_matches('/').to_owned()))
            }
            PathMatch::Regex(regex) => {
                let build = |regex: &str| {
                    regex::RegexBuilder::new(regex)
                        .size_limit(REGEX_SIZE_MAX)
                        .dfa_size_limit(REGEX_CACHE_MAX)
                        .build()
                        .map_err(|why| PatternError::Regex(why.to_string()))
                };
                // Alone first: `a)|(b` compiles only between brackets, and would then not be held by the anchors.
                build(regex)?;
                build(&format!(r"\A(?:{regex})\z")).map(Self::Regex)
            }
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    /// Sorts patterns into matching order; equal ranks keep the order they were written in.
    fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (0, 0),
            Self::Prefix(prefix) => (1, usize::MAX - prefix.len()),
            Self::Regex(_) => (2, 0),
        }
    }
}

fn canonical(path: &str) -> Result<String, PatternError> {
    if !path.starts_with('/') {
        return Err(PatternError::NotAbsolute);
    }
    match path::written(path) {
        Ok(()) => Ok(path.to_owned()),
        Err(WrittenError::Settled(meant)) => Err(PatternError::NotCanonical(meant)),
        Err(WrittenError::Refused(why)) => Err(PatternError::NotCanonical(why.to_string())),
    }
}

/// A site ready to be matched against.
#[derive(Debug)]
pub struct Site {
    /// What it was built from.
    pub doc: SiteDoc,
    /// Routes in matching order, each with what it was built from.
    routes: Vec<(Pattern, Arc<RouteDoc>)>,
    by_id: HashMap<RouteId, Arc<RouteDoc>>,
}

/// Why a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No route matches.
    #[error("no route matches this path")]
    NotFound,
    /// The path can be read in several ways that choose different routes.
    #[error("this path can be read in more than one way")]
    Ambiguous,
    /// The route that matches, or the whole site, asks for a newer reader.
    #[error("this route needs a newer version")]
    TooNew,
}

impl Site {
    /// Compiles the routes of `doc`.
    ///
    /// A route whose pattern cannot be compiled here (control checked it) closes the site rather than
    /// letting its requests fall through to a weaker route.
    pub fn build(doc: SiteDoc) -> Result<Self, PatternError> {
        if doc.routes.len() > ROUTES_MAX || doc.routes.iter().any(|route| route.methods.len() > METHODS_MAX) {
            return Err(PatternError::TooMany);
        }
        let mut routes = Vec::with_capacity(doc.routes.len());
        let mut by_id = HashMap::with_capacity(doc.routes.len());
        for route in &doc.routes {
            let shared = Arc::new(route.clone());
            // Edge and warpgate agree on a route by its id.
            if by_id.insert(route.id, Arc::clone(&shared)).is_some() {
                return Err(PatternError::DuplicateId(route.id));
            }
            routes.push((Pattern::compile(&route.path)?, shared));
        }
        routes.sort_by_key(|(pattern, _)| pattern.rank());
        Ok(Self { doc, routes, by_id })
    }

    /// The route for a request, the same under every reading of its path. Allocates nothing.
    pub fn find(&self, path: &RequestPath, method: &str) -> Result<&Arc<RouteDoc>, NoRoute> {
        if self.doc.min_reader > READER {
            return Err(NoRoute::TooNew);
        }
        let mut readings = path.readings().iter();
        let first = self.find_reading(readings.next().ok_or(NoRoute::NotFound)?, method);
        for reading in readings {
            let other = self.find_reading(reading, method);
            if first.map(|route| route.id) != other.map(|route| route.id) {
                return Err(NoRoute::Ambiguous);
            }
        }
        let route = first.ok_or(NoRoute::NotFound)?;
        if route.min_reader > READER { Err(NoRoute::TooNew) } else { Ok(route) }
    }

    /// The route with this id.
    pub fn route(&self, id: RouteId) -> Option<&Arc<RouteDoc>> {
        self.by_id.get(&id)
    }

    fn find_reading(&self, reading: &Reading, method: &str) -> Option<&Arc<RouteDoc>> {
        self.routes
            .iter()
            .find(|(pattern, route)| pattern.matches(reading.as_str()) && route.takes(method))
            .map(|(_, route)| route)
    }
}

/// Every site an edge serves, by host. Swapped whole when a site changes; sites are shared, not copied.
#[derive(Clone, Debug, Default)]
pub struct SiteTable {
    by_host: HashMap<Host, Arc<Site>>,
}

impl SiteTable {
    /// The table of these sites. A host that two sites claim belongs to the first.
    pub fn build(sites: impl IntoIterator<Item = Arc<Site>>) -> Self {
        let mut by_host = HashMap::new();
        for site in sites {
            for host in &site.doc.hosts {
                by_host.entry(host.clone()).or_insert_with(|| Arc::clone(&site));
            }
        }
        Self { by_host }
    }

    /// The site published under `host`, given in lower case.
    pub fn find(&self, host: &str) -> Option<&Arc<Site>> {
        self.by_host.get(host)
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.by_host.keys()
    }
}
