//! What follows from a look at the DNS: a proven claim becomes a host, in one transaction with its certificate and its site; of
//! any other the look is noted.

use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::host::{self, HostKind, HostRow};
use mezusphere_store::primary::host_claim::{self, ClaimRow};
use mezusphere_store::primary::{Tx, project};

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
    let owner = host::find(tx, &claim.host).await?;
    let Some(of) = project::get(tx, claim.project).await? else { return Ok(Settled::Gone) };
    tx.confine(of.organization, Some(of.id)).await?;
    let known = host_claim::get(tx, claim.project, &claim.host).await?;
    // Withdrawn and made anew, it has another token, for which nobody has looked yet.
    let Some(known) = known.filter(|known| known.token == claim.token) else { return Ok(Settled::Gone) };
    if *finding == Finding::Proven && owner.is_none() {
        host_claim::delete(tx, known.project, &known.host).await?;
        let row = HostRow {
            host: known.host,
            project: known.project,
            environment: known.environment,
            kind: HostKind::Custom,
            created_at: tx.now(),
        };
        host::insert(tx, &row).await?;
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
        return Ok(Settled::Host(row));
    }
    let sentence = match owner {
        Some(_) if *finding == Finding::Proven => {
            "the record is right, but another project holds the host".to_owned()
        }
        _ => finding.sentence(&known),
    };
    host_claim::note(tx, known.project, &known.host, &sentence, wait(known.attempts)).await?;
    let noted = host_claim::get(tx, known.project, &known.host).await?;
    Ok(noted.map_or(Settled::Gone, Settled::Waits))
}
