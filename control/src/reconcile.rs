//! Bringing what is published into line with how control is set up now: another port, domain, edge address or
//! signing certificate changes every environment's bundle, another public certificate changes which hosts need one
//! of their own.
//!
//! Goes project by project, each in its own transaction, and notes at the end that all is done; cut short, it
//! begins anew at the next look. One control node at a time is at it: all would sign the same.

use mezusphere_model::id::ProjectId;
use mezusphere_store::primary::environment::EnvironmentRow;
use mezusphere_store::primary::host::{self, HostKind, HostRow};
use mezusphere_store::primary::lease::{self, Lease};
use mezusphere_store::primary::project::{self, ProjectRow};
use mezusphere_store::primary::{PageRequest, ReadTx, Tx, environment, setting};

use crate::certificate;
use crate::lease::Job;
use crate::{OpenError, Shared};

/// Name of the setting that says under which context every bundle is signed.
const BUNDLES_SETTING: &str = "published/bundles";

/// Name of the setting that says which names the platform certificate had when hosts were given their own.
const CERTIFICATES_SETTING: &str = "published/certificates";

/// How far [`Shared::reconcile`] went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reconciled {
    /// Bundles that were signed anew.
    pub(crate) bundles: usize,
    /// Another control node is at it, or has taken it over.
    pub(crate) elsewhere: bool,
}

/// What has changed since everything was last brought into line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Drift {
    /// What goes into every bundle; `None`: the same as before.
    bundles: Option<String>,
    /// What the platform certificate covers; `None`: the same as before.
    certificates: Option<Vec<String>>,
}

impl Drift {
    fn is_any(&self) -> bool {
        self.bundles.is_some() || self.certificates.is_some()
    }
}

impl Shared {
    /// Signs every bundle anew if something that goes into all of them has changed, moves endpoints to the
    /// applications domain of now, and gives every host the certificate it needs.
    pub(crate) async fn reconcile(&self) -> Result<Reconciled, OpenError> {
        let mut done = Reconciled::default();
        let elsewhere = Reconciled { elsewhere: true, ..done };
        if !self.primary.read(async |tx| self.drift(tx).await).await?.is_any() {
            return Ok(done);
        }
        let begun = self.primary.write(async |tx| {
            let Some(lease) = self.take_lease(tx, Job::Bundles).await? else { return Ok(None) };
            // Looked at once more under the lease: whoever held it before may have done everything.
            Ok::<_, OpenError>(Some((lease, self.drift(tx).await?)))
        });
        let Some((lease, drift)) = begun.await? else { return Ok(elsewhere) };
        let mut page = PageRequest::first();
        while drift.is_any() {
            let found = self.primary.read(async |tx| project::list_all(tx, &page).await).await?;
            for project in found.rows {
                match self.reconcile_project(&lease, &project, &drift).await? {
                    Some(bundles) => done.bundles += bundles,
                    None => return Ok(Reconciled { elsewhere: true, ..done }),
                }
            }
            match found.next {
                Some(next) => page = PageRequest::after(next),
                None => break,
            }
        }
        self.primary
            .write(async |tx| {
                if !self.keep_lease(tx, &lease).await? {
                    return Ok(Reconciled { elsewhere: true, ..done });
                }
                if let Some(context) = &drift.bundles {
                    setting::put(tx, BUNDLES_SETTING, context).await?;
                }
                if let Some(names) = &drift.certificates {
                    setting::put(tx, CERTIFICATES_SETTING, names).await?;
                }
                lease::release(tx, &lease).await?;
                Ok(done)
            })
            .await
    }

    /// Whether every bundle is signed with all that goes into it now.
    pub(crate) async fn is_in_line(&self, tx: &mut ReadTx) -> Result<bool, OpenError> {
        Ok(self.drift(tx).await?.bundles.is_none())
    }

    async fn drift(&self, tx: &mut ReadTx) -> Result<Drift, OpenError> {
        let known: Option<String> = setting::get(tx, BUNDLES_SETTING).await?;
        let context = self.bundle_context(tx).await?;
        let covered: Option<Vec<String>> = setting::get(tx, CERTIFICATES_SETTING).await?;
        let mut names = self.certificates.names(&self.config.platform);
        // What another CA issued is issued anew: the internal CA serves every host that nothing else covers.
        names.push(format!("issuer {}", self.ca(tx).await?.state.issuing.key_sha256));
        Ok(Drift {
            bundles: (known.as_ref() != Some(&context)).then_some(context),
            certificates: (covered.as_ref() != Some(&names)).then_some(names),
        })
    }

