//! What control does without being asked, as long as whoever holds [`Jobs`] lets it: work that comes due ([`work`]),
//! following what other control nodes changed ([`follow`]), writing accounts' histories
//! ([`history`]), replacing the CA ([`crate::ca`]), sending mail ([`crate::mail`]), making the keys that sign assertions
//! follow one another ([`crate::keys`]), looking for the proofs of custom domains ([`crate::domain`]), and ordering public
//! certificates ([`crate::acme`]).

mod follow;
mod history;
mod people;
mod work;

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Shared, acme, ca, certificate_files, domain, keys, mail};

/// The running jobs. Ends them when dropped; [`Jobs::stop`] also waits for the one at work.
#[derive(Debug)]
pub struct Jobs {
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Jobs {
    /// Starts them on the current runtime.
    pub(crate) fn start(shared: &Arc<Shared>) -> Self {
        let cancel = CancellationToken::new();
        let tasks = vec![
            tokio::spawn(work::run(Arc::clone(shared), cancel.clone())),
            tokio::spawn(follow::run(Arc::clone(shared), cancel.clone())),
            tokio::spawn(history::run(Arc::clone(shared), cancel.clone())),
            tokio::spawn(mail::run(Arc::clone(shared), cancel.clone())),
            tokio::spawn(certificate_files::run(Arc::clone(shared), cancel.clone())),
            tokio::spawn(ca::run::run(Arc::clone(shared), cancel.clone())),
            tokio::spawn(keys::run::run(Arc::clone(shared), cancel.clone())),
            tokio::spawn(domain::run(Arc::clone(shared), cancel.clone())),
            tokio::spawn(acme::run(Arc::clone(shared), cancel.clone())),
        ];
        Self { cancel, tasks }
    }

    /// Ends them and waits until the one at work is done.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        for task in self.tasks.drain(..) {
            if let Err(why) = task.await {
                tracing::error!(error = %why, "Control's jobs ended badly");
            }
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
