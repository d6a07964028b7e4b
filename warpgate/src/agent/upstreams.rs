//! Tells when requests no longer reach an upstream, and when they do again: whoever looks at an error page in a browser
//! should find the reason in the terminal.

use std::convert::Infallible;

use futures_util::future::join_all;
use mezusphere_model::slug::Slug;
use tokio::sync::watch;

use crate::exchange::{Trouble, Upstream};
use crate::output::Event;
use crate::tunnel::Shared;

/// Tells for as long as it is polled.
pub(super) async fn tell_troubles(shared: &Shared) -> Infallible {
    join_all(shared.gate.upstreams().map(|(name, upstream)| follow(shared, name, upstream))).await;
    // Each of them goes on for as long as its upstream is there, and the gate keeps them all.
    std::future::pending().await
}

async fn follow(shared: &Shared, name: &Slug, upstream: &Upstream) {
    let mut troubles: watch::Receiver<Option<Trouble>> = upstream.trouble();
    while troubles.changed().await.is_ok() {
        let trouble = troubles.borrow_and_update().clone();
        let (kind, target) = (format!("upstream {name}"), upstream.target().to_string());
        if let Some(Trouble { code, detail }) = trouble {
            shared.reporter.tell_failure(&kind, |repeats| Event::UpstreamLost {
                upstream: name.to_string(),
                target,
                code: code.name(),
                message: detail.split(" (os error").next().unwrap_or(&detail).to_owned(),
                repeats,
            });
        } else {
            shared.reporter.works(&kind);
            shared.reporter.tell(Event::UpstreamBack { upstream: name.to_string(), target });
        }
    }
}
