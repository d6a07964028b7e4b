//! What would become of a request: which route takes it, and what happens to it on its way, in order.
//!
//! The route is found by the model's own [`Site`], and what rules come to is asked of the rules themselves, so that nothing is
//! told here that edges and warpgates do not do.

use std::net::{IpAddr, Ipv4Addr};

use mezusphere_model::Timestamp;
use mezusphere_model::document::{PrincipalDoc, Status};
use mezusphere_model::identity::{Assurance, Identity, Method, Subject};
use mezusphere_model::path::RequestPath;
use mezusphere_model::policy::{Circumstances, Denial, Permit, decide};
use mezusphere_model::route::{AuthMode, IdentityForward, NoRoute, RouteDoc, Site, SiteDoc};
use mezusphere_model::rules::{CorsRule, EdgeAnswer, HeaderRules, RateKey};
use mezusphere_store::primary::{principal, route, site};

use super::{scope, view};
use crate::Shared;
use crate::api::types::{ExplainRequest, Explained, Place, Step, Verdict};
use crate::caller::{Caller, Permission};
use crate::problem::{self, Refusal};

/// The word for a request that only lacks a sender.
const SIGN_IN_REQUIRED: &str = Denial::SignInRequired.code();

/// Tells what would become of a request to the environment's own host.
pub(crate) async fn explain(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    request: &ExplainRequest,
) -> Result<Explained, Refusal> {
    let mut grant = caller.allow(Permission::RoutesRead)?;
    if request.user.is_some() {
        // What a user may do tells what they hold.
        grant = caller.allow(Permission::UsersRead)?;
    }
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let doc = site::load(tx, project.id, environment.id).await?;
            let doc = doc.ok_or_else(|| scope::not_found("environment", ""))?;
            let found = match taken(doc, request)? {
                Ok(found) => found,
                Err(why) => {
                    return Ok(Explained {
                        route: None,
                        refused: Some(why),
                        steps: Vec::new(),
                        verdict: None,
                    });
                }
            };
            let sender = match &request.user {
                Some(name) => {
                    let subject = Subject::User(scope::user(tx, &project, name).await?.id);
                    principal::load(tx, project.id, subject).await?.and_then(|doc| signed_in(doc, tx.now()))
                }
                None => None,
            };
            let verdict = found.verdict(sender.as_ref(), request.from, tx.now());
            let row = route::get(tx, project.id, found.route.id).await?;
            // Without a sender the steps are those of whoever may; that nobody would have to sign in is no news.
            let is_told = |verdict: &&Verdict| {
                request.user.is_some()
                    || (request.from.is_some() && verdict.code.as_deref() != Some(SIGN_IN_REQUIRED))
            };
            let steps = found.steps(verdict.as_ref().filter(is_told));
            Ok(Explained { route: row.map(view), refused: None, steps, verdict })
        })
        .await
}

/// Somebody who has just signed in with a password, if their account is active.
fn signed_in(doc: PrincipalDoc, now: Timestamp) -> Option<Identity> {
    (doc.status == Status::Active).then(|| Identity {
        subject: doc.subject,
        session: None,
        email: doc.email,
        name: doc.name,
        roles: doc.roles,
        permissions: doc.permissions,
        methods: vec![Method::Password],
        assurance: Assurance::Aal1,
        authenticated_at: now,
        claims: doc.claims,
    })
}

/// A request and the route that takes it.
struct Taken<'r> {
    path: &'r str,
    query: Option<&'r str>,
    host: String,
    route: RouteDoc,
}

/// The route that takes a request, or why none does, as a sentence.
fn taken(doc: SiteDoc, request: &ExplainRequest) -> Result<Result<Taken<'_>, String>, Refusal> {
    let (path, query) = match request.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (request.path.as_str(), None),
    };
    let read = match RequestPath::parse(path) {
        Ok(read) => read,
        Err(why) => return Ok(Err(format!("400 Bad Request: {why}"))),
    };
    let host = doc.hosts.first().map(ToString::to_string).unwrap_or_default();
    let site = Site::build(doc)
        .map_err(|why| Refusal::new(&problem::ROUTE_PATTERN, format!("the site is closed: {why}")))?;
    let method = request.method.as_deref().unwrap_or("GET").to_ascii_uppercase();
    Ok(match site.find(&read, &method) {
        Ok(route) => Ok(Taken { path, query, host, route: RouteDoc::clone(route) }),
        Err(NoRoute::NotFound) => Err("404 Not Found: no route matches this path and method".to_owned()),
        Err(NoRoute::Ambiguous) => {
            Err("400 Bad Request: another route would decide if a server read this path in another way"
                .to_owned())
        }
        Err(NoRoute::TooNew) => Err("503: a rule of the route cannot be carried out".to_owned()),
    })
}

