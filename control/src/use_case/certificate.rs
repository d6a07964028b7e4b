//! Public certificates as operators see them: which there are, where each comes from, what failed and what comes next, and trying
//! again now.

use mezusphere_model::Host;
use mezusphere_store::primary::acme::{self, CertificateRow};
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::certificate::{self as issued, IssuedRow};
use mezusphere_store::primary::host::HostRow;
use mezusphere_store::primary::{PageRequest, ReadTx};
use serde_json::json;

use super::{Paging, scope};
use crate::Shared;
use crate::acme::wanted::is_local;
use crate::api::types::{
    Certificate, CertificateError, CertificateEvent, CertificateSource, CertificateState, CertificateSummary,
    Page,
};
use crate::caller::{Caller, Permission};
use crate::certificate::{self, PublicCertificates, Published, renewed_at};
use crate::certificate_files::Trouble;
use crate::problem::{self, Refusal};

fn ordered(row: CertificateRow) -> Certificate {
    let used = row.certificate.as_ref();
    Certificate {
        name: row.name,
        names: row.names,
        source: CertificateSource::Acme,
        authority: Some(row.directory),
        project: row.project.map(|project| project.to_string()),
        state: match row.state {
            acme::CertificateState::Waiting => CertificateState::Waiting,
            acme::CertificateState::Ordering => CertificateState::Ordering,
            acme::CertificateState::Valid => CertificateState::Valid,
            acme::CertificateState::Failed => CertificateState::Failed,
        },
        not_before: used.map(|facts| facts.not_before.to_string()),
        not_after: used.map(|facts| facts.not_after.to_string()),
        renew_at: used.map(|facts| facts.renew_at.to_string()),
        attempts: row.attempts,
        next_at: Some(row.next_at.to_string()),
        error: row.error.map(|error| CertificateError {
            at: error.at.to_string(),
            code: error.code,
            detail: error.text,
            next: error.hint,
        }),
    }
}

fn of_installation(shared: &Shared, published: Published) -> Certificate {
    let source = if published.internal {
        CertificateSource::Internal
    } else if shared.certificates.is_ordered(&shared.config.platform, &published.filed_as) {
        CertificateSource::Acme
    } else {
        // Also one that goes on after the source was changed.
        CertificateSource::Files
    };
    let trouble = match &shared.certificates {
        PublicCertificates::Files(files) if source == CertificateSource::Files => {
            files.trouble_of(&published.filed_as)
        }
        _ => None,
    };
    let error = trouble.map(|trouble| CertificateError {
        at: trouble.since.to_string(),
        code: Trouble::CODE.to_owned(),
        detail: trouble.what,
        next: Trouble::NEXT.to_owned(),
    });
    Certificate {
        name: published.filed_as,
        names: published.names,
        source,
        authority: None,
        project: None,
        state: if error.is_some() { CertificateState::Failed } else { CertificateState::Valid },
        not_before: None,
        not_after: Some(published.not_after.to_string()),
        renew_at: published.internal.then(|| renewed_at(published.not_after).to_string()),
        attempts: 0,
        next_at: None,
        error,
    }
}

fn of_own_ca(row: IssuedRow) -> Certificate {
    Certificate {
        names: vec![row.name.clone()],
        name: row.name,
        source: CertificateSource::Internal,
        authority: None,
        project: row.project.map(|project| project.to_string()),
        state: CertificateState::Valid,
        not_before: Some(row.not_before.to_string()),
        not_after: Some(row.not_after.to_string()),
        renew_at: Some(renewed_at(row.not_after).to_string()),
        attempts: 0,
        next_at: None,
        error: None,
    }
}

fn summary(from: Certificate) -> CertificateSummary {
    CertificateSummary {
        name: from.name,
        source: from.source,
        state: from.state,
        not_after: from.not_after,
        next_at: from.next_at.or(from.renew_at),
        error: from.error,
    }
}

impl Shared {
    /// Whether a certificate of the internal CA for this name is shown: nothing better serves the host.
    fn is_own(&self, name: &str) -> bool {
        let is_ordered = matches!(self.certificates, PublicCertificates::Acme(_)) && !is_local(name);
        !is_ordered
            && Host::parse(name).is_ok_and(|host| !self.certificates.covers(&self.config.platform, &host))
    }
}

