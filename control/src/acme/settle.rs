//! What becomes of a try: a certificate is put into use, or a failure is written down with the time of the next try.
//!
//! Both are one transaction. If it fails, everything is as it was: the old certificate is served, the order is kept with
//! its key, and the next try goes on with it.

use mezusphere_model::document::{CertificateDoc, Document};
use mezusphere_model::id::OrganizationId;
use mezusphere_pki::acme::Issued;
use mezusphere_store::StoreError;
use mezusphere_store::primary::acme::{
    self, CertificateFacts, CertificatePem, CertificateRow, CertificateState, LastError,
};
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::lease::Lease;
use mezusphere_store::primary::{ReadTx, Tx, project, setting};

use super::budget::Budget;
use super::dns::DnsRecord;
use super::engine::{Engine, Stopped, fence};
use super::failure::{Failure, Fault, quoted};
use super::order::{Attempt, BUDGET_SETTING};
use super::prove::told;
use super::{account, open, schedule, wanted};
use crate::certificate::{self, CertificateError};

impl Attempt<'_> {
    /// Puts what was issued into use, everywhere and at once.
    pub(super) async fn put_into_use(&self, issued: &Issued) -> Result<(), Stopped> {
        let (engine, lease, name) = (self.engine, self.lease, self.row.name.as_str());
        let row = engine.shared.primary.write(async |tx| {
            fence(tx, lease).await?;
            let mut row = acme::get(tx, name).await?.ok_or(Stopped::Gone)?;
            let now = tx.now();
            let facts = facts(issued, engine, now);
            row.state = CertificateState::Valid;
            row.attempts = 0;
            row.error = None;
            row.next_at = next_of(&facts);
            row.certificate = Some(facts);
            let pem =
                CertificatePem { chain_pem: issued.chain_pem.clone(), key_pem: issued.key_pem.to_string() };
            acme::put_certificate(tx, name, &pem).await?;
            acme::update(tx, &row).await?;
            acme::end_order(tx, name).await?;
            open::close(tx, name).await?;
            engine.forget_failures(tx, name).await?;
            engine.serve(tx, &row, pem).await?;
            let text = format!("A certificate is in use until {}", issued.not_after);
            acme::add_event(tx, name, "certificate", &text).await?;
            engine.audit(tx, &row, "certificate.issue").await?;
            Ok::<_, Stopped>(row)
        });
        let row = row.await?;
        let until = row.certificate.as_ref().map(|facts| facts.not_after.to_string());
        tracing::info!(certificate = name, until, "A public certificate was issued");
        Ok(())
    }

    /// Writes a failure down, and when it is tried again. A certificate in use stays in use.
    pub(super) async fn note_failure(&self, failure: &Failure) -> Result<(), Stopped> {
        let (engine, lease, name) = (self.engine, self.lease, self.row.name.as_str());
        let is_account_lost = self.is_account_lost;
        let row = engine.shared.primary.write(async |tx| {
            fence(tx, lease).await?;
            let mut row = acme::get(tx, name).await?.ok_or(Stopped::Gone)?;
            let now = tx.now();
            let kept = setting::get(tx, BUDGET_SETTING).await?;
            let mut budget = Budget::of(kept, engine.directory(), now);
            let known = row.attempts.max(budget.attempts(name));
            // What waits for room in the budget may look again many times: it is told once.
            let is_news = failure.fault != Fault::Budget
                || row.error.as_ref().is_none_or(|error| error.code != failure.fault.code());
            if failure.fault == Fault::Budget {
                // Nothing was tried.
                row.attempts = known;
                row.next_at = now.after(failure.wait.unwrap_or_default());
            } else {
                row.attempts = known.saturating_add(1);
                let ends_at = row.certificate.as_ref().map(|facts| facts.not_after);
                let was_lost = row.error.as_ref().is_some_and(|error| error.code == Fault::Account.code());
                row.next_at = if is_account_lost && !was_lost {
                    // An authority that was set up anew: another account is all it takes.
                    now
                } else {
                    schedule::next_try(row.attempts, failure.wait, ends_at, now, &engine.shared.entropy)
                };
                if row.project.is_some() {
                    budget.remember(name, row.attempts, row.next_at);
                }
                if failure.fault.is_failed_validation() {
                    budget.failed(&row.names, now);
                }
                setting::put(tx, BUDGET_SETTING, &budget).await?;
            }
            row.state = CertificateState::Failed;
            row.error = Some(LastError {
                at: now,
                code: failure.fault.code().to_owned(),
                text: failure.text.chars().take(acme::TEXT_LEN_MAX).collect(),
                hint: failure.fault.hint().to_owned(),
            });
            acme::update(tx, &row).await?;
            if failure.is_order_over || is_account_lost {
                acme::end_order(tx, name).await?;
            }
            if is_account_lost {
                account::forget(tx, engine.directory()).await?;
            }
            open::close(tx, name).await?;
            if is_news {
                let text = format!("{} ({}); next try {}", failure.text, failure.fault.code(), row.next_at);
                acme::add_event(tx, name, "failed", &text).await?;
            }
            Ok::<_, Stopped>((row, is_news))
        });
        let (row, is_news) = row.await?;
        if is_news {
            tracing::warn!(
                certificate = name,
                code = failure.fault.code(),
                why = failure.text,
                attempts = row.attempts,
                again_at = %row.next_at,
                "A public certificate could not be had"
            );
        }
        Ok(())
    }
}

