//! Contests: a claim is proven to a host that another project holds. A domain may have changed hands, and then it is its new owner's;
//! or somebody may have got at its DNS for a moment, and then it stays the holder's, who has days to show a record again.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::id::ControlId;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::host::{self, HostKind, HostRow};
use mezusphere_store::primary::host_claim::{self, ClaimRow};
use mezusphere_store::primary::{Tx, project};
use serde_json::{Value, json};

use super::{Finding, token, value};
use crate::problem::Refusal;
use crate::{Shared, certificate};

/// How long every look must find the claim's record and not the holder's: over a weekend.
pub(crate) const CONTEST_TTL: Duration = Duration::from_hours(72);

/// How much longer than its contest a claim lives: for the look that ends it.
const CLAIM_BEYOND: Duration = Duration::from_hours(24);

/// Where a claim stands to a host that another project holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Contest {
    /// Nothing is proven, or the DNS told nothing.
    None,
    /// It is proven, and the holder's record is there too, or cannot be lost.
    Held,
    /// It is proven, and the holder's record is not there, since then.
    Since(Timestamp),
    /// The holder has lost the host, which is free now.
    Won,
}

/// When a contest that began then is over.
pub(crate) fn over_at(since: Timestamp) -> Timestamp {
    since.after(CONTEST_TTL)
}

/// What a look says about the contest for a host, written down. The transaction must not be confined.
pub(super) async fn settle(
    tx: &mut Tx,
    shared: &Shared,
    claim: &ClaimRow,
    holder: &HostRow,
    finding: &Finding,
) -> Result<Contest, Refusal> {
    let now = tx.now();
    let Finding::Proven { beside } = finding else {
        // A DNS that tells nothing says nothing about anybody's record either.
        if claim.contested_at.is_some() && !matches!(finding, Finding::Failed(_)) {
            host_claim::contest(tx, claim, None, now).await?;
        }
        return Ok(Contest::None);
    };
    if holder.kind == HostKind::Endpoint || holder.project == claim.project {
        return Ok(Contest::Held);
    }
    let known = host_claim::holder_token(tx, &holder.host).await?;
    if known.as_ref().is_some_and(|token| beside.contains(&value(token))) {
        if claim.contested_at.is_some() {
            host_claim::contest(tx, claim, None, now).await?;
        }
        return Ok(Contest::Held);
    }
    let Some(since) = claim.contested_at else {
        if known.is_none() {
            let token = token(&shared.entropy);
            host_claim::keep_holder_token(tx, holder.project, &holder.host, &token).await?;
        }
        host_claim::contest(tx, claim, Some(now), over_at(now).after(CLAIM_BEYOND)).await?;
        let until = over_at(now).to_string();
        tell(tx, shared.config.node.id, holder, "host.contest", json!({ "until": &until })).await?;
        tracing::warn!(host = %holder.host, holder = %holder.project, claimant = %claim.project, until, "A host is contested");
        return Ok(Contest::Since(now));
    };
    if now < over_at(since) {
        return Ok(Contest::Since(since));
    }
    host::delete(tx, holder.project, &holder.host).await?;
    certificate::remove_host(tx, holder.project, &holder.host)?;
    shared.publish_site(tx, holder.project, holder.environment).await?;
    let why = json!({ "environment": holder.environment, "lost_by": "dns" });
    tell(tx, shared.config.node.id, holder, "host.remove", why).await?;
    tracing::warn!(host = %holder.host, holder = %holder.project, claimant = %claim.project, "A contested host has another project now");
    Ok(Contest::Won)
}

/// Tells the holder, in the audit log of its own project.
async fn tell(
    tx: &mut Tx,
    node: ControlId,
    holder: &HostRow,
    action: &str,
    detail: Value,
) -> Result<(), Refusal> {
    if let Some(of) = project::get(tx, holder.project).await? {
        tx.audit(AuditEntry {
            organization: of.organization,
            project: Some(of.id),
            actor: node.to_string(),
            action: action.to_owned(),
            target: holder.host.to_string(),
            address: None,
            detail,
        });
    }
    Ok(())
}
