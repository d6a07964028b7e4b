//! Rules and limits of routes, as they are asked for and as they are shown: what is shown may be sent back.

use std::collections::BTreeMap;

use mezusphere_model::rules::{Rate, RateKey};
use serde::{Deserialize, Serialize};

use super::Change;

/// What a route does beyond leading somewhere; what is left out it does not do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// How the path changes on its way to the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Rewrite>,
    /// Host that the upstream is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_host: Option<String>,
    /// Request headers, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub request_headers: BTreeMap<String, HeaderRule>,
    /// Response headers, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub response_headers: BTreeMap<String, HeaderRule>,
    /// Where requests are sent on to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// That there is maintenance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Which other origins' pages may read the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

/// What changes about a route's rules: each field left out stays, `null` clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleChanges {
    /// How the path changes on its way to the upstream.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub path: Change<Rewrite>,
    /// Host that the upstream is asked for.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub upstream_host: Change<String>,
    /// Request headers: each name given changes, `null` takes its rule away; `null` for all takes every rule away.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub request_headers: Change<HeaderChanges>,
    /// Response headers, likewise.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub response_headers: Change<HeaderChanges>,
    /// Where requests are sent on to.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub redirect: Change<Redirect>,
    /// That there is maintenance.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub maintenance: Change<Maintenance>,
    /// Which other origins' pages may read the route; a field left out stays.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub cors: Change<CorsChanges>,
}

impl RuleChanges {
    /// Whether nothing changes.
    pub fn is_keep(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of rules on headers, by name in any case.
pub type HeaderChanges = BTreeMap<String, Option<HeaderRule>>;

/// What happens to a header: `{"set": "value"}` or `"remove"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderRule {
    /// It has this value, whatever it had.
    Set(String),
    /// It is not passed on.
    Remove,
}

/// A prefix that is taken away from the path, or replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Whole segments: `/api`.
    pub prefix: String,
    /// What takes its place; nothing if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
}

/// Where requests are sent on to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// A URL or path; may hold `{path}`, `{query}` and `{host}`.
    pub to: String,
    /// 301, 302, 303, 307 or 308; 307 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// That there is maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// For people.
    pub message: String,
    /// For programs, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

/// Which other origins' pages may read the route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cors {
    /// Origins, `scheme://host[:port]`; `*` for every one.
    pub origins: Vec<String>,
    /// Methods beyond GET, HEAD and POST.
    pub methods: Vec<String>,
    /// Request headers.
    pub headers: Vec<String>,
    /// Response headers that pages may read.
    pub expose: Vec<String>,
    /// Whether cookies go along.
    pub credentials: bool,
    /// How long a preflight is remembered, in seconds.
    pub max_age_s: u32,
}

/// What changes about a CORS rule; a list that is given takes the place of the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorsChanges {
    /// Origins, `scheme://host[:port]`; `*` for every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<Vec<String>>,
    /// Methods beyond GET, HEAD and POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Request headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<String>>,
    /// Response headers that pages may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expose: Option<Vec<String>>,
    /// Whether cookies go along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<bool>,
    /// How long a preflight is remembered, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u32>,
}

/// How much a route may be asked; what is left out has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Largest request body, in octets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_max: Option<u64>,
    /// How often, for each edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
}

/// What changes about a route's limits: a field left out stays, `null` clears it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitChanges {
    /// Largest request body, in octets; 0: none at all.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub body_max: Change<u64>,
    /// How often, for each edge.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub rate: Change<RateLimit>,
}

impl LimitChanges {
    /// Whether nothing changes.
    pub fn is_keep(&self) -> bool {
        *self == Self::default()
    }
}

/// How often: a bucket of `burst` that fills by `per_minute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests a minute, over time.
    pub per_minute: u32,
    /// Requests at once.
    pub burst: u32,
    /// What is counted together: `address`, `caller` or `route`; `address` if left out.
    #[serde(default)]
    pub by: RateKey,
}

impl From<Rate> for RateLimit {
    fn from(Rate { per_minute, burst, by }: Rate) -> Self {
        Self { per_minute, burst, by }
    }
}

impl From<RateLimit> for Rate {
    fn from(RateLimit { per_minute, burst, by }: RateLimit) -> Self {
        Self { per_minute, burst, by }
    }
}

/// What one edge gives to all of a project's requests together; what is left out has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// Requests a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Exchanges at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchanges: Option<u32>,
}

/// `PATCH /projects/{project}/quota`: a field left out stays, `null` clears it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaChanges {
    /// Requests a second.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub requests_per_second: Change<u32>,
    /// Exchanges at a time.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub exchanges: Change<u32>,
}
