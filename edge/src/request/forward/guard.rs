//! Keeps asking, while an exchange runs, whether its caller may still have it (R12).
//!
//! Asked at every piece of a body and once a second in between; costs a few loads while nothing has changed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::policy::{Circumstances, decide};
use mezusphere_model::route::{RouteDoc, Site};
use mezusphere_model::{Clock, Host};

use crate::view::View;
use crate::view::caller::Caller;

/// How often an exchange that stands still is looked at; sign-out is to act within 2 s (design §10).
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What an exchange's permission rests on. Each direction that runs by itself holds one.
#[derive(Clone)]
pub(crate) struct Guard {
    view: Arc<View>,
    clock: Clock,
    caller: Arc<Caller>,
    site: Arc<Site>,
    route: Arc<RouteDoc>,
    host: Host,
    client: IpAddr,
}

impl Guard {
    pub(super) fn new(
        view: &Arc<View>,
        clock: &Clock,
        caller: &Arc<Caller>,
        (site, route): (&Arc<Site>, &Arc<RouteDoc>),
        (host, client): (&Host, IpAddr),
    ) -> Self {
        Self {
            view: Arc::clone(view),
            clock: clock.clone(),
            caller: Arc::clone(caller),
            site: Arc::clone(site),
            route: Arc::clone(route),
            host: host.clone(),
            client,
        }
    }

    /// Whether nothing the caller was decoded from has changed; if something has, whether they still may. An edge that
    /// would not hear of a change any more lets nobody go on.
    pub(super) fn holds(&mut self) -> bool {
        if self.view.is_stale(self.site.doc.project) {
            return false;
        }
        if self.caller.is_unchanged() {
            return true;
        }
        let Some(caller) = self.view.again(&self.caller) else { return false };
        self.caller = caller;
        let circumstances = Circumstances { client: self.client, now: self.clock.now() };
        decide(&self.route, Some(&self.caller.identity), &circumstances).is_ok() && self.is_good()
    }

    /// The same, and the session's own time-outs. An exchange under way counts as being there.
    pub(super) fn holds_now(&mut self) -> bool {
        let good = self.holds() && self.is_good();
        if good {
            self.view.touch(&self.caller, self.clock.now());
        }
        good
    }

    fn is_good(&self) -> bool {
        let doc = &self.site.doc;
        self.caller.check(doc.project, doc.environment, &self.host, self.clock.now()).is_ok()
    }
}