fn facts(issued: &Issued, engine: &Engine, now: mezusphere_model::Timestamp) -> CertificateFacts {
    let life = schedule::Life { not_before: issued.not_before, not_after: issued.not_after, issued_at: now };
    CertificateFacts {
        fingerprint: issued.fingerprint,
        directory: engine.directory().to_owned(),
        not_before: issued.not_before,
        not_after: issued.not_after,
        issued_at: now,
        renew_at: schedule::renew_at(life, None, &engine.shared.entropy),
        window: None,
        renewal_id: issued.renewal_id.clone(),
        // Asked at once whether it has a wish.
        ask_again_at: issued.renewal_id.as_ref().map(|_| now),
    }
}

/// When something is done about a certificate in use next.
pub(super) fn next_of(facts: &CertificateFacts) -> mezusphere_model::Timestamp {
    facts.ask_again_at.map_or(facts.renew_at, |ask| ask.min(facts.renew_at))
}

impl Engine {
    /// Has edges serve with a certificate.
    async fn serve(&self, tx: &mut Tx, row: &CertificateRow, pem: CertificatePem) -> Result<(), Stopped> {
        if row.project.is_none() {
            // What is published for the whole installation is noted there.
            return certificate::ensure_platform(tx, &self.shared).await.map_err(|why| match why {
                CertificateError::Write(why) => why.into(),
                CertificateError::Issue(why) => Stopped::Store(StoreError::Damaged(why.to_string())),
            });
        }
        let not_after = row.certificate.as_ref().map(|facts| facts.not_after).unwrap_or_default();
        let doc = CertificateDoc {
            names: row.names.clone(),
            chain_pem: pem.chain_pem,
            key_pem: pem.key_pem,
            not_after,
        };
        tx.publish(wanted::partition(row), &Document::Certificate(doc))?;
        Ok(())
    }

    /// Forgets that a name failed before.
    async fn forget_failures(&self, tx: &mut Tx, name: &str) -> Result<(), StoreError> {
        let kept = setting::get(tx, BUDGET_SETTING).await?;
        let mut budget = Budget::of(kept, self.directory(), tx.now());
        if budget.forget(name) {
            setting::put(tx, BUDGET_SETTING, &budget).await?;
        }
        Ok(())
    }

    async fn audit(&self, tx: &mut Tx, row: &CertificateRow, action: &str) -> Result<(), Stopped> {
        let organization = self.organization(tx, row).await?;
        let facts = row.certificate.as_ref();
        tx.audit(AuditEntry {
            organization,
            project: row.project,
            actor: self.shared.config.node.id.to_string(),
            action: action.to_owned(),
            target: row.name.clone(),
            address: None,
            detail: serde_json::json!({
                "names": row.names,
                "directory": self.directory(),
                "not_after": facts.map(|facts| facts.not_after.to_string()),
            }),
        });
        Ok(())
    }

    async fn organization(&self, tx: &mut ReadTx, row: &CertificateRow) -> Result<OrganizationId, Stopped> {
        let Some(id) = row.project else { return Ok(self.shared.installation.organization) };
        let project = project::get(tx, id).await?.ok_or(Stopped::Gone)?;
        Ok(project.organization)
    }

    /// Takes back the challenges of a certificate whose order nobody goes on with: the host was removed, or a node died at
    /// the wrong moment.
    pub(super) async fn take_back(&self, lease: &Lease, name: &str) -> Result<(), Stopped> {
        let closed = self.shared.primary.write(async |tx| {
            fence(tx, lease).await?;
            open::close(tx, name).await?;
            Ok::<_, Stopped>(())
        });
        closed.await?;
        self.remove_records(lease, name).await?;
        tracing::info!(certificate = name, "Challenges that were left open were taken back");
        Ok(())
    }

    /// Removes the DNS records of a certificate's challenges, with a note of what the hook said.
    pub(super) async fn remove_records(&self, lease: &Lease, name: &str) -> Result<(), Stopped> {
        let primary = &self.shared.primary;
        let records = primary.read(async |tx| open::records(tx, name).await).await?;
        if records.is_empty() {
            return Ok(());
        }
        let said = self.clean_up(&records).await;
        let written = primary.write(async |tx| {
            fence(tx, lease).await?;
            open::forget_records(tx, name).await?;
            if acme::get(tx, name).await?.is_some() {
                for line in &said {
                    acme::add_event(tx, name, "hook", line).await?;
                }
            }
            Ok(())
        });
        written.await
    }

    async fn clean_up(&self, records: &[DnsRecord]) -> Vec<String> {
        let mut said = Vec::with_capacity(records.len());
        for record in records {
            let Some(hook) = &self.hook else {
                said.push(format!("No DNS hook is configured any more; {} stays set", record.name));
                continue;
            };
            said.push(match hook.cleanup(record).await {
                Ok(output) => told(&format!("The DNS hook removed {}", record.name), &output),
                Err(why) => format!("{} could not be removed: {}", record.name, quoted(&why.to_string())),
            });
        }
        said
    }
}
