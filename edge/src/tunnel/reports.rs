//! Telling control about a tunnel: that it came, what it offers, that it went. Only the newest state matters.

use std::time::Duration;

use mezusphere_model::link::{ControlLink, LinkError, TunnelReport};
use tokio::sync::watch;

/// How long control may take for one report.
const REPORT_MAX: Duration = Duration::from_secs(5);

/// After a report that did not get through, the next try comes this much later.
const RETRY: Duration = Duration::from_secs(5);

/// Sends each new state, for ever. A state that is overtaken while control is away is never sent.
pub(super) async fn send(link: &dyn ControlLink, mut state: watch::Receiver<Option<TunnelReport>>) {
    loop {
        let report = state.borrow_and_update().clone();
        if let Some(report) = report
            && once(link, report).await == Err(LinkError::Away)
        {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                // A newer state is tried at once.
                changed = state.changed() => if changed.is_err() { return },
            }
            state.mark_changed();
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Sends one state, once.
pub(super) async fn once(link: &dyn ControlLink, report: TunnelReport) -> Result<(), LinkError> {
    let sent = tokio::time::timeout(REPORT_MAX, link.tunnel(report)).await;
    match sent.unwrap_or(Err(LinkError::Away)) {
        Err(LinkError::Refused(why)) => {
            tracing::warn!(why, "Control does not want to know of a tunnel");
            Err(LinkError::Refused(why))
        }
        sent => sent,
    }
}
