//! Hosts an environment answers on: its endpoint, and the customer's own domains, which are claimed first and published
//! once they are proven ([`crate::domain`]).

use mezusphere_model::Host as HostName;
use mezusphere_store::WriteError;
use mezusphere_store::primary::host::{self, HostKind, HostRow};
use mezusphere_store::primary::host_claim::{self, ClaimRow, ContestRow};
use mezusphere_store::primary::{ReadTx, Taken, Tx};

use super::{certificate as certificates, scope};
use crate::Shared;
use crate::api::types::{AddHost, Host, HostContest, HostState, HostVerification, Page};
use crate::caller::{Caller, Permission};
use crate::certificate;
use crate::domain::{self, Finding, Looker, Settled};
use crate::problem::{self, Refusal};

async fn view(tx: &mut ReadTx, shared: &Shared, row: &HostRow) -> Result<Host, Refusal> {
    Ok(Host {
        host: row.host.to_string(),
        endpoint: row.kind == HostKind::Endpoint,
        state: HostState::Published,
        certificate: certificates::of_host(tx, shared, row).await?,
        contest: None,
        verification: None,
        created_at: row.created_at.to_string(),
    })
}

fn claimed(row: &ClaimRow) -> Host {
    Host {
        host: row.host.to_string(),
        endpoint: false,
        state: HostState::Pending,
        certificate: None,
        contest: None,
        verification: Some(HostVerification {
            record: domain::record(&row.host),
            kind: "TXT".to_owned(),
            value: domain::value(&row.token),
            attempts: row.attempts,
            checked_at: row.checked_at.map(|at| at.to_string()),
            error: row.error.clone(),
            next_at: row.next_at.to_string(),
            until: row.expires_at.to_string(),
        }),
        created_at: row.created_at.to_string(),
    }
}

/// What a project must show to keep a host.
fn contested(row: &ContestRow) -> Option<HostContest> {
    Some(HostContest {
        record: domain::record(&row.host),
        kind: "TXT".to_owned(),
        value: domain::value(row.token.as_deref()?),
        since: row.since.to_string(),
        until: domain::over_at(row.since).to_string(),
    })
}

/// An environment's hosts: the endpoint first, those that wait for their proof last. There are few, so they come in one page.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
) -> Result<Page<Host>, Refusal> {
    let grant = caller.allow(Permission::ProjectsRead)?;
    shared
        .primary
        .read(async |tx| {
            // Before the transaction sees one tenant alone: who contests a host is another one.
            let contests = host_claim::contests(tx).await?;
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let mut items = Vec::new();
            for row in host::list(tx, project.id, environment.id).await? {
                let contest = contests.iter().find(|it| it.host == row.host && it.holder == project.id);
                items.push(Host { contest: contest.and_then(contested), ..view(tx, shared, &row).await? });
            }
            items.extend(host_claim::list(tx, project.id, environment.id).await?.iter().map(claimed));
            Ok(Page { items, next: None })
        })
        .await
}

/// Adds a custom domain: published at once if it needs no proof, else a claim that says what to publish in its DNS.
pub(crate) async fn add(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    request: &AddHost,
) -> Result<Host, Refusal> {
    let grant = caller.allow(Permission::EnvironmentsWrite)?;
    let name = allowed(shared, &request.host)?;
    shared
        .primary
        .write(async |tx| {
            // Before the transaction sees one tenant alone: the host may be another one's.
            let holder = host::find(tx, &name).await?;
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            // A domain may have changed hands: whoever proves it may have another project's host in the end.
            let may_change_hands = |row: &HostRow| {
                row.kind == HostKind::Custom
                    && row.project != project.id
                    && domain::needs_proof(shared, &name)
            };
            if holder.is_some_and(|row| !may_change_hands(&row)) {
                return Err(WriteError::Conflict { what: Taken::Host }.into());
            }
            let detail = serde_json::json!({ "environment": environment.slug });
            if domain::needs_proof(shared, &name) {
                if let Some(known) = host_claim::get(tx, project.id, &name).await? {
                    if known.environment == environment.id {
                        // Asked again, to read the record again.
                        return Ok(claimed(&known));
                    }
                    let detail =
                        format!("another environment of {} waits for the proof of {name}", project.slug);
                    return Err(
                        Refusal::new(&problem::EXISTS, detail).with_next("remove the host there first")
                    );
                }
                let now = tx.now();
                let row = ClaimRow {
                    host: name,
                    project: project.id,
                    environment: environment.id,
                    token: domain::token(&shared.entropy),
                    attempts: 0,
                    error: None,
                    checked_at: None,
                    next_at: now.after(domain::FIRST_LOOK),
                    created_at: now,
                    expires_at: now.after(domain::CLAIM_TTL),
                    contested_at: None,
                };
                host_claim::insert(tx, &row).await?;
                scope::audit(tx, &grant, &project, "host.claim", &row.host, detail);
                return Ok(claimed(&row));
            }
            let row = HostRow {
                host: name,
                project: project.id,
                environment: environment.id,
                kind: HostKind::Custom,
                created_at: tx.now(),
            };
            forget_claim(tx, &row).await?;
            host::insert(tx, &row).await?;
            certificate::add_host(tx, shared, project.id, &row.host).await?;
            shared.publish_site(tx, project.id, environment.id).await?;
            scope::audit(tx, &grant, &project, "host.add", &row.host, detail);
            view(tx, shared, &row).await
        })
        .await
}

