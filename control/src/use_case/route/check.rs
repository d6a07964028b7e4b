//! Whether a route makes sense, before anything is stored.
//!
//! Pure: knows a request, no store. What is allowed but hardly meant is told by `warn`.

use std::ops::RangeInclusive;
use std::time::Duration;

use mezusphere_model::id::RouteId;
use mezusphere_model::route::{
    AuthMode, Cidr, CidrError, ClaimRule, IdentityForward, PathMatch, PatternError, Requirement,
    RouteTimeouts, StepUp,
};
use mezusphere_model::rules::{RouteLimits, RouteRules};
use mezusphere_model::slug::{Name, Slug};
use mezusphere_model::span_text;

use super::rule::{self, BadRule};
use crate::api::types::{AddRoute, Timeouts, UpdateRoute};
use crate::problem::{self, Refusal};

/// Most methods of one route; more is a list of all, which is written by leaving it out.
const METHODS_MAX: usize = 16;

/// Longest method, in characters; registered ones have up to 17 (RFC 9110 §16.1).
const METHOD_LEN_MAX: usize = 24;

/// Most roles or permissions in one list of a requirement.
const REQUIRE_MAX: usize = 32;

/// Time to reach an upstream, in milliseconds: what a LAN needs, up to more than any TCP handshake should.
const CONNECT_MS: RangeInclusive<u32> = 100..=60_000;

/// Time to a response head, in milliseconds: up to the half hour a report may take.
const HEAD_MS: RangeInclusive<u32> = 1_000..=1_800_000;

/// Time without a byte, in milliseconds: up to a day for quiet event streams.
const IDLE_MS: RangeInclusive<u32> = 1_000..=86_400_000;

/// Time to a response's last byte, in milliseconds: up to a day. 0 is no limit.
const TOTAL_MS: RangeInclusive<u32> = 1_000..=86_400_000;

/// Upstream of a route that names none, and of a warpgate's `--upstream` without a name.
pub(crate) const DEFAULT_UPSTREAM: &str = "default";

/// A route whose every value makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) path: PathMatch,
    pub(crate) methods: Vec<String>,
    pub(crate) auth: AuthMode,
    pub(crate) require: Requirement,
    pub(crate) step_up: StepUp,
    pub(crate) networks: Vec<Cidr>,
    pub(crate) enforce: bool,
    pub(crate) identity: IdentityForward,
    pub(crate) upstream: Slug,
    pub(crate) timeouts: RouteTimeouts,
    pub(crate) rules: RouteRules,
    pub(crate) limits: RouteLimits,
    pub(crate) affinity: bool,
}

