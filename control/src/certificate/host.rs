//! Certificates of single hosts: who issues one, when a host is added, gets its first route, or is renewed.

use mezusphere_model::Host;
use mezusphere_model::document::{Document, DocumentKey, Partition};
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_store::StoreError;
use mezusphere_store::primary::{ReadTx, Tx, acme, certificate, host};

use super::ordered::is_covered_now;
use super::{CertificateError, PublicCertificates, own};
use crate::Shared;
use crate::acme::wanted;

/// Publishes a certificate for a host that has just been added; the platform's serves it if it can.
pub(crate) async fn add_host(
    tx: &mut Tx,
    shared: &Shared,
    project: ProjectId,
    host: &Host,
) -> Result<(), CertificateError> {
    if shared.certificates.covers(&shared.config.platform, host) {
        if let PublicCertificates::Acme(config) = &shared.certificates {
            if !is_covered_now(tx, config, &shared.config.platform, host).await? {
                // The wildcard is still to come: a certificate of the host's own goes on until then.
                return Ok(());
            }
            acme::delete(tx, host.as_str()).await?;
        }
        return remove_host(tx, project, host).map_err(CertificateError::from);
    }
    if let PublicCertificates::Acme(config) = &shared.certificates
        && !wanted::is_local(host.as_str())
    {
        wanted::ensure_host(tx, config, project, host).await?;
        shared.acme_due.notify_one();
        return Ok(());
    }
    if let PublicCertificates::Files(_) = shared.certificates {
        tracing::warn!(
            %host,
            "The certificate from files does not cover this host; the internal CA's serves it, which browsers do not trust"
        );
    }
    let names = [host.to_string()];
    let ca = shared.ca(tx).await?;
    let doc = own::issue(tx, shared, &ca, &names, Some(project)).await?;
    tx.publish(Partition::Project(project), &Document::Certificate(doc))?;
    Ok(())
}

/// Wants certificates for an environment's hosts, which have just got their first route; nothing happens where nobody has
/// to be asked for them.
pub(crate) async fn first_route(
    tx: &mut Tx,
    shared: &Shared,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<(), CertificateError> {
    if let PublicCertificates::Acme(_) = &shared.certificates {
        for row in host::list(tx, project, environment).await? {
            if !wanted::is_local(row.host.as_str()) {
                add_host(tx, shared, project, &row.host).await?;
            }
        }
    }
    Ok(())
}

/// Takes a host's own certificate away; nothing happens if it has none.
pub(crate) fn remove_host(tx: &mut Tx, project: ProjectId, host: &Host) -> Result<(), StoreError> {
    tx.retract(Partition::Project(project), DocumentKey::certificate(host.as_str()))
}

/// Whether something is to be done about a host's own certificate: it is missing, ends soon, has ended, or is in the way of a
/// better one.
pub(crate) async fn is_due(
    tx: &mut ReadTx,
    shared: &Shared,
    project: ProjectId,
    host: &Host,
) -> Result<bool, StoreError> {
    let platform = &shared.config.platform;
    let is_covered = shared.certificates.covers(platform, host);
    let PublicCertificates::Acme(config) = &shared.certificates else {
        return if is_covered { Ok(false) } else { ends_soon(tx, host).await };
    };
    if is_covered {
        // Whatever it has of its own would be shown in place of the wildcard, and is renewed by nobody.
        let is_left =
            acme::get(tx, host.as_str()).await?.is_some() || host::is_certified(tx, project, host).await?;
        return Ok(is_left && is_covered_now(tx, config, platform, host).await?);
    }
    if wanted::is_local(host.as_str()) {
        return ends_soon(tx, host).await;
    }
    Ok(wanted::lacks(tx, host).await? || has_ended(tx, project, host).await?)
}

/// Whether a host's certificate of the internal CA is missing or ends soon.
async fn ends_soon(tx: &mut ReadTx, host: &Host) -> Result<bool, StoreError> {
    let now = tx.now();
    let issued = certificate::list_of(tx, host.as_str()).await?;
    Ok(issued.iter().all(|row| own::ends_soon(row.not_after, now)))
}

/// Whether edges are still told of a certificate that has ended.
async fn has_ended(tx: &mut ReadTx, project: ProjectId, host: &Host) -> Result<bool, StoreError> {
    let now = tx.now();
    let ordered = acme::get(tx, host.as_str()).await?.and_then(|row| row.certificate);
    let is_good = ordered.is_some_and(|facts| facts.not_after > now) || own::is_good_for(tx, host).await?;
    Ok(!is_good && host::is_certified(tx, project, host).await?)
}
