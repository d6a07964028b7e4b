//! Reads the settings again when asked (SIGHUP) and puts in force what can change while requests run.

use std::convert::Infallible;
use std::sync::Arc;

use mezusphere_telemetry::LogLevel;
use tokio::sync::watch;

use crate::config::{Settings, Shown, name};
use crate::local::View;
use crate::notify::Notify;
use crate::output::{Event, Reporter};
use crate::tunnel::Shared;

/// What is logged if nobody asks for anything.
pub const NO_LOG: &str = "off";

/// Settings that change without a restart.
const LIVE: [&str; 7] = [
    name::UPSTREAM,
    name::UPSTREAM_CA,
    name::UPSTREAM_PIN,
    name::UPSTREAM_SERVER_NAME,
    name::UPSTREAM_PROTOCOL,
    name::HEALTH_CHECK,
    name::LOG,
];

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// A sentence.
    pub message: String,
    /// What to do.
    pub next: String,
}

/// How settings are read again.
pub struct Reload {
    /// Grows with each request to do so.
    pub asked: watch::Receiver<u32>,
    /// Reads them: the same flags, and the file as it is now. May block.
    pub again: Arc<dyn Fn() -> Result<Settings, Unusable> + Send + Sync>,
    /// What is logged, if that can be changed.
    pub log: Option<LogLevel>,
}

/// What a reload works on.
pub(super) struct Reloading<'a> {
    pub(super) reload: Option<Reload>,
    pub(super) shown: Vec<Shown>,
    pub(super) shared: &'a Shared,
    pub(super) view: &'a View,
    pub(super) notify: &'a Notify,
    pub(super) reporter: &'a Reporter,
}

impl Reloading<'_> {
    /// Reloads whenever asked, for as long as it is polled.
    pub(super) async fn follow(mut self) -> Infallible {
        let Some(mut reload) = self.reload.take() else { return std::future::pending().await };
        while reload.asked.changed().await.is_ok() {
            reload.asked.mark_unchanged();
            self.notify.reloading();
            let again = Arc::clone(&reload.again);
            // A slow disk must not stop traffic.
            #[expect(
                clippy::disallowed_methods,
                reason = "the runtime's pool has BLOCKING_THREADS_MAX threads"
            )]
            let read = tokio::task::spawn_blocking(move || again()).await;
            match read {
                Ok(Ok(settings)) => self.adopt(settings, reload.log.as_ref()),
                Ok(Err(Unusable { message, next })) => {
                    self.reporter.tell(Event::ReloadFailed { message, next });
                }
                Err(why) => self.reporter.tell(Event::ReloadFailed {
                    message: why.to_string(),
                    next: "this is a fault of warpgate; please report it".to_owned(),
                }),
            }
            self.notify.ready();
        }
        std::future::pending().await
    }

    fn adopt(&mut self, settings: Settings, log: Option<&LogLevel>) {
        if let Some(log) = log
            && let Err(why) = log.set(settings.log.as_deref().unwrap_or(NO_LOG))
        {
            let next = "use a level: log = \"debug\"".to_owned();
            self.reporter.tell(Event::ReloadFailed { message: why.to_string(), next });
            return;
        }
        let is_other = *self.shared.gate.declared() != settings.upstreams;
        let differs = |row: &&Shown| {
            !self.shown.iter().any(|before| before.name == row.name && before.value == row.value)
        };
        let mut changed: Vec<String> =
            settings.shown.iter().filter(differs).map(|row| row.name.clone()).collect();
        if is_other && !changed.iter().any(|name| LIVE.contains(&name.as_str())) {
            // The same file name, and other certificates in it.
            changed.push(name::UPSTREAM_CA.to_owned());
        }
        let restart: Vec<String> =
            changed.iter().filter(|name| !LIVE.contains(&name.as_str())).cloned().collect();
        if is_other {
            self.shared.gate.redeclare(settings.upstreams);
        }
        // What needs a restart is shown as it is in force.
        for row in settings.shown {
            if let Some(shown) =
                self.shown.iter_mut().find(|shown| shown.name == row.name && !restart.contains(&row.name))
            {
                *shown = row;
            }
        }
        self.view.reloaded(self.shown.clone());
        self.reporter.tell(Event::Reloaded { changed, restart });
    }
}
