//! What is published, for people: each route with its access, its upstream, and what changed.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use mezusphere_model::route::{AuthMode, RouteDoc};
use mezusphere_model::slug::Slug;
use tunnel_proto::exchange::FailureCode;

use crate::bundle::Trusted;
use crate::exchange::{Probed, probe};
use crate::limits::PROBE_MAX;
use crate::output::{Event, RouteLine, UpstreamState};
use crate::upstream::{Declaration, Upstreams};

/// All routes of the bundle, in the order they were written, without asking their upstreams.
pub fn lines(trusted: &Trusted, declared: &Upstreams) -> Vec<RouteLine> {
    trusted.routes().iter().map(|route| line(route, trusted, declared)).collect()
}

/// All routes of the bundle, each with what its upstream says right now. Waits up to [`PROBE_MAX`].
pub async fn probed(trusted: Arc<Trusted>, declared: &Upstreams) -> Vec<RouteLine> {
    let used = |name: &Slug| trusted.routes().iter().any(|route| route.upstream == *name);
    let asking = declared
        .iter()
        .filter(|(name, _)| used(name))
        .map(|(name, declared)| async move { (name, ask(declared).await) });
    let states: HashMap<&Slug, UpstreamState> = join_all(asking).await.into_iter().collect();
    let routes = trusted.routes().iter();
    let with_state = |route: &RouteDoc| RouteLine {
        state: states.get(&route.upstream).cloned(),
        ..line(route, &trusted, declared)
    };
    routes.map(with_state).collect()
}

/// What is different between two bundles; `None` if no route is.
pub fn changes(before: &Trusted, now: &Trusted, declared: &Upstreams) -> Option<Event> {
    let was = |route: &RouteDoc| before.routes().iter().find(|old| old.id == route.id);
    let shown = |route: &RouteDoc| line(route, now, declared);
    let added: Vec<_> = now.routes().iter().filter(|route| was(route).is_none()).map(shown).collect();
    let differs = |route: &&RouteDoc| was(route).is_some_and(|old| old != *route);
    let changed: Vec<_> = now.routes().iter().filter(differs).map(shown).collect();
    let gone = |old: &&RouteDoc| !now.routes().iter().any(|route| route.id == old.id);
    let removed: Vec<_> = before.routes().iter().filter(gone).map(|route| address(route, before)).collect();
    let same = added.is_empty() && changed.is_empty() && removed.is_empty();
    (!same).then(|| Event::RoutesChanged { revision: now.revision(), added, changed, removed })
}

fn line(route: &RouteDoc, trusted: &Trusted, declared: &Upstreams) -> RouteLine {
    RouteLine {
        address: address(route, trusted),
        upstream: route.upstream.to_string(),
        target: declared.get(&route.upstream).map(ToString::to_string),
        access: access(route),
        state: None,
    }
}

fn address(route: &RouteDoc, trusted: &Trusted) -> String {
    let methods =
        if route.methods.is_empty() { String::new() } else { format!("{} ", route.methods.join("|")) };
    format!("{methods}{}{}", trusted.origin, route.path)
}

fn access(route: &RouteDoc) -> String {
    let auth = match route.auth {
        AuthMode::Public => "public",
        AuthMode::Optional => "auth optional",
        AuthMode::Required => "auth required",
    };
    let demands = route.demands().to_string();
    if demands.is_empty() { auth.to_owned() } else { format!("{auth} · {demands}") }
}

/// What an upstream says right now.
async fn ask(declared: &Declaration) -> UpstreamState {
    match probe(declared, PROBE_MAX).await {
        Ok(Probed { status, took }) => {
            UpstreamState::Up { status, took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX) }
        }
        Err(failure) if failure.code == FailureCode::UpstreamConnectTimeout => {
            UpstreamState::Down { why: "it does not take the connection".to_owned() }
        }
        Err(failure) => {
            // Where it is stands beside it.
            let why =
                failure.detail.strip_prefix(&format!("{}: ", declared.target())).unwrap_or(&failure.detail);
            UpstreamState::Down { why: why.split(" (os error").next().unwrap_or(why).to_lowercase() }
        }
    }
}
