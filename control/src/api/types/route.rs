//! Routes of an environment.

use std::net::IpAddr;

use mezusphere_model::id::RouteId;
use mezusphere_model::route::{AuthMode, Cidr, Demands, IdentityForward, Requirement, StepUp};
use mezusphere_model::slug::Slug;
use serde::{Deserialize, Serialize};

use super::{IdentityChanges, LimitChanges, Limits, RequireChanges, RuleChanges, Rules, StepUpChanges};

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
    /// How strongly and how lately they must have proved who they are.
    #[serde(default)]
    pub step_up: StepUp,
    /// From which networks they must come; empty: from any.
    #[serde(default)]
    pub networks: Vec<Cidr>,
    /// `false`: a dry run; demands beyond sign-in are written down and refuse nobody.
    #[serde(default = "yes")]
    pub enforce: bool,
    /// What more the upstream is told of them.
    #[serde(default)]
    pub identity: IdentityForward,
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

impl Route {
    /// What it demands beyond sign-in, to be shown.
    pub fn demands(&self) -> Demands<'_> {
        Demands {
            require: &self.require,
            step_up: self.step_up,
            networks: &self.networks,
            enforce: self.enforce,
        }
    }
}

/// What older servers, which enforce everything, leave out.
fn yes() -> bool {
    true
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
    #[serde(default, skip_serializing_if = "RequireChanges::is_keep")]
    pub require: RequireChanges,
    /// How strongly and how lately they must have proved who they are.
    #[serde(default, skip_serializing_if = "StepUpChanges::is_keep")]
    pub step_up: StepUpChanges,
    /// From which networks they must come, in CIDR notation; empty or absent: from any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// `false`: a dry run; demands beyond sign-in are written down and refuse nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce: Option<bool>,
    /// What more the upstream is told of them.
    #[serde(default, skip_serializing_if = "IdentityChanges::is_keep")]
    pub identity: IdentityChanges,
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
    /// What else they must hold; a list that is left out stays.
    #[serde(skip_serializing_if = "RequireChanges::is_keep")]
    pub require: RequireChanges,
    /// How strongly and how lately they must have proved who they are.
    #[serde(skip_serializing_if = "StepUpChanges::is_keep")]
    pub step_up: StepUpChanges,
    /// From which networks they must come, as a whole list; empty: from any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// Whether demands beyond sign-in refuse anybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce: Option<bool>,
    /// What more the upstream is told of them.
    #[serde(skip_serializing_if = "IdentityChanges::is_keep")]
    pub identity: IdentityChanges,
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
    /// All that it demands beyond sign-in, in a few words; empty: nothing.
    #[serde(default)]
    pub needs: String,
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
    /// Who sends it, signed in just now with a password: an e-mail address or id of a user of the project's directory. Nobody if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The client's address. If absent, networks count as met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
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
    /// What the policy of the route says; `null` if no route takes it, or it is answered before.
    #[serde(default)]
    pub verdict: Option<Verdict>,
}

/// What the policy of a route says of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it is let in.
    pub allowed: bool,
    /// Why not, as a stable word: `sign_in_required`, `missing_role`, `network`…; in a dry run, why it would not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same as words for people: `needs the role admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the upstream is told who it is.
    pub forwards_identity: bool,
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