impl Taken<'_> {
    /// What the policy says, unless the route answers before it is asked.
    fn verdict(&self, sender: Option<&Identity>, from: Option<IpAddr>, now: Timestamp) -> Option<Verdict> {
        if let Some(EdgeAnswer::Maintenance(_)) = self.route.rules.answer {
            return None;
        }
        // An address that is not told is taken for one that may.
        let networks = if from.is_some() { self.route.networks.clone() } else { Vec::new() };
        let route = RouteDoc { networks, ..self.route.clone() };
        let circumstances = Circumstances { client: from.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), now };
        let decided = decide(&route, sender, &circumstances);
        let denial = decided.as_ref().map_or_else(Some, Permit::would_deny);
        Some(Verdict {
            allowed: decided.is_ok(),
            code: denial.map(|denial| denial.code().to_owned()),
            reason: denial.map(ToString::to_string),
            forwards_identity: decided.as_ref().is_ok_and(Permit::forwards_identity),
        })
    }

    /// What happens to the request, in the order of ADR 15; to one that the policy refuses, no more than that.
    fn steps(&self, verdict: Option<&Verdict>) -> Vec<Step> {
        let mut told = Vec::new();
        let mut at_edge = |what: String| told.push(Step { at: Place::Edge, what });
        let route = &self.route;
        if let Some(cors) = &route.rules.cors {
            at_edge(cors_words(cors));
        }
        if let Some(EdgeAnswer::Maintenance(maintenance)) = &route.rules.answer {
            let retry = maintenance.retry_after_s.map(|s| format!(", retry after {s} s")).unwrap_or_default();
            at_edge(format!("answer 503 to everybody: {:?}{retry}", maintenance.message));
            return told;
        }
        let rate = route.limits.rate;
        if let Some(rate) = rate.filter(|rate| rate.by == RateKey::Address) {
            at_edge(format!("count by address: {rate}"));
        }
        at_edge(access(route));
        if let Some(verdict) = verdict {
            at_edge(verdict_words(verdict));
        }
        if verdict.is_some_and(|verdict| !verdict.allowed) {
            return told;
        }
        if let Some(EdgeAnswer::Redirect(redirect)) = &route.rules.answer {
            at_edge(format!(
                "redirect ({}) to {}",
                redirect.status,
                redirect.target(self.path, self.query, &self.host)
            ));
            return told;
        }
        if let Some(octets) = route.limits.body_max {
            at_edge(format!("refuse a body of more than {octets} bytes"));
        }
        if let Some(rate) = rate.filter(|rate| rate.by != RateKey::Address) {
            at_edge(format!("count by {}: {rate}", rate.by.as_str()));
        }
        let same = if route.affinity { ", the same one for the same session" } else { "" };
        at_edge(format!("forward to a warpgate of the environment{same}"));
        let forwarded = Step { at: Place::Warpgate, what: self.forwarded() };
        told.extend([forwarded]);
        told.extend(identity_words(&route.identity).map(at_warpgate));
        told.extend(headers("request", &route.rules.request_headers).map(at_warpgate));
        if route.timeouts.total_ms != 0 {
            told.push(at_warpgate(format!("cut it off after {} ms in total", route.timeouts.total_ms)));
        }
        told.extend(headers("response", &route.rules.response_headers).map(at_warpgate));
        told
    }

    fn forwarded(&self) -> String {
        let path = match &self.route.rules.path {
            Some(rule) => rule.apply(self.path),
            None => Some(self.path.into()),
        };
        let Some(path) = path else {
            return "refuse it: the path holds .., and a prefix is stripped or replaced".to_owned();
        };
        let query = self.query.map(|query| format!("?{query}")).unwrap_or_default();
        let host = self
            .route
            .rules
            .upstream_host
            .as_ref()
            .map(|host| format!(" as host {host}"))
            .unwrap_or_default();
        format!("ask upstream {} for {path}{query}{host}", self.route.upstream)
    }
}

fn at_warpgate(what: String) -> Step {
    Step { at: Place::Warpgate, what }
}

fn access(route: &RouteDoc) -> String {
    let needs = route.demands().to_string();
    let who = match route.auth_in_force() {
        AuthMode::Public => "let everybody in",
        AuthMode::Optional => "let everybody in; tell the upstream who is signed in",
        AuthMode::Required => "ask for a sign-in or an API key",
    };
    if needs.is_empty() { who.to_owned() } else { format!("{who} · {needs}") }
}

fn verdict_words(verdict: &Verdict) -> String {
    match (verdict.allowed, &verdict.reason) {
        (true, None) => "this request is let in".to_owned(),
        (true, Some(reason)) => {
            format!("this request is let in, and would be refused without the dry run: {reason}")
        }
        (false, reason) => format!("this request is refused: {}", reason.as_deref().unwrap_or_default()),
    }
}

/// What the upstream is told of the caller beyond the usual.
fn identity_words(identity: &IdentityForward) -> impl Iterator<Item = String> {
    let profiles: Vec<&str> = identity.profiles.iter().map(|profile| profile.as_str()).collect();
    let lines = [("headers of the profile", profiles.join(", ")), ("the claims", identity.claims.join(", "))];
    let lines = lines.into_iter().filter(|(_, names)| !names.is_empty());
    lines.map(|(what, names)| format!("tell the upstream who it is with {what} {names}"))
}

fn cors_words(cors: &CorsRule) -> String {
    let origins: Vec<&str> = cors.origins.iter().map(mezusphere_model::rules::Origin::as_str).collect();
    let cookies = if cors.credentials { ", with cookies" } else { "" };
    format!("let pages of {} read it{cookies}, and answer their preflights", origins.join(", "))
}

/// One line for the fields that are set, and one for those that are removed; names alone.
fn headers(side: &'static str, rules: &HeaderRules) -> impl Iterator<Item = String> {
    let set: Vec<&str> = rules.set.iter().map(|rule| rule.name.as_str()).collect();
    let lines = [("set", set.join(", ")), ("remove", rules.remove.join(", "))];
    lines
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(move |(verb, names)| format!("{verb} {side} headers {names}"))
}
