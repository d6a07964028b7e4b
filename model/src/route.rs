//! Routes: what is published, under which host and path, and for whom; and finding the one for a request.
//!
//! Order: exact paths first, then the longest prefix of whole segments, then regular expressions in the
//! order they were written; equal ones too. A route that lists methods is passed over by all others, and the next
//! one that matches is taken. Knows nothing of sessions; [`crate::policy`] decides what the caller may do next.

mod demand;
mod identity_forward;
mod network;

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::id::{DirectoryId, EnvironmentId, OrganizationId, ProjectId, RouteId};
use crate::lenient::Lenient;
use crate::path::{Reading, RequestPath};
use crate::pattern::Pattern;
use crate::policy;
use crate::rules::{ProjectQuota, Reader, RouteLimits, RouteRules, RuleError};
use crate::slug::Slug;

pub use self::demand::{
    AUTH_AGE_S_MAX, AUTH_AGE_S_MIN, CLAIM_NAME_LEN_MAX, CLAIM_VALUE_LEN_MAX, CLAIM_VALUES_MAX, CLAIMS_MAX,
    ClaimRule, Demands, Requirement, StepUp,
};
pub use self::identity_forward::{IdentityForward, IdentityProfile};
pub use self::network::{Cidr, CidrError, NETWORKS_MAX};
pub use crate::pattern::{PATTERN_LEN_MAX, PathMatch, PatternError, REGEX_CACHE_MAX, REGEX_SIZE_MAX};

/// The newest policy document this code understands; a route that asks for more is closed, never guessed at.
///
/// 1: hosts, paths, methods, access, upstream, time-outs. 2: [`crate::rules`]. 3: claims, step-up, networks, and what more an
/// upstream is told of a caller.
pub const READER: u32 = 3;

/// Most routes of one environment.
pub const ROUTES_MAX: usize = 1000;

/// Methods that a route may list, at most.
pub const METHODS_MAX: usize = 16;

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
    /// From the request's first byte to the response's last; 0: as long as it takes.
    pub total_ms: u32,
}

impl Default for RouteTimeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, head_ms: 60_000, idle_ms: 300_000, total_ms: 0 }
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
    /// How strongly and how lately they must have proved who they are.
    #[serde(default, skip_serializing_if = "StepUp::is_empty")]
    pub step_up: StepUp,
    /// From which networks they must come; empty: from any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Cidr>,
    /// `false`: a dry run. Demands beyond sign-in are decided on and written down, and refuse nobody.
    #[serde(default = "enforced", skip_serializing_if = "Clone::clone")]
    pub enforce: bool,
    /// What more the upstream is told of them.
    #[serde(default, skip_serializing_if = "IdentityForward::is_empty")]
    pub identity: IdentityForward,
    /// The warpgate's name for where it leads; the upstream given without a name is `default`.
    pub upstream: Slug,
    /// Its time-outs.
    #[serde(default)]
    pub timeouts: RouteTimeouts,
    /// What it does to its requests and responses.
    #[serde(default, skip_serializing_if = "RouteRules::is_empty")]
    pub rules: RouteRules,
    /// How much it may be asked.
    #[serde(default, skip_serializing_if = "RouteLimits::is_empty")]
    pub limits: RouteLimits,
    /// Whether requests of one session, or of one address without a session, go to one warpgate while it is fit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub affinity: bool,
}

impl RouteDoc {
    /// A route for every method, without demands, rules or limits; the rest by struct update.
    pub fn new(id: RouteId, path: PathMatch, auth: AuthMode, upstream: Slug) -> Self {
        Self {
            min_reader: 1,
            id,
            path,
            methods: Vec::new(),
            auth,
            require: Requirement::default(),
            step_up: StepUp::default(),
            networks: Vec::new(),
            enforce: true,
            identity: IdentityForward::default(),
            upstream,
            timeouts: RouteTimeouts::default(),
            rules: RouteRules::default(),
            limits: RouteLimits::default(),
            affinity: false,
        }
    }

    /// The oldest `reader` that does all that the route asks of it. What is only a preference, or a time-out more, is worth no closed
    /// route: affinity, the total time-out; nor is a dry run, which an older reader enforces.
    pub fn reader(&self, reader: Reader) -> u32 {
        let limits = match reader {
            Reader::Edge => self.limits.reader(),
            Reader::Warpgate => 1,
        };
        // Both decide on all demands. What the upstream is told, the warpgate writes.
        let has_demands =
            !self.require.claims.is_empty() || !self.step_up.is_empty() || !self.networks.is_empty();
        let tells = reader == Reader::Warpgate && !self.identity.is_empty();
        let access = if has_demands || tells { 3 } else { 1 };
        self.rules.reader(reader).max(limits).max(access)
    }

