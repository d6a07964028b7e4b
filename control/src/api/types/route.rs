//! Routes of an environment.

use mezusphere_model::id::RouteId;
use mezusphere_model::route::{AuthMode, Requirement};
use mezusphere_model::slug::Slug;
use serde::{Deserialize, Serialize};

use super::{LimitChanges, Limits, RuleChanges, Rules};

/// Time-outs, in milliseconds; a field left out keeps its default (or, on update, its value).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To reach the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<u32>,
    /// From the request's last byte to the response head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_ms: Option<u32>,
    /// Without a byte in either direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u32>,
    /// From the request's first byte to the response's last; 0: as long as it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u32>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its id.
    pub id: RouteId,
    /// Its place among the environment's routes, from 0; decides only between regular expressions.
    pub position: u32,
    /// Which paths: `/a` exact, `/a/*` prefix, `~REGEX` regular expression.
    pub path: String,
    /// Which methods; empty: all.
    pub methods: Vec<String>,
    /// Who may use it.
    pub auth: AuthMode,
    /// What else they must hold.
    pub require: Requirement,
    /// The warpgate's name for where it leads.
    pub upstream: Slug,
    /// Its time-outs.
    pub timeouts: Timeouts,
    /// What it does beyond leading somewhere.
    #[serde(default)]
    pub rules: Rules,
    /// How much it may be asked.
    #[serde(default)]
    pub limits: Limits,
    /// Whether requests of one session go to one warpgate.
    #[serde(default)]
    pub affinity: bool,
    /// Since when.
    pub created_at: String,
}

/// `POST …/routes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddRoute {
    /// Which paths: `/a` exact, `/a/*` prefix, `~REGEX` regular expression.
    pub path: String,
    /// Which methods; empty or absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Who may use it. Must be said: nothing is open by omission.
    pub auth: AuthMode,
    /// What else they must hold.
    #[serde(default, skip_serializing_if = "Requirement::is_empty")]
    pub require: Requirement,
    /// The warpgate's name for where it leads; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Slug>,
    /// Its time-outs.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What it does beyond leading somewhere; `null` is as good as left out.
    #[serde(default, skip_serializing_if = "RuleChanges::is_keep")]
    pub rules: RuleChanges,
    /// How much it may be asked.
    #[serde(default, skip_serializing_if = "LimitChanges::is_keep")]
    pub limits: LimitChanges,
    /// Whether requests of one session go to one warpgate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub affinity: bool,
    /// Place among the routes, from 0; at the end if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
}

/// `PATCH …/routes/{route}`: only what is given changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateRoute {
    /// Which paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Which methods; empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Who may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthMode>,
    /// What else they must hold, as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require: Option<Requirement>,
    /// Where it leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Slug>,
    /// Its time-outs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// What it does beyond leading somewhere.
    #[serde(skip_serializing_if = "RuleChanges::is_keep")]
    pub rules: RuleChanges,
    /// How much it may be asked.
    #[serde(skip_serializing_if = "LimitChanges::is_keep")]
    pub limits: LimitChanges,
    /// Whether requests of one session go to one warpgate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<bool>,
}

/// `PUT …/route-order`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRoutes {
    /// Every route of the environment, once, in the new order.
    pub routes: Vec<RouteId>,
}

/// A route that was added or changed, and what looks wrong about it though it is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAdded {
    /// The route.
    pub route: Route,
    /// Its public URL, without the wildcard.
    pub url: String,
    /// Sentences for people: an unknown role, a route that another one hides.
    pub warnings: Vec<String>,
}

/// A route that was removed, and what becomes of requests for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRemoved {
    /// The route as it was.
    pub route: Route,
    /// Routes that take its requests from now on, in matching order.
    pub follows: Vec<FollowingRoute>,
    /// Whether some of its requests, or all, match no route and get 404.
    pub not_found: bool,
    /// The same as a sentence for people: `Requests for it now follow /* (public: no sign-in).`
    pub now: String,
}

/// A route that takes requests another one does not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowingRoute {
    /// Its id.
    pub id: RouteId,
    /// Which paths.
    pub path: String,
    /// Who may use it.
    pub auth: AuthMode,
    /// What else they must hold.
    pub require: Requirement,
    /// Which methods of these requests it takes; empty: every one that is left.
    pub methods: Vec<String>,
    /// A regular expression, which may match some of the paths and not others.
    pub partly: bool,
}

/// `POST …/explain`: what would become of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Its path, with or without a query, as it would be sent.
    pub path: String,
    /// Its method; `GET` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// What would become of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The route that takes it; `null` if it is refused.
    pub route: Option<Route>,
    /// Why it is refused, as a sentence for people.
    pub refused: Option<String>,
    /// What happens to it, in order.
    pub steps: Vec<Step>,
}

/// One thing that happens to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where.
    pub at: Place,
    /// What, as a few words for people.
    pub what: String,
}

/// Where something happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Before it goes into a tunnel.
    Edge,
    /// Between the tunnel and the upstream.
    Warpgate,
}
