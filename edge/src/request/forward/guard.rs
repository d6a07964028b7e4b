//! Keeps asking, while an exchange runs, whether it may still be had (R12).
//!
//! Asked at every piece of a body and once a second in between; costs a few loads while nothing has changed. An exchange
//! goes on only while its route is still published under its host, and the same request would be let through now: by
//! whichever route it would be for, with its caller as they are now. That holds for public routes too. Two things are
//! judged as of the exchange's beginning and not again: how long ago its caller signed in (a route that wants a fresh sign-in
//! wants it of requests, and a stream that began with one goes on), and where its client is.
//!
//! An exchange under way counts as its session being used, so idleness never ends one; the session's absolute end does.

use std::future::Future as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::Method;
use mezusphere_model::id::RouteId;
use mezusphere_model::path::RequestPath;
use mezusphere_model::policy::{Circumstances, Denial, decide};
use mezusphere_model::route::{RouteDoc, Site};
use mezusphere_model::{Clock, Host, Timestamp};
use tokio::time::{Instant, Sleep};

use crate::http::Hold;
use crate::request::refusal::Refusal;
use crate::view::View;
use crate::view::caller::Caller;

/// How often an exchange that stands still is looked at; sign-out is to act within 2 s (design §10).
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a WebSocket may take to be closed in order: for the frame at hand to end, and then for its client to answer.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Why an exchange may not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Over {
    /// Its session or key has ended, or its account may not act.
    #[error("the session has ended")]
    Session,
    /// Its caller may not have it any more.
    #[error("not permitted any more: {0}")]
    Access(Denial),
    /// Its route is gone, or its path leads nowhere any more.
    #[error("the route is gone")]
    Route,
    /// The edge would not hear of the end of anything any more.
    #[error("the edge has had no contact for too long")]
    Stale,
}

impl Over {
    /// How a WebSocket is told: its close code (RFC 6455 §7.4.2: from 4000 on they are anybody's) and reason.
    pub(super) fn close(&self) -> (u16, &'static str) {
        match self {
            Self::Session => (4401, "session ended"),
            Self::Access(Denial::SignInRequired) => (4401, "sign-in required"),
            Self::Access(_) => (4403, "not permitted any more"),
            Self::Route => (4404, "not served any more"),
            // Registered for a server that cannot go on for a while.
            Self::Stale => (1013, "try again later"),
        }
    }
}

/// What does not change about a request.
struct Ground {
    view: Arc<View>,
    clock: Clock,
    host: Host,
    path: RequestPath,
    method: Method,
    client: IpAddr,
    /// The route it was let through on.
    route: RouteId,
    began: Timestamp,
}

/// What an exchange's permission rests on. Each direction that runs by itself holds one.
#[derive(Clone)]
pub(crate) struct Guard {
    ground: Arc<Ground>,
    /// `None`: it was let through as nobody's.
    caller: Option<Arc<Caller>>,
    site: Arc<Site>,
    route: Arc<RouteDoc>,
    /// Which table of sites it was last compared with.
    generation: Option<u64>,
    look_at: Instant,
}

impl Guard {
    /// The guard of a request that was let through on `route` of `site`, as `caller`'s if it is anybody's.
    pub(super) fn new(
        (view, clock): (&Arc<View>, &Clock),
        caller: Option<&Arc<Caller>>,
        (site, route): (&Arc<Site>, &Arc<RouteDoc>),
        (host, path): (Host, RequestPath),
        (method, client): (&Method, IpAddr),
    ) -> Self {
        let ground = Ground {
            view: Arc::clone(view),
            clock: clock.clone(),
            host,
            path,
            method: method.clone(),
            client,
            route: route.id,
            began: clock.now(),
        };
        Self {
            ground: Arc::new(ground),
            caller: caller.map(Arc::clone),
            site: Arc::clone(site),
            route: Arc::clone(route),
            // The table may have changed since the route was found.
            generation: None,
            look_at: Instant::now() + LOOK_EVERY,
        }
    }