    /// Gives each host whose own certificate ends soon a new one, and the whole installation's likewise; nothing if
    /// another control node is at it.
    pub(crate) async fn renew_certificates(&self) -> Result<(), OpenError> {
        let begun = self.primary.write(async |tx| {
            let Some(lease) = self.take_lease(tx, Job::Certificates).await? else { return Ok(None) };
            certificate::ensure_platform(tx, self).await?;
            Ok::<_, OpenError>(Some(lease))
        });
        let Some(lease) = begun.await? else { return Ok(()) };
        let mut page = PageRequest::first();
        loop {
            let found = self.primary.read(async |tx| project::list_all(tx, &page).await).await?;
            for project in found.rows {
                if !self.renew_hosts(&lease, project.id).await? {
                    return Ok(());
                }
            }
            match found.next {
                Some(next) => page = PageRequest::after(next),
                None => break,
            }
        }
        Ok(self.primary.write(async |tx| lease::release(tx, &lease).await).await?)
    }

    /// `false`: another control node has taken it over.
    async fn renew_hosts(&self, lease: &Lease, project: ProjectId) -> Result<bool, OpenError> {
        let due = self.hosts_due(project).await?;
        if due.is_empty() {
            return Ok(true);
        }
        self.primary
            .write(async |tx| {
                if !self.keep_lease(tx, lease).await? {
                    return Ok(false);
                }
                for row in &due {
                    certificate::add_host(tx, self, project, &row.host).await?;
                }
                Ok::<_, OpenError>(true)
            })
            .await
    }

    async fn hosts_due(&self, project: ProjectId) -> Result<Vec<HostRow>, OpenError> {
        self.primary
            .read(async |tx| {
                let mut due = Vec::new();
                for environment in environment::list(tx, project).await? {
                    for row in host::list(tx, project, environment.id).await? {
                        if certificate::is_due(tx, self, project, &row.host).await? {
                            due.push(row);
                        }
                    }
                }
                Ok::<_, OpenError>(due)
            })
            .await
    }

    /// How many bundles were signed anew; `None`: another control node has taken it over.
    async fn reconcile_project(
        &self,
        lease: &Lease,
        project: &ProjectRow,
        drift: &Drift,
    ) -> Result<Option<usize>, OpenError> {
        self.primary
            .write(async |tx| {
                if !self.keep_lease(tx, lease).await? {
                    return Ok(None);
                }
                let mut bundles = 0;
                for environment in environment::list(tx, project.id).await? {
                    self.move_endpoint(tx, project, &environment).await?;
                    if drift.certificates.is_some() {
                        for row in host::list(tx, project.id, environment.id).await? {
                            certificate::add_host(tx, self, project.id, &row.host).await?;
                        }
                    }
                    // An endpoint moves only with the platform, which is part of every bundle.
                    if drift.bundles.is_some() {
                        self.publish_site(tx, project.id, environment.id).await?;
                        bundles += 1;
                    }
                }
                Ok::<_, OpenError>(Some(bundles))
            })
            .await
    }

    /// Renames an environment's endpoint after the applications domain has changed.
    async fn move_endpoint(
        &self,
        tx: &mut Tx,
        project: &ProjectRow,
        environment: &EnvironmentRow,
    ) -> Result<(), OpenError> {
        let wanted = self.config.platform.endpoint(&project.slug, &environment.slug)?;
        let hosts = host::list(tx, project.id, environment.id).await?;
        let Some(old) = hosts.iter().find(|row| row.kind == HostKind::Endpoint) else { return Ok(()) };
        if old.host == wanted {
            return Ok(());
        }
        host::delete(tx, project.id, &old.host).await?;
        certificate::remove_host(tx, project.id, &old.host)?;
        host::insert(tx, &HostRow { host: wanted.clone(), ..old.clone() }).await?;
        certificate::add_host(tx, self, project.id, &wanted).await?;
        Ok(())
    }
}
