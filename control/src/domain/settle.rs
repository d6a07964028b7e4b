//! What follows from a look at the DNS: a proven claim becomes a host, in one transaction with its certificate and its site; of
//! any other the look is noted. What becomes of a host that another project holds is [`super::contest`]'s.

use mezusphere_store::primary::Tx;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::host::{self, HostKind, HostRow};
use mezusphere_store::primary::host_claim::{self, ClaimRow};
use mezusphere_store::primary::project::{self, ProjectRow};

use super::contest::{self, Contest};
use super::{Finding, wait};
use crate::problem::Refusal;
use crate::{Shared, certificate};

/// Who looked.
#[derive(Clone, Debug)]
pub(crate) struct Looker {
    /// As the audit log names them.
    pub(crate) actor: String,
    /// From where.
    pub(crate) address: Option<String>,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is a host now.
    Host(HostRow),
    /// It goes on waiting, with the look noted.
    Waits(ClaimRow),
    /// It was withdrawn meanwhile, or is over.
    Gone,
}

/// Settles a claim. The transaction must not be confined yet: a host may be another tenant's.
pub(crate) async fn settle(
    tx: &mut Tx,
    shared: &Shared,
    claim: &ClaimRow,
    finding: &Finding,
    looker: &Looker,
) -> Result<Settled, Refusal> {
    let holder = host::find(tx, &claim.host).await?;
    let Some(of) = project::get(tx, claim.project).await? else { return Ok(Settled::Gone) };
    let known = host_claim::get(tx, claim.project, &claim.host).await?;
    // Withdrawn and made anew, it has another token, for which nobody has looked yet.
    let Some(known) = known.filter(|known| known.token == claim.token) else { return Ok(Settled::Gone) };
    // What becomes of a contest is written for both tenants, by a transaction that sees both.
    let contest = if let Some(holder) = &holder {
        Some(contest::settle(tx, shared, &known, holder, finding).await?)
    } else {
        tx.confine(of.organization, Some(of.id)).await?;
        None
    };
    let is_free = matches!(contest, None | Some(Contest::Won));
    if is_free && matches!(finding, Finding::Proven { .. }) {
        return publish(tx, shared, &of, known, looker).await.map(Settled::Host);
    }
    let sentence = match contest {
        Some(Contest::Held) => {
            "the record is right, but another project holds the host, and has not lost it".to_owned()
        }
        Some(Contest::Since(since)) => format!(
            "the record is right, but another project holds the host; unless it shows its own record, the host is yours from {}",
            contest::over_at(since)
        ),
        _ => finding.sentence(&known),
    };
    host_claim::note(tx, known.project, &known.host, &sentence, wait(known.attempts)).await?;
    let noted = host_claim::get(tx, known.project, &known.host).await?;
    Ok(noted.map_or(Settled::Gone, Settled::Waits))
}

/// Makes a host of a claim that was proven, and of which nobody holds the host.
async fn publish(
    tx: &mut Tx,
    shared: &Shared,
    of: &ProjectRow,
    claim: ClaimRow,
    looker: &Looker,
) -> Result<HostRow, Refusal> {
    host_claim::delete(tx, claim.project, &claim.host).await?;
    let row = HostRow {
        host: claim.host,
        project: claim.project,
        environment: claim.environment,
        kind: HostKind::Custom,
        created_at: tx.now(),
    };
    host::insert(tx, &row).await?;
    // Whoever leaves the record in place cannot lose the host to somebody who gets at the DNS too.
    host_claim::keep_holder_token(tx, row.project, &row.host, &claim.token).await?;
    certificate::add_host(tx, shared, row.project, &row.host).await?;
    shared.publish_site(tx, row.project, row.environment).await?;
    tx.audit(AuditEntry {
        organization: of.organization,
        project: Some(of.id),
        actor: looker.actor.clone(),
        action: "host.add".to_owned(),
        target: row.host.to_string(),
        address: looker.address.clone(),
        detail: serde_json::json!({ "environment": row.environment, "proven_by": "dns" }),
    });
    Ok(row)
}
