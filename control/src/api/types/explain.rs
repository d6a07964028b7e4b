//! `POST /explain`: what would become of a request, found by its address, and why.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Route, Step};

/// A request to be explained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExplainUrl {
    /// Its address: `https://shop.example/orders?id=1`. A scheme and a port may be left out.
    pub url: String,
    /// Its method; `GET` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Who sends it: an e-mail address, or the id of a user or service account. Nobody if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The client's address. If absent, networks count as met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// When, RFC 3339; now if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedUrl {
    /// Its method.
    pub method: String,
    /// The host that was asked.
    pub host: String,
    /// Its path, with the query.
    pub path: String,
    /// Whose host it is; `null` if nobody's here.
    pub place: Option<ExplainedPlace>,
    /// Who sends it; `null`: nobody that is known.
    pub caller: Option<ExplainedCaller>,
    /// The route that takes it; `null` if none does.
    pub route: Option<Route>,
    /// What is decided.
    pub verdict: ExplainedVerdict,
    /// Everything that is lacking, not just the first thing; words for people.
    pub lacks: Vec<String>,
    /// What would change it; sentences for people, some of them commands.
    pub changes: Vec<String>,
    /// What happens to it, in order, if it is let in.
    pub steps: Vec<Step>,
}

/// Where a host leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedPlace {
    /// The project.
    pub project: String,
    /// Its environment.
    pub environment: String,
}

/// A caller, as the policy sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedCaller {
    /// Their id.
    pub id: String,
    /// Their e-mail address; empty for machines.
    pub email: String,
    /// Their name.
    pub name: String,
    /// `active`, `suspended`…
    pub status: String,
    /// Their roles in the project.
    pub roles: Vec<String>,
    /// What those give.
    pub permissions: Vec<String>,
    /// How strongly they signed in.
    pub acr: String,
    /// When they last proved who they are.
    pub authenticated_at: String,
    /// Whether that is what a session of theirs on this host says; if not, it is as if they had signed in just then.
    pub signed_in: bool,
}

/// What is decided about a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedVerdict {
    /// Whether it reaches the upstream, or the answer the route gives itself.
    pub allowed: bool,
    /// The status it gets if not; 0 if it is allowed.
    pub status: u16,
    /// The stable code if not: `edge.denied`, `edge.no_route`…; empty if it is allowed.
    pub code: String,
    /// The policy's word: `sign_in_required`, `missing_role`, `network`…; in a dry run, what would be denied. Empty: nothing.
    pub reason: String,
    /// Why, as a sentence for people.
    pub why: String,
    /// It is allowed only because the route is in a dry run.
    pub dry_run: bool,
}