/// A claim made while proofs were asked for has no use once they are not.
async fn forget_claim(tx: &mut Tx, row: &HostRow) -> Result<(), WriteError> {
    match host_claim::get(tx, row.project, &row.host).await? {
        Some(_) => host_claim::delete(tx, row.project, &row.host).await,
        None => Ok(()),
    }
}

/// Looks for a claim's record now; the host is published if it is there.
pub(crate) async fn verify(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    name: &str,
) -> Result<Host, Refusal> {
    let grant = caller.allow(Permission::EnvironmentsWrite)?;
    let missing = || scope::not_found("host", name);
    let parsed = HostName::parse(name).map_err(|_| missing())?;
    let found = shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let rows = host::list(tx, project.id, environment.id).await?;
            if let Some(row) = rows.iter().find(|row| row.host == parsed) {
                return view(tx, shared, row).await.map(Err);
            }
            let claim = host_claim::get(tx, project.id, &parsed).await?;
            let claim = claim.filter(|claim| claim.environment == environment.id);
            claim.map(Ok).ok_or_else(missing)
        })
        .await?;
    let claim = match found {
        Ok(claim) => claim,
        // It is published already.
        Err(host) => return Ok(host),
    };
    let finding = {
        let turn = shared.looking.take(claim.project).await;
        let _turn = turn.map_err(|why| {
            let next = "try again in a few seconds; the record is also looked for by itself";
            Refusal::new(&problem::BUSY, why.to_string()).with_next(next)
        })?;
        domain::look(&shared.resolver, &claim).await
    };
    let looker = Looker {
        actor: grant.actor().to_owned(),
        address: grant.address().map(|address| address.to_string()),
    };
    let settled = shared
        .primary
        .write(async |tx| match domain::settle(tx, shared, &claim, &finding, &looker).await? {
            Settled::Host(row) => view(tx, shared, &row).await.map(Ok),
            other => Ok(Err(other)),
        })
        .await?;
    match (settled, finding) {
        (Ok(host), _) => Ok(host),
        (Err(Settled::Gone), _) => Err(missing()),
        (Err(_), Finding::Failed(why)) => {
            Err(Refusal::new(&problem::DNS_FAILED, format!("{}: {why}", domain::record(&claim.host))))
        }
        (Err(waits), Finding::Proven { .. }) => {
            let detail = format!("the record is right, but another project holds {}", claim.host);
            let next = match waits {
                Settled::Waits(ClaimRow { contested_at: Some(since), .. }) => format!(
                    "leave the record in place: unless that project shows its own, the host is yours from {}",
                    domain::over_at(since)
                ),
                _ => "its owner removes it there; ask the operators of the installation".to_owned(),
            };
            Err(Refusal::new(&problem::EXISTS, detail).with_next(next))
        }
        (Err(_), finding) => {
            let next = format!(
                "publish {} TXT {:?} in the domain's DNS and try again; changes take minutes to spread",
                domain::record(&claim.host),
                domain::value(&claim.token)
            );
            Err(Refusal::new(&problem::HOST_UNPROVEN, finding.sentence(&claim)).with_next(next))
        }
    }
}

/// Reads a custom domain; names that belong to the platform are not for tenants.
fn allowed(shared: &Shared, text: &str) -> Result<HostName, Refusal> {
    let name =
        HostName::parse(text).map_err(|why| Refusal::new(&problem::HOST_INVALID, format!("host: {why}")))?;
    let platform = &shared.config.platform;
    let ours = |domain: &HostName| name == *domain || name.is_below(domain);
    if ours(&platform.base) || ours(&platform.apps) {
        let detail = format!("{name} lies in a domain of the platform");
        let next = "its endpoint is there already; give a domain of your own";
        return Err(Refusal::new(&problem::HOST_INVALID, detail).with_next(next));
    }
    if !name.as_str().contains('.') {
        let detail = format!("{name} is not a full host name");
        return Err(Refusal::new(&problem::HOST_INVALID, detail));
    }
    Ok(name)
}

/// Removes a custom domain, or withdraws the claim to one.
pub(crate) async fn remove(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    name: &str,
) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::EnvironmentsWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let detail = serde_json::json!({ "environment": environment.slug });
            let rows = host::list(tx, project.id, environment.id).await?;
            let Some(row) = rows.iter().find(|row| row.host.as_str() == name) else {
                let claims = host_claim::list(tx, project.id, environment.id).await?;
                let claim = claims.iter().find(|claim| claim.host.as_str() == name);
                let claim = claim.ok_or_else(|| scope::not_found("host", name))?;
                host_claim::delete(tx, project.id, &claim.host).await?;
                scope::audit(tx, &grant, &project, "host.unclaim", &claim.host, detail);
                return Ok(());
            };
            if row.kind == HostKind::Endpoint {
                let detail = "an environment keeps its endpoint";
                return Err(
                    Refusal::new(&problem::IN_USE, detail).with_next("delete the environment instead")
                );
            }
            host::delete(tx, project.id, &row.host).await?;
            certificate::remove_host(tx, project.id, &row.host)?;
            shared.publish_site(tx, project.id, environment.id).await?;
            scope::audit(tx, &grant, &project, "host.remove", &row.host, detail);
            Ok(())
        })
        .await
}
