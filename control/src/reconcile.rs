//! Bringing what is published into line with how control is set up now: another port, domain, edge address,
//! public certificate or signing certificate changes every environment's bundle.
//!
//! Goes project by project, each in its own transaction, and notes at the end that all is done; cut short, it
//! begins anew at the next start or renewal.

use mezusphere_model::id::ProjectId;
use mezusphere_store::primary::environment::EnvironmentRow;
use mezusphere_store::primary::host::{self, HostKind, HostRow};
use mezusphere_store::primary::project::{self, ProjectRow};
use mezusphere_store::primary::{PageRequest, Tx, environment, setting};

use crate::certificate;
use crate::{OpenError, Shared};

/// Name of the setting that says under which context every bundle is signed.
const SETTING: &str = "published/bundles";

/// How far [`Shared::reconcile`] went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reconciled {
    /// Bundles that were signed anew.
    pub(crate) bundles: usize,
}

impl Shared {
    /// Signs every bundle anew if something that goes into all of them has changed, moves endpoints to the
    /// applications domain of now, and gives every host the certificate it needs.
    pub(crate) async fn reconcile(&self) -> Result<Reconciled, OpenError> {
        let (known, context) = self
            .primary
            .read(async |tx| {
                let known: Option<String> = setting::get(tx, SETTING).await?;
                Ok::<_, OpenError>((known, self.bundle_context(tx).await?))
            })
            .await?;
        let mut done = Reconciled::default();
        if known.as_ref() == Some(&context) {
            return Ok(done);
        }
        let mut page = PageRequest::first();
        loop {
            let found = self.primary.read(async |tx| project::list_all(tx, &page).await).await?;
            for project in found.rows {
                done.bundles += self.reconcile_project(&project).await?;
            }
            match found.next {
                Some(next) => page = PageRequest::after(next),
                None => break,
            }
        }
        self.primary.write(async |tx| setting::put(tx, SETTING, &context).await).await?;
        Ok(done)
    }

    /// Gives each host whose own certificate ends soon a new one, and the platform's hosts likewise.
    pub(crate) async fn renew_certificates(&self) -> Result<(), OpenError> {
        self.primary.write(async |tx| certificate::ensure_platform(tx, self).await).await?;
        let mut page = PageRequest::first();
        loop {
            let found = self.primary.read(async |tx| project::list_all(tx, &page).await).await?;
            for project in found.rows {
                self.renew_hosts(project.id).await?;
            }
            match found.next {
                Some(next) => page = PageRequest::after(next),
                None => return Ok(()),
            }
        }
    }

    async fn renew_hosts(&self, project: ProjectId) -> Result<(), OpenError> {
        let due = self.hosts_due(project).await?;
        if due.is_empty() {
            return Ok(());
        }
        self.primary
            .write(async |tx| {
                for row in &due {
                    certificate::add_host(tx, self, project, &row.host).await?;
                }
                Ok::<_, OpenError>(())
            })
            .await
    }

    async fn hosts_due(&self, project: ProjectId) -> Result<Vec<HostRow>, OpenError> {
        self.primary
            .read(async |tx| {
                let mut due = Vec::new();
                for environment in environment::list(tx, project).await? {
                    for row in host::list(tx, project, environment.id).await? {
                        if certificate::is_due(tx, self, &row.host).await? {
                            due.push(row);
                        }
                    }
                }
                Ok::<_, OpenError>(due)
            })
            .await
    }

    async fn reconcile_project(&self, project: &ProjectRow) -> Result<usize, OpenError> {
        self.primary
            .write(async |tx| {
                let mut bundles = 0;
                for environment in environment::list(tx, project.id).await? {
                    self.move_endpoint(tx, project, &environment).await?;
                    for row in host::list(tx, project.id, environment.id).await? {
                        certificate::add_host(tx, self, project.id, &row.host).await?;
                    }
                    self.publish_site(tx, project.id, environment.id).await?;
                    bundles += 1;
                }
                Ok::<_, OpenError>(bundles)
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
        host::insert(tx, &HostRow { host: wanted, ..old.clone() }).await?;
        Ok(())
    }
}