    /// Whether its demands, rules, limits and time-outs can be carried out.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), RuleError> {
        self.require.check()?;
        self.step_up.check()?;
        if self.networks.len() > NETWORKS_MAX {
            return Err(RuleError::TooManyNetworks);
        }
        self.identity.check()?;
        self.rules.check(&self.path)?;
        self.limits.check()?;
        let RouteTimeouts { head_ms: head, total_ms: total, .. } = self.timeouts;
        if total != 0 && total < head { Err(RuleError::Total { total, head }) } else { Ok(()) }
    }

    /// Who may use the route, demands included: one that demands something of its callers needs to know them,
    /// whatever its mode says. Control refuses to store such a contradiction; here it is closed.
    pub fn auth_in_force(&self) -> AuthMode {
        if self.require.is_empty() && self.step_up.is_empty() { self.auth } else { AuthMode::Required }
    }

    /// What it demands beyond sign-in, to be shown.
    pub fn demands(&self) -> Demands<'_> {
        Demands {
            require: &self.require,
            step_up: self.step_up,
            networks: &self.networks,
            enforce: self.enforce,
        }
    }

    /// Whether requests with this method may match. A route that lists `GET` also takes `HEAD`
    /// (RFC 9110 §9.3.2); case matters (§9.1).
    pub fn takes(&self, method: &str) -> bool {
        let lists = |method: &str| self.methods.iter().any(|known| known == method);
        self.methods.is_empty() || lists(method) || (method == "HEAD" && lists("GET"))
    }
}

/// A route that does not say is enforced.
fn enforced() -> bool {
    true
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
    /// What one edge gives to the project, all environments together.
    #[serde(default, skip_serializing_if = "ProjectQuota::is_empty")]
    pub quota: ProjectQuota,
}

impl SiteDoc {
    /// The site with each route marked for `reader`: it closes the routes whose rules it could not carry out, and no others.
    #[must_use]
    pub fn marked_for(mut self, reader: Reader) -> Self {
        for route in &mut self.routes {
            route.min_reader = route.reader(reader);
        }
        self
    }
}

/// A site ready to be matched against.
#[derive(Debug)]
pub struct Site {
    /// What it was built from.
    pub doc: SiteDoc,
    /// Routes in matching order, each with what it was built from.
    routes: Vec<(Pattern, Arc<RouteDoc>)>,
    /// Their lenient patterns in matching order, each with its place in `routes`.
    lenient: Vec<(Lenient, usize)>,
    /// Whether a plain path leads to one route, however lenient the server.
    is_plain: bool,
    by_id: HashMap<RouteId, Arc<RouteDoc>>,
}

/// Why a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No route matches.
    #[error("no route matches this path")]
    NotFound,
    /// The path can be read in several ways that choose different routes, or a lenient server would take it for a route
    /// that asks more.
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
    /// letting its requests fall through to a weaker route. A route with a rule that cannot be carried out stays in
    /// its place and is closed, like one for a newer reader.
    pub fn build(doc: SiteDoc) -> Result<Self, PatternError> {
        if doc.routes.len() > ROUTES_MAX || doc.routes.iter().any(|route| route.methods.len() > METHODS_MAX) {
            return Err(PatternError::TooMany);
        }
        let mut routes = Vec::with_capacity(doc.routes.len());
        let mut by_id = HashMap::with_capacity(doc.routes.len());
        for route in &doc.routes {
            let mut shared = route.clone();
            if route.check().is_err() {
                shared.min_reader = u32::MAX;
            }
            let shared = Arc::new(shared);
            // Edge and warpgate agree on a route by its id.
            if by_id.insert(route.id, Arc::clone(&shared)).is_some() {
                return Err(PatternError::DuplicateId(route.id));
            }
            routes.push((Pattern::compile(&route.path)?, shared));
        }
        routes.sort_by_key(|(pattern, _)| pattern.rank());
        let mut lenient = Vec::with_capacity(routes.len());
        let mut is_plain = true;
        for (at, (literal, _)) in routes.iter().enumerate() {
            let pattern = Lenient::of(literal)?;
            is_plain &= pattern.is_plain(literal);
            lenient.push((pattern, at));
        }
        lenient.sort_by_key(|(pattern, _)| pattern.rank());
        Ok(Self { doc, routes, lenient, is_plain, by_id })
    }

    /// The route for a request: the same under every literal reading of its path, and one that asks no less of its callers
    /// than whatever a lenient server would take the path for (ADR 14). Allocates nothing.
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
        if route.min_reader > READER {
            return Err(NoRoute::TooNew);
        }
        let is_plain = self.is_plain && path.is_plain();
        let holds = |reading: &Reading| self.holds_leniently(reading.as_str(), method, route);
        if is_plain || path.lenient().iter().all(holds) { Ok(route) } else { Err(NoRoute::Ambiguous) }
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

    /// Whether `chosen` asks no less than what a lenient server would take `reading` for.
    ///
    /// Among routes that such a server cannot tell apart the one that is spelled exactly so counts: whoever
    /// publishes `/A` beside `/a` says that the upstream tells them apart. If none is, all count.
    fn holds_leniently(&self, reading: &str, method: &str, chosen: &RouteDoc) -> bool {
        let mut matching = self.lenient.iter().filter_map(|(lenient, at)| {
            let (literal, route) = self.routes.get(*at)?;
            // To the letter too: an expression may exclude what it matches without regard to case.
            let matches = route.takes(method) && (lenient.matches(reading) || literal.matches(reading));
            matches.then_some((lenient, literal, route))
        });
        let Some(first) = matching.next() else {
            return false; // such a server would serve what is not published
        };
        let twins = std::iter::once(first).chain(matching.take_while(|other| other.0.is_twin(first.0)));
        match twins.clone().find(|(_, literal, _)| literal.matches(reading)) {
            Some((_, _, spelled)) => policy::asks_no_less(chosen, spelled),
            None => twins.into_iter().all(|(_, _, twin)| policy::asks_no_less(chosen, twin)),
        }
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
