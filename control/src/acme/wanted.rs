//! Which certificates an authority is asked for: one for the platform's hosts, one for each host with a route, or a wildcard
//! for all endpoints; and putting into use what it issued.
//!
//! Names under `localhost` are nobody's to certify: the internal CA issues for them ([`crate::certificate`]).

use mezusphere_model::document::{CertificateDoc, Document, DocumentKey, Partition};
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::{Host, Platform, Timestamp};
use mezusphere_store::primary::acme::{self, CertificateRow, NewCertificate};
use mezusphere_store::primary::{ReadTx, Tx, host, route};
use mezusphere_store::{StoreError, WriteError};

use super::AcmeConfig;
use crate::certificate;

/// Whether no authority certifies the name: `localhost`, and what lies below it (RFC 6761 §6.3).
pub(crate) fn is_local(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether endpoints share a wildcard certificate. Not one that is good for a platform host too: every edge would hold
/// its key.
pub(crate) fn wildcard(config: &AcmeConfig, platform: &Platform) -> Option<String> {
    let usable = config.wildcard && platform.apps != platform.base && !is_local(platform.apps.as_str());
    usable.then(|| format!("*.{}", platform.apps))
}

/// Where a certificate is published: the platform's hosts' in the partition that never leaves control.
pub(crate) fn partition(row: &CertificateRow) -> Partition {
    match row.project {
        Some(project) => Partition::Project(project),
        None if row.name.starts_with("*.") => Partition::Platform,
        None => Partition::Control,
    }
}

/// Wants a certificate of the whole installation; the one in use, if it is good.
pub(crate) async fn ensure_own(
    tx: &mut Tx,
    config: &AcmeConfig,
    names: &[String],
) -> Result<Option<CertificateDoc>, WriteError> {
    let new =
        NewCertificate { names: names.to_vec(), owner: None, directory: config.directory.url().to_owned() };
    acme::insert(tx, &new).await?;
    let name = names.first().map_or("", String::as_str);
    Ok(in_use(tx, name).await?)
}

/// Forgets certificates of the whole installation that are not wanted any more: its domain was changed.
pub(crate) async fn forget_own(tx: &mut Tx, wanted: &[String]) -> Result<(), StoreError> {
    for row in acme::of_installation(tx).await? {
        if !wanted.contains(&row.name) {
            acme::delete(tx, &row.name).await?;
        }
    }
    Ok(())
}

/// Wants a certificate for a host if its environment has a route, and publishes the one in use. A host without one is
/// refused at the handshake.
pub(crate) async fn ensure_host(
    tx: &mut Tx,
    config: &AcmeConfig,
    project: ProjectId,
    host: &Host,
) -> Result<(), WriteError> {
    if acme::get(tx, host.as_str()).await?.is_none() && has_route(tx, project, host).await? {
        let new = NewCertificate {
            names: vec![host.to_string()],
            owner: Some((project, host.clone())),
            directory: config.directory.url().to_owned(),
        };
        acme::insert(tx, &new).await?;
    }
    match in_use(tx, host.as_str()).await? {
        Some(doc) => tx.publish(Partition::Project(project), &Document::Certificate(doc))?,
        // What it had from another source goes on until the first one is there.
        None if certificate::is_good_for(tx, host).await? => {}
        None => tx.retract(Partition::Project(project), DocumentKey::certificate(host.as_str()))?,
    }
    Ok(())
}

/// Whether a host is without what [`ensure_host`] gives it.
pub(crate) async fn lacks(tx: &mut ReadTx, host: &Host) -> Result<bool, StoreError> {
    if acme::get(tx, host.as_str()).await?.is_some() {
        return Ok(false);
    }
    match host::find(tx, host).await? {
        Some(row) => environment_has_route(tx, row.project, row.environment).await,
        None => Ok(false),
    }
}

async fn has_route(tx: &mut ReadTx, project: ProjectId, host: &Host) -> Result<bool, StoreError> {
    match host::find(tx, host).await? {
        Some(row) if row.project == project => environment_has_route(tx, project, row.environment).await,
        _ => Ok(false),
    }
}

async fn environment_has_route(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<bool, StoreError> {
    Ok(!route::list(tx, project, environment).await?.is_empty())
}

/// The certificate in use, as edges are told; `None`: there is none, or it has ended.
pub(crate) async fn in_use(tx: &mut ReadTx, name: &str) -> Result<Option<CertificateDoc>, StoreError> {
    let Some(row) = acme::get(tx, name).await? else { return Ok(None) };
    let now: Timestamp = tx.now();
    let Some(facts) = row.certificate.filter(|facts| facts.not_after > now) else { return Ok(None) };
    let pem = acme::certificate(tx, name).await?;
    Ok(pem.map(|pem| CertificateDoc {
        names: row.names,
        chain_pem: pem.chain_pem,
        key_pem: pem.key_pem,
        not_after: facts.not_after,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(base: &str, apps: &str) -> Platform {
        let [base, apps] = [base, apps].map(|name| Host::parse(name).unwrap());
        Platform { base, apps, port: 443 }
    }

    #[test]
    fn a_wildcard_never_stands_for_a_platform_host_nor_for_a_local_name() {
        let mut config = AcmeConfig::new("letsencrypt".parse().unwrap());
        assert_eq!(wildcard(&config, &platform("mezu.example", "apps.example")), None, "nobody asked");
        config.wildcard = true;
        let wildcard = |base, apps| wildcard(&config, &platform(base, apps));
        assert_eq!(wildcard("mezu.example", "apps.example").as_deref(), Some("*.apps.example"));
        assert_eq!(wildcard("mezu.example", "mezu.example"), None);
        assert_eq!(wildcard("mezu.localhost", "apps.localhost"), None);
    }

    #[test]
    fn nobody_certifies_names_under_localhost() {
        for (name, expected) in [
            ("localhost", true),
            ("shop.localhost", true),
            ("shop.example", false),
            ("localhost.example", false),
            ("notlocalhost", false),
        ] {
            assert_eq!(is_local(name), expected, "{name}");
        }
    }
}