/// Why a route cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRoute {
    /// The path pattern is wrong.
    #[error("path: {0}")]
    Pattern(#[from] PatternError),
    /// A `*` elsewhere than at the end of a path, after a slash.
    #[error("path: a * stands only at the end, after a slash")]
    Wildcard,
    /// Not the name of an HTTP method.
    #[error("methods: {0:?} is not an HTTP method")]
    Method(String),
    /// Too many methods.
    #[error("methods: at most {METHODS_MAX}; leave them out for all")]
    TooManyMethods,
    /// A requirement that a stranger passes without meeting it.
    #[error("auth {} lets everybody in, so nothing can be required", mode_text(*.0))]
    Contradiction(AuthMode),
    /// Too many names in a list.
    #[error("require: at most {REQUIRE_MAX} names in a list")]
    TooManyNames,
    /// Not a network.
    #[error("networks: {0:?}: {1}")]
    Network(String, CidrError),
    /// A time-out out of bounds.
    #[error("timeouts.{field}: {} to {}", span(*.low_ms), span(*.high_ms))]
    Timeout {
        /// Which one.
        field: &'static str,
        /// Shortest.
        low_ms: u32,
        /// Longest.
        high_ms: u32,
    },
    /// A rule, a limit, or time-outs that contradict each other.
    #[error(transparent)]
    Rule(#[from] BadRule),
    /// The upstream's name.
    #[error("upstream: {0}")]
    Upstream(#[from] mezusphere_model::slug::SlugError),
}

impl From<BadRoute> for Refusal {
    fn from(bad: BadRoute) -> Self {
        let bad = match bad {
            BadRoute::Rule(why) => return why.into(),
            other => other,
        };
        let code = match &bad {
            BadRoute::Pattern(_) | BadRoute::Wildcard => &problem::ROUTE_PATTERN,
            BadRoute::Contradiction(_) => &problem::ROUTE_CONTRADICTION,
            BadRoute::Method(_)
            | BadRoute::TooManyMethods
            | BadRoute::TooManyNames
            | BadRoute::Network(..)
            | BadRoute::Timeout { .. }
            | BadRoute::Rule(_)
            | BadRoute::Upstream(_) => &problem::ROUTE_INVALID,
        };
        let refusal = Self::new(code, bad.to_string());
        match &bad {
            BadRoute::Pattern(_) | BadRoute::Wildcard | BadRoute::Contradiction(_) | BadRoute::Rule(_) => {
                refusal
            }
            BadRoute::Method(_) => {
                refusal.with_next("give names such as GET with --method; leave it out for all")
            }
            BadRoute::TooManyMethods => refusal.with_next("leave --method out for all methods"),
            BadRoute::TooManyNames => {
                refusal.with_next("give fewer of --role, --all-role, --permission or --all-permission")
            }
            BadRoute::Network(_, CidrError::HostBits(network)) => refusal.with_next(format!(
                "give --network {network} for all of that network, or the address alone for one client"
            )),
            BadRoute::Network(_, CidrError::Malformed) => {
                refusal.with_next("give --network 192.0.2.0/24, 2001:db8::/32 or one address, once for each")
            }
            BadRoute::Timeout { field, low_ms, high_ms } => {
                let (name, low, high) = (field.trim_end_matches("_ms"), span(*low_ms), span(*high_ms));
                refusal.with_next(format!("give --{name}-timeout {low} to {high}"))
            }
            BadRoute::Upstream(_) => {
                refusal.with_next("give --upstream a name, as in warpgate's --upstream NAME=URL")
            }
        }
    }
}

/// The word for a mode, as in the API and the CLI.
pub(crate) const fn mode_text(mode: AuthMode) -> &'static str {
    match mode {
        AuthMode::Public => "public",
        AuthMode::Optional => "optional",
        AuthMode::Required => "required",
    }
}

impl Draft {
    /// Reads a new route.
    pub(crate) fn new(request: &AddRoute) -> Result<Self, BadRoute> {
        let upstream = match &request.upstream {
            Some(name) => name.clone(),
            None => Slug::parse(DEFAULT_UPSTREAM)?,
        };
        Self {
            path: pattern(&request.path)?,
            methods: methods(&request.methods)?,
            auth: request.auth,
            require: requirement(request.require.applied(Requirement::default()))?,
            step_up: request.step_up.applied(StepUp::default()),
            networks: networks(&request.networks)?,
            enforce: request.enforce.unwrap_or(true),
            identity: request.identity.applied(IdentityForward::default()),
            upstream,
            timeouts: timeouts(RouteTimeouts::default(), request.timeouts)?,
            rules: rule::changed(RouteRules::default(), &request.rules)?,
            limits: rule::limits_changed(RouteLimits::default(), &request.limits),
            affinity: request.affinity,
        }
        .consistent()
    }

    /// This route with what `request` changes.
    pub(crate) fn updated(self, request: &UpdateRoute) -> Result<Self, BadRoute> {
        Self {
            path: request.path.as_deref().map_or(Ok(self.path), pattern)?,
            methods: request.methods.as_deref().map_or(Ok(self.methods), methods)?,
            auth: request.auth.unwrap_or(self.auth),
            require: requirement(request.require.applied(self.require))?,
            step_up: request.step_up.applied(self.step_up),
            networks: request.networks.as_deref().map_or(Ok(self.networks), networks)?,
            enforce: request.enforce.unwrap_or(self.enforce),
            identity: request.identity.applied(self.identity),
            upstream: request.upstream.clone().unwrap_or(self.upstream),
            timeouts: timeouts(self.timeouts, request.timeouts.unwrap_or_default())?,
            rules: rule::changed(self.rules, &request.rules)?,
            limits: rule::limits_changed(self.limits, &request.limits),
            affinity: request.affinity.unwrap_or(self.affinity),
        }
        .consistent()
    }

    fn consistent(self) -> Result<Self, BadRoute> {
        // Anybody passes such a route without showing who they are, so a demand on it protects nothing.
        if self.auth != AuthMode::Required && !(self.require.is_empty() && self.step_up.is_empty()) {
            return Err(BadRoute::Contradiction(self.auth));
        }
        // Readers ask the same again, and close a route that does not hold.
        self.clone().into_doc(RouteId::from_bits(0)).check().map_err(BadRule::Rule)?;
        Ok(self)
    }
}

fn pattern(text: &str) -> Result<PathMatch, BadRoute> {
    let path = PathMatch::parse(text)?;
    match &path {
        // `/api*` or `/a/*/b` would match only a path with a star in it.
        PathMatch::Exact(exact) | PathMatch::Prefix(exact) if exact.contains('*') => Err(BadRoute::Wildcard),
        PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Regex(_) => Ok(path),
    }
}

fn methods(given: &[String]) -> Result<Vec<String>, BadRoute> {
    if given.len() > METHODS_MAX {
        return Err(BadRoute::TooManyMethods);
    }
    let mut methods = Vec::with_capacity(given.len());
    for text in given {
        let method = text.to_ascii_uppercase();
        let good = (1..=METHOD_LEN_MAX).contains(&method.len())
            && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        // CONNECT asks a proxy for a tunnel (RFC 9110 §9.3.6); a route never is one.
        if !good || method == "CONNECT" {
            return Err(BadRoute::Method(text.clone()));
        }
        methods.push(method);
    }
    methods.sort_unstable();
    methods.dedup();
    Ok(methods)
}

fn requirement(given: Requirement) -> Result<Requirement, BadRoute> {
    let list = |mut names: Vec<Name>| {
        names.sort();
        names.dedup();
        if names.len() > REQUIRE_MAX { Err(BadRoute::TooManyNames) } else { Ok(names) }
    };
    // One spelling of one demand: what is the same must compare as the same.
    let mut claims = given.claims;
    claims.sort_by(|one, other| one.name.cmp(&other.name));
    claims.dedup();
    for ClaimRule { any_of, .. } in &mut claims {
        any_of.sort_by_key(ToString::to_string);
        any_of.dedup();
    }
    Ok(Requirement {
        any_role: list(given.any_role)?,
        all_roles: list(given.all_roles)?,
        any_permission: list(given.any_permission)?,
        all_permissions: list(given.all_permissions)?,
        claims,
    })
}

fn networks(given: &[String]) -> Result<Vec<Cidr>, BadRoute> {
    let read = |text: &String| text.trim().parse().map_err(|why| BadRoute::Network(text.clone(), why));
    let mut networks = given.iter().map(read).collect::<Result<Vec<Cidr>, _>>()?;
    networks.sort_unstable();
    networks.dedup();
    Ok(networks)
}

fn timeouts(now: RouteTimeouts, change: Timeouts) -> Result<RouteTimeouts, BadRoute> {
    let within = |field, bounds: RangeInclusive<u32>, given: Option<u32>, now| match given {
        Some(value) if !bounds.contains(&value) => {
            Err(BadRoute::Timeout { field, low_ms: *bounds.start(), high_ms: *bounds.end() })
        }
        Some(value) => Ok(value),
        None => Ok(now),
    };
    Ok(RouteTimeouts {
        connect_ms: within("connect_ms", CONNECT_MS, change.connect_ms, now.connect_ms)?,
        head_ms: within("head_ms", HEAD_MS, change.head_ms, now.head_ms)?,
        idle_ms: within("idle_ms", IDLE_MS, change.idle_ms, now.idle_ms)?,
        total_ms: match change.total_ms {
            Some(0) => 0,
            given => within("total_ms", TOTAL_MS, given, now.total_ms)?,
        },
    })
}

/// A time as it is written in a flag.
fn span(ms: u32) -> String {
    span_text(Duration::from_millis(u64::from(ms)))
}

#[cfg(test)]
pub(super) mod tests;