    /// Whether the exchange may go on at `now`. Cheap enough for every piece: looks whether anything has changed, and once a
    /// second at the session's time.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Over> {
        if now >= self.look_at { self.look(now) } else { self.check_changes() }
    }

    /// The same with the session's time, whatever was looked at before.
    pub(super) fn look(&mut self, now: Instant) -> Result<(), Over> {
        self.look_at = now + LOOK_EVERY;
        self.check_changes()?;
        self.is_in_time()?;
        if let Some(caller) = &self.caller {
            self.ground.view.touch(caller, self.ground.clock.now());
        }
        Ok(())
    }

    /// When to look next if nothing moves.
    pub(super) fn look_at(&self) -> Instant {
        self.look_at
    }

    /// What a client is told that has not had an answer yet.
    pub(super) fn refusal(&self, over: Over) -> Refusal {
        match (over, &self.caller) {
            (Over::Access(denial), caller) => {
                Refusal::Denied(denial, caller.as_ref().map(|caller| caller.account().into()))
            }
            (Over::Session, _) => Refusal::ControlRefused,
            (Over::Route, _) => Refusal::NoRoute,
            (Over::Stale, _) => Refusal::Stale,
        }
    }

    fn check_changes(&mut self) -> Result<(), Over> {
        let view = &self.ground.view;
        let is_somebodys = self.caller.is_some();
        // An edge that would not hear of a change any more lets nobody go on.
        if is_somebodys && view.is_stale(self.site.doc.project) {
            return Err(Over::Stale);
        }
        let generation = view.sites_generation();
        let is_unchanged = self.caller.as_ref().is_none_or(|caller| caller.is_unchanged());
        if is_unchanged && self.generation == Some(generation) {
            return Ok(());
        }
        self.decide_again(generation)
    }

    /// Something has changed: decides as if the request came now.
    fn decide_again(&mut self, generation: u64) -> Result<(), Over> {
        let ground = &self.ground;
        let site = ground.view.sites().find(ground.host.as_str()).cloned().ok_or(Over::Route)?;
        let is_same_site = Arc::ptr_eq(&site, &self.site);
        self.generation = Some(generation);
        if !is_same_site {
            // A host may change hands, and a route its path, its demands, and whether it is there at all.
            let is_there =
                site.doc.environment == self.site.doc.environment && site.route(ground.route).is_some();
            let found = site.find(&ground.path, ground.method.as_str());
            self.route = Arc::clone(found.ok().filter(|_| is_there).ok_or(Over::Route)?);
            self.site = site;
        }
        let mut is_same_caller = true;
        if let Some(caller) = &self.caller
            && !caller.is_unchanged()
        {
            is_same_caller = false;
            self.caller = Some(ground.view.again(caller).ok_or(Over::Session)?);
        }
        if is_same_site && is_same_caller {
            return Ok(());
        }
        let identity = self.caller.as_ref().map(|caller| &caller.identity);
        let circumstances = Circumstances { client: ground.client, now: ground.began };
        decide(&self.route, identity, &circumstances).map(drop).map_err(Over::Access)?;
        self.is_in_time()
    }

    fn is_in_time(&self) -> Result<(), Over> {
        let (doc, ground) = (&self.site.doc, &self.ground);
        let Some(caller) = &self.caller else { return Ok(()) };
        let good = caller.check(doc.project, doc.environment, &ground.host, ground.clock.now());
        good.map_err(|_| Over::Session)
    }
}

/// Ends a response whose client does not take it.
pub(super) struct Stalled {
    guard: Guard,
    /// How long it may still take once it must end.
    grace: Duration,
    over: bool,
    timer: Pin<Box<Sleep>>,
}

impl Stalled {
    /// Asks `guard`, and leaves a client `grace` to take what is at hand.
    pub(super) fn new(guard: Guard, grace: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(guard.look_at()));
        Self { guard, grace, over: false, timer }
    }
}

impl Hold for Stalled {
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.over {
                return Poll::Ready(());
            }
            let now = Instant::now();
            let next = match self.guard.look(now) {
                Ok(()) => now + LOOK_EVERY,
                Err(_) if self.grace.is_zero() => return Poll::Ready(()),
                Err(_) => {
                    self.over = true;
                    now + self.grace
                }
            };
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }
}
