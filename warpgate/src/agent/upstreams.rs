//! Tells when requests no longer reach an upstream, when they do again, and when one answers what no client may see:
//! whoever looks at an error page in a browser should find the reason in the terminal.

use std::convert::Infallible;

use futures_util::future::join_all;
use mezusphere_model::slug::Slug;

use crate::exchange::{Trouble, Upstream, keep_checking};
use crate::output::Event;
use crate::tunnel::Shared;

/// Keeps the health of the upstreams known, and tells their troubles, for as long as it is polled.
pub(super) async fn keep_watch(shared: &Shared) -> Infallible {
    tokio::select! {
        never = keep_checking(&shared.gate) => never,
        never = tell_troubles(shared) => never,
    }
}

async fn tell_troubles(shared: &Shared) -> Infallible {
    let mut offered = shared.gate.offered();
    loop {
        offered.mark_unchanged();
        let upstreams = shared.gate.upstreams();
        let following = upstreams.iter().map(|(name, upstream)| follow(shared, name, upstream));
        tokio::select! {
            // Each of them goes on for as long as its upstream is there, and the list above keeps them all.
            _ = join_all(following) => {}
            // Others are declared; the sender lives in the gate.
            _ = offered.changed() => {}
        }
    }
}

async fn follow(shared: &Shared, name: &Slug, upstream: &Upstream) -> Infallible {
    let (mut troubles, mut complaints) = (upstream.trouble(), upstream.complaints());
    let (kind, target) = (format!("upstream {name}"), upstream.target().to_string());
    loop {
        // The senders live in the upstream.
        let trouble = tokio::select! {
            _ = troubles.changed() => troubles.borrow_and_update().clone(),
            _ = complaints.changed() => {
                let (_, last) = complaints.borrow_and_update().clone();
                if let Some(trouble) = last {
                    tell(shared, &format!("answers of {kind}"), name, &target, trouble);
                }
                continue;
            }
        };
        if let Some(trouble) = trouble {
            if !trouble.is_quiet {
                tell(shared, &kind, name, &target, trouble);
            }
        } else {
            shared.reporter.works(&kind);
            shared.reporter.tell(Event::UpstreamBack { upstream: name.to_string(), target: target.clone() });
        }
    }
}

fn tell(shared: &Shared, kind: &str, name: &Slug, target: &str, trouble: Trouble) {
    let Trouble { code, detail, .. } = trouble;
    shared.reporter.tell_failure(kind, |repeats| Event::UpstreamLost {
        upstream: name.to_string(),
        target: target.to_owned(),
        code: code.name(),
        message: detail.split(" (os error").next().unwrap_or(&detail).to_owned(),
        repeats,
    });
}
