//! Looks for the records of claims whose time has come. One control node at a time is at it, so that the DNS is not asked twice.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_store::primary::host_claim::{self, ClaimRow};
use mezusphere_store::primary::lease;
use mezusphere_store::{StoreError, WriteError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Finding, Looker, Resolver, Settled, look, settle, wait};
use crate::Shared;
use crate::lease::Job;
use crate::problem::Refusal;

/// Between two looks at which claims are due: one row read.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Names asked for at once: what a small resolver answers without noticing.
pub(crate) const LOOKS_AT_ONCE: usize = 10;

/// Works until `cancel`.
pub(crate) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        tokio::select! {
            // A look may take seconds, and what it finds is found again.
            () = cancel.cancelled() => return,
            round = shared.look_for_claims() => {
                if let Err(why) = round {
                    tracing::warn!(error = %why.detail(), "Custom domains could not be looked after");
                }
            }
        }
    }
}

impl Shared {
    /// Looks once for every claim that is due. Says how many became hosts; 0 also if another control node is at it.
    pub(crate) async fn look_for_claims(&self) -> Result<usize, Refusal> {
        let due = self.primary.read(async |tx| host_claim::due(tx).await).await?;
        if due.is_empty() {
            return Ok(0);
        }
        let held = self.primary.write(async |tx| {
            let lease = self.take_lease(tx, Job::Domains).await?;
            // Looked at once more under the lease: whoever held it before may have settled them.
            let due = if lease.is_some() { host_claim::due(tx).await? } else { Vec::new() };
            Ok::<_, StoreError>(lease.zip(Some(due)))
        });
        let Some((lease, due)) = held.await? else { return Ok(0) };
        let looker = Looker { actor: self.config.node.id.to_string(), address: None };
        let mut added = 0;
        for batch in due.chunks(LOOKS_AT_ONCE) {
            for (claim, finding) in look_at(&self.resolver, batch).await {
                let settled = self.primary.write(async |tx| {
                    if !self.keep_lease(tx, &lease).await? {
                        return Ok(None);
                    }
                    settle(tx, self, &claim, &finding, &looker).await.map(Some)
                });
                match settled.await {
                    Ok(None) => return Ok(added),
                    Ok(Some(Settled::Host(row))) => {
                        added += 1;
                        tracing::info!(host = %row.host, project = %row.project, "A custom domain was proven and is published");
                    }
                    Ok(Some(Settled::Waits(_) | Settled::Gone)) => {}
                    // Such as an environment that is full: noted, so that its owner reads it, and the others have their turn.
                    Err(why) => self.note_trouble(&claim, &why).await?,
                }
            }
        }
        self.primary.write(async |tx| lease::release(tx, &lease).await).await?;
        Ok(added)
    }

    async fn note_trouble(&self, claim: &ClaimRow, why: &Refusal) -> Result<(), Refusal> {
        tracing::warn!(host = %claim.host, project = %claim.project, error = %why.detail(), "A custom domain could not be published");
        let noted = self.primary.write(async |tx| {
            host_claim::note(tx, claim.project, &claim.host, why.detail(), wait(claim.attempts)).await
        });
        match noted.await {
            // Withdrawn meanwhile.
            Ok(()) | Err(WriteError::NotFound { .. }) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }
}

/// Looks for several at once. Dropping it ends every look.
async fn look_at(resolver: &Resolver, claims: &[ClaimRow]) -> Vec<(ClaimRow, Finding)> {
    let mut looks = JoinSet::new();
    for claim in claims.iter().cloned() {
        let resolver = resolver.clone();
        looks.spawn(async move {
            let finding = look(&resolver, &claim).await;
            (claim, finding)
        });
    }
    let mut found = Vec::with_capacity(claims.len());
    while let Some(looked) = looks.join_next().await {
        match looked {
            Ok(looked) => found.push(looked),
            // One name must not keep the others from being looked for.
            Err(why) => tracing::error!(error = %why, "A look for a DNS record ended badly"),
        }
    }
    found
}
