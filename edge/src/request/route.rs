//! The second stage: which route a request is for.

use std::sync::Arc;

use mezusphere_model::route::{NoRoute, RouteDoc, Site};

use super::cors;
use super::inbound::{Address, Inbound};
use super::refusal::Refusal;
use crate::view::View;

/// A request with its route.
pub(crate) struct Routed<'a> {
    /// The request.
    pub(crate) inbound: Inbound<'a>,
    /// What is published under its host.
    pub(crate) site: Arc<Site>,
    /// What matches its path, under every reading.
    pub(crate) route: Arc<RouteDoc>,
}

/// What is published under a request's host.
pub(crate) fn site(address: &Address, view: &View) -> Result<Arc<Site>, Refusal> {
    let sites = view.sites();
    sites.find(address.authority.host.as_str()).cloned().ok_or(Refusal::UnknownHost)
}

/// Finds the route of a request. A preflight is for the route of the request that it asks about, if that has a CORS rule:
/// such a one is answered by [`super::rules`] and goes no further.
pub(crate) fn find(inbound: Inbound<'_>, site: Arc<Site>) -> Result<Routed<'_>, Refusal> {
    if let Some(method) = cors::asks_about(&inbound.ask.method, &inbound.headers)
        && let Ok(route) = site.find(&inbound.address.path, method)
        && route.rules.cors.is_some()
    {
        let route = Arc::clone(route);
        return Ok(Routed { inbound, site, route });
    }
    let found = site.find(&inbound.address.path, inbound.ask.method.as_str());
    let route = Arc::clone(found.map_err(|why| match why {
        NoRoute::NotFound => Refusal::NoRoute,
        NoRoute::Ambiguous => Refusal::AmbiguousPath,
        NoRoute::TooNew => Refusal::TooNew,
    })?);
    Ok(Routed { inbound, site, route })
}
