//! An edge alone: joins once, links to control, serves from its replica whether control answers or not.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_edge::PlatformHosts;
use mezusphere_edge::tunnel::Registry;
use mezusphere_edge_link::client::{ClientParts, EVICTED, LinkClient, LinkState};
use mezusphere_edge_link::join;
use mezusphere_model::document::{DocumentKey, NodeAddress, PlatformDoc};
use mezusphere_model::join_token::JoinToken;
use mezusphere_model::link::{AboutEdge, ControlLink};
use mezusphere_pki::{CurrentIdentity, NodeIdentity};
use mezusphere_store::Replica;
use mezusphere_store::feed::FeedSource;
use mezusphere_store::replica::Follower;
use mezusphere_telemetry::Condition;
use tokio::sync::watch;
use tracing::{info, warn};

use super::base::Base;
use super::config::EdgePart;
use super::edge::{EdgeSide, Home, Keeps, Upkeep, follow};
use super::identity::changed;
use super::joined::Membership;
use super::remembered::Remembering;
use super::returning::Returning;
use super::{DRAIN_GRACE, announce, bridge, ends, returning};
use crate::failure::{Failure, Kind};

/// How long a restarted edge waits for control before it serves what it has: fresh is better, serving is best.
const FRESH_WAIT: Duration = Duration::from_secs(2);

/// How long warpgates may take to find an edge that was started again (design §10).
const SETTLE_MAX: Duration = Duration::from_secs(6);