/// The certificate a host is served with, or will be.
pub(super) async fn of_host(
    tx: &mut ReadTx,
    shared: &Shared,
    row: &HostRow,
) -> Result<Option<CertificateSummary>, Refusal> {
    if let Some(row) = acme::get(tx, row.host.as_str()).await? {
        return Ok(Some(summary(ordered(row))));
    }
    let covering = |names: &[String]| mezusphere_pki::public::covers(names, &row.host);
    let shared_ones = certificate::published(tx).await?;
    if let Some(found) = shared_ones.into_iter().find(|published| covering(&published.names)) {
        return Ok(Some(summary(of_installation(shared, found))));
    }
    if shared.certificates.covers(&shared.config.platform, &row.host) {
        // An order of the installation's own, which a tenant's transaction does not see.
        return Ok(None);
    }
    let newest = issued::list_of(tx, row.host.as_str()).await?.into_iter().next();
    let newest = newest.filter(|row| shared.is_own(&row.name));
    Ok(newest.map(|row| summary(of_own_ca(row))))
}

/// All certificates, by name.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    paging: Paging,
) -> Result<Page<Certificate>, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    let page = PageRequest::from(paging);
    let after = page.after.clone().unwrap_or_default();
    let limit = page.limit.max(1);
    shared
        .primary
        .read(async |tx| {
            let orders = acme::list(tx, &page).await?;
            let own = issued::of_hosts(tx, &page).await?;
            let is_more = orders.next.is_some() || own.next.is_some();
            let mut items: Vec<_> = orders.rows.into_iter().map(ordered).collect();
            let known = certificate::published(tx).await?.into_iter().filter(|one| one.filed_as > after);
            items.extend(known.map(|one| of_installation(shared, one)));
            let own = own.rows.into_iter().filter(|row| shared.is_own(&row.name));
            items.extend(own.map(of_own_ca));
            items.sort_by(|one, other| (&one.name, one.source as u8).cmp(&(&other.name, other.source as u8)));
            // What was ordered takes the place of what the internal CA issued before.
            items.dedup_by(|next, kept| next.name == kept.name);
            let is_more = is_more || items.len() > limit;
            items.truncate(limit);
            let next = if is_more { items.last().map(|item| item.name.clone()) } else { None };
            Ok(Page { items, next })
        })
        .await
}

async fn find(tx: &mut ReadTx, shared: &Shared, name: &str) -> Result<Certificate, Refusal> {
    if let Some(row) = acme::get(tx, name).await? {
        return Ok(ordered(row));
    }
    let known = certificate::published(tx).await?;
    if let Some(one) = known.into_iter().find(|one| one.filed_as == name) {
        return Ok(of_installation(shared, one));
    }
    let own = issued::list_of(tx, name).await?.into_iter().next();
    let own = own.filter(|row| row.project.is_some() && shared.is_own(&row.name));
    own.map(of_own_ca).ok_or_else(|| scope::not_found("certificate", name))
}

/// One certificate, by its first name.
pub(crate) async fn show(shared: &Shared, caller: &Caller, name: &str) -> Result<Certificate, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    shared.primary.read(async |tx| find(tx, shared, name).await).await
}

/// A certificate's time-line, oldest first. It is short, so it comes in one page.
pub(crate) async fn events(
    shared: &Shared,
    caller: &Caller,
    name: &str,
) -> Result<Page<CertificateEvent>, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    shared
        .primary
        .read(async |tx| {
            find(tx, shared, name).await?;
            let rows = acme::events(tx, name).await?.into_iter();
            let items =
                rows.map(|row| CertificateEvent { at: row.at.to_string(), kind: row.kind, text: row.text });
            Ok(Page { items: items.collect(), next: None })
        })
        .await
}

/// Tries now what would be tried later.
pub(crate) async fn retry(shared: &Shared, caller: &Caller, name: &str) -> Result<Certificate, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    let found = shared.primary.read(async |tx| find(tx, shared, name).await).await?;
    match found.source {
        CertificateSource::Internal => {
            let detail = format!("{name} is the internal CA's, which issues it when it is due");
            return Err(Refusal::new(&problem::CERTIFICATE_OWN, detail));
        }
        CertificateSource::Files => {
            shared.look_at_files().await.map_err(|why| {
                tracing::error!(error = %why, "Certificates from files could not be published");
                Refusal::new(&problem::INTERNAL, "the certificates could not be published")
            })?;
        }
        CertificateSource::Acme => {
            shared
                .primary
                .write(async |tx| {
                    acme::retry(tx, name).await?;
                    tx.audit(AuditEntry {
                        organization: shared.installation.organization,
                        project: None,
                        actor: grant.actor().to_owned(),
                        action: "certificate.retry".to_owned(),
                        target: name.to_owned(),
                        address: grant.address().map(|address| address.to_string()),
                        detail: json!({ "authority": found.authority }),
                    });
                    Ok::<_, Refusal>(())
                })
                .await?;
            shared.acme_due.notify_one();
        }
    }
    shared.primary.read(async |tx| find(tx, shared, name).await).await
}