/// Between two looks whether a first copy is complete, and whether control has an answer for us at all.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Runs it until a signal ends it, or control says that it was evicted.
pub(crate) async fn serve(
    base: &Base,
    part: EdgePart,
    token: Option<JoinToken>,
    signals: &ends::Signals,
) -> Result<ExitCode, Failure> {
    let advertise = part.advertise.clone().ok_or_else(|| {
        Failure::new(Kind::Usage, "warpgates must know where to dial this edge")
            .next("give --advertise HOST:PORT")
    })?;
    let about = AboutEdge {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        region: base.region.clone(),
        host: advertise.host.clone(),
        port: advertise.port,
        draining: false,
    };
    let Some((membership, identity)) = member(base, token, about.clone(), signals).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let (membership, identity) = (Arc::new(membership), CurrentIdentity::new(identity));
    let trust = membership.current_trust()?;
    let (controls, known) = watch::channel(membership.controls());
    let link = LinkClient::start(ClientParts {
        edge: membership.edge(),
        controls: known,
        identity: identity.clone(),
        trust: trust.clone(),
        clock: base.clock.clone(),
        entropy: base.entropy.clone(),
    });
    let link = link.map_err(|why| Failure::new(Kind::Unexpected, why))?;
    watch_gauges(base, &link);
    let returning = Arc::new(Returning::new(
        Arc::clone(&membership),
        about,
        trust.clone(),
        (base.clock.clone(), base.entropy.clone()),
        link.connected(),
    ));
    let feed: Arc<dyn FeedSource> = Arc::clone(&link) as Arc<dyn FeedSource>;
    let (replica, follower) = follow(base, membership.edge(), feed)?;
    let control: Arc<dyn ControlLink> =
        Arc::new(Remembering::new(Arc::clone(&link) as Arc<dyn ControlLink>, Arc::clone(&replica)));
    let upkeep = Upkeep {
        identity: identity.clone(),
        trust: trust.clone(),
        link: Arc::clone(&control),
        replica: Arc::clone(&replica),
        keeps: Arc::clone(&membership) as Arc<dyn Keeps>,
        returning: Some(Arc::clone(&returning)),
    };
    let upkeep = upkeep.start(base);

    let platform = tokio::select! {
        platform = first_copy(&replica, &follower, &link, base.json) => platform?,
        failure = returning.refused() => return Err(failure),
        () = signals.first() => return Ok(ExitCode::SUCCESS),
    };
    let following = tokio::spawn(follow_platform(
        platform.clone(),
        Arc::clone(&replica),
        controls,
        Arc::clone(&membership),
    ));
    let runtime = tokio::runtime::Handle::current();
    let home = Home {
        id: membership.edge(),
        platform: platform.platform,
        link: control,
        hosts: PlatformHosts::Splice(Arc::new(bridge::Splices::new(Arc::clone(&link), runtime))),
        replica,
        follower,
        identity,
        enroll: None,
        trust,
        advertise,
        upkeep,
    };
    let edge = EdgeSide::start(base, &part, home)?;
    announce::started(
        &announce::Started {
            edge: Some(announce::Edge::of(&edge)),
            control: None,
            data: base.data.path().display().to_string(),
        },
        base.json,
    )?;
    let settling = tokio::spawn(settle(base.ready.clone(), Arc::clone(edge.listeners().tunnels())));

    let evicted = tokio::select! {
        () = signals.first() => None,
        failure = evicted(&link) => Some(failure),
        failure = returning.refused() => Some(failure),
    };
    settling.abort();
    base.ready.set(false);
    announce::draining(base.json)?;
    // Nobody may be served by an edge that was evicted.
    let grace = if evicted.is_some() { Duration::ZERO } else { DRAIN_GRACE };
    tokio::select! {
        () = edge.end(grace, &base.stop) => {}
        () = signals.second() => return Ok(ends::at_once()),
    }
    following.abort();
    evicted.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// This edge's membership: as kept, by coming back if the certificate has ended since, or by joining; `None`: a signal came.
async fn member(
    base: &Base,
    token: Option<JoinToken>,
    about: AboutEdge,
    signals: &ends::Signals,
) -> Result<Option<(Membership, NodeIdentity)>, Failure> {
    let path = base.data.membership();
    if let Some((membership, identity)) = Membership::load(path.clone(), Arc::clone(&base.seal))? {
        // A token that was used at the first start is still in the unit file; it must only not be another
        // installation's, whose root may be a newer one by now.
        if let Some(token) = &token
            && !membership.has_root(&token.root)
        {
            return Err(Failure::new(
                Kind::Conflict,
                "this data directory belongs to an edge of another installation",
            )
            .next("use another --data for the installation this join token is of"));
        }
        info!(edge = %membership.edge(), name = membership.name(), "This edge has joined before");
        if identity.not_after() > base.clock.now() {
            return Ok(Some((membership, identity)));
        }
        let asked = returning::at_start(identity, &membership, &about, &base.clock, (signals, base.json));
        return Ok(asked.await?.map(|fresh| (membership, fresh)));
    }
    let token = token.ok_or_else(|| {
        Failure::new(Kind::Usage, "this edge has not joined an installation yet")
            .next("on a control node: mezusphere edge invite NAME; then give the token with --join")
    })?;
    let joined = join::join(&token, about, &base.clock).await.map_err(|why| {
        let kind = match &why {
            join::JoinError::Unreached(_) | join::JoinError::NoAnswer { .. } => Kind::Unreachable,
            join::JoinError::Refused(_) => Kind::Refused,
            _ => Kind::Unexpected,
        };
        Failure::new(kind, &why).next(why.next()).code(why.code())
    })?;
    let membership = Membership::begin(path, Arc::clone(&base.seal), &joined, &token.root)?;
    info!(edge = %joined.edge, name = joined.name, "Joined");
    Ok(Some((membership, joined.identity)))
}

/// The platform document: at once if the replica has one from before, else once the first copy is complete.
async fn first_copy(
    replica: &Replica,
    follower: &Follower,
    link: &LinkClient,
    json: bool,
) -> Result<PlatformDoc, Failure> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Failure::new(Kind::Files, format!("the replica cannot be read: {why}"))
            .next("the replica folder can be deleted at any time: it is fetched anew")
    };
    if replica.platform().map_err(|why| unreadable(&why))?.is_some() {
        tokio::select! {
            // Out of time means that control is away: what is here is served.
            _ = tokio::time::timeout(FRESH_WAIT, follower.caught_up()) => {}
            failure = evicted(link) => return Err(failure),
        }
    } else {
        let mut state = link.connected();
        let mut told = String::new();
        loop {
            let problem = match &*state.borrow_and_update() {
                LinkState::Away(problem) => Some(problem.clone()),
                LinkState::Connecting | LinkState::Connected { .. } => None,
            };
            if let Some(problem) = problem.filter(|problem| problem.message != told) {
                announce::waiting(&problem.message, json)?;
                told = problem.message;
            }
            tokio::select! {
                () = follower.caught_up() => break,
                failure = evicted(link) => return Err(failure),
                Ok(()) = state.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }
    let platform = replica.platform().map_err(|why| unreadable(&why))?;
    platform.ok_or_else(|| {
        Failure::new(Kind::Unexpected, "control has published no platform document")
            .next("check that edge and control are of one version")
    })
}

/// Says that this edge serves once warpgates have found it, so that a load balancer sends nobody to an edge that was only just
/// started; without any, after the time in which they would have.
async fn settle(ready: Condition, tunnels: Arc<Registry>) {
    let found = async {
        while tunnels.is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    drop(tokio::time::timeout(SETTLE_MAX, found).await);
    ready.set(true);
}

/// Resolves when control says that this edge was evicted.
async fn evicted(link: &LinkClient) -> Failure {
    let mut state = link.connected();
    loop {
        if let LinkState::Away(problem) = &*state.borrow_and_update()
            && problem.code == EVICTED
        {
            return Failure::new(Kind::Refused, &problem.message).next(problem.next).code(problem.code);
        }
        if state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps the list of control nodes current, and says when the platform itself has moved.
async fn follow_platform(
    started_with: PlatformDoc,
    replica: Arc<Replica>,
    controls: watch::Sender<Vec<NodeAddress>>,
    membership: Arc<Membership>,
) {
    let key = DocumentKey::platform();
    let mut changes = replica.subscribe();
    loop {
        match replica.platform() {
            Ok(Some(doc)) => {
                // An empty list would cut the edge off for good.
                if !doc.controls.is_empty() && *controls.borrow() != doc.controls {
                    membership.keep_controls(doc.controls.clone());
                    controls.send_replace(doc.controls);
                }
                if doc.platform != started_with.platform {
                    warn!("The installation's domains or port have changed; restart this edge to serve them");
                }
            }
            Ok(None) => {}
            Err(error) => warn!(%error, "The platform document cannot be read"),
        }
        if !changed(&mut changes, &key).await {
            return;
        }
    }
}

fn watch_gauges(base: &Base, link: &Arc<LinkClient>) {
    let (state, counted) = (link.connected(), Arc::clone(link));
    base.metrics.gauge_from("control_connected", "Whether a control node answers this edge", move || {
        i64::from(state.borrow().is_connected())
    });
    base.metrics.gauge_from("control_unanswered", "Questions no control node answered", move || {
        i64::try_from(counted.counts().unanswered).unwrap_or(i64::MAX)
    });
}
