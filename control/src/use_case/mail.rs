//! Mail as operators see it: what waits and why, trying again, and whether mail works at all.

use mezusphere_identity::account::Email;
use mezusphere_model::id::MailId;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::mail::{self, MailRow, MailState};
use mezusphere_store::primary::{PageRequest, directory};
use serde_json::json;

use super::{Paging, scope};
use crate::Shared;
use crate::api::types::{Page, QueuedMail, QueuedMailState, TestMail, TestedMail};
use crate::caller::{Caller, Permission};
use crate::mail::{Looks, TRIED_FOR};
use crate::problem::{self, Refusal};

fn view(row: MailRow) -> QueuedMail {
    QueuedMail {
        id: row.id,
        to: row.recipient,
        kind: row.kind,
        state: match row.state {
            MailState::Queued => QueuedMailState::Queued,
            MailState::Sending => QueuedMailState::Sending,
            MailState::Failed => QueuedMailState::Failed,
        },
        attempts: row.attempts,
        next_at: row.next_at.to_string(),
        until: row.give_up_at.to_string(),
        error: row.error,
        created_at: row.created_at.to_string(),
    }
}

/// Mails that wait or failed, oldest first.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    paging: Paging,
) -> Result<Page<QueuedMail>, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    let page = PageRequest::from(paging);
    let paged = shared.primary.read(async |tx| mail::list(tx, None, &page).await).await?;
    Ok(Page { items: paged.rows.into_iter().map(view).collect(), next: paged.next })
}

/// Makes a mail due now, for another day. Its link is as old as it was.
pub(crate) async fn retry(shared: &Shared, caller: &Caller, name: &str) -> Result<QueuedMail, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    let missing = || scope::not_found("mail", name);
    let id: MailId = name.parse().map_err(|_| missing())?;
    shared
        .primary
        .write(async |tx| {
            let until = tx.now().after(TRIED_FOR);
            let row = mail::get(tx, id).await?.filter(|row| row.state != MailState::Sending);
            let row = row.ok_or_else(missing)?;
            mail::retry(tx, id, until).await?;
            let of = directory::by_id(tx, row.directory).await?.ok_or_else(missing)?;
            let detail = json!({ "email": row.recipient, "kind": row.kind });
            tx.audit(AuditEntry {
                organization: of.organization,
                project: of.project,
                actor: grant.actor().to_owned(),
                action: "mail.retry".to_owned(),
                target: id.to_string(),
                address: grant.address().map(|address| address.to_string()),
                detail,
            });
            let row = mail::get(tx, id).await?.ok_or_else(missing)?;
            Ok(view(row))
        })
        .await
}

/// Sends a mail that says that mail works, at once and past the queue, so that the mail server's own answer is shown.
pub(crate) async fn test(shared: &Shared, caller: &Caller, request: TestMail) -> Result<TestedMail, Refusal> {
    let _grant = caller.allow(Permission::InstallationWrite)?;
    let to = Email::parse(&request.to)?;
    let Some(config) = shared.mail.config() else {
        return Err(Refusal::new(&problem::MAIL_OFF, "this control node was given no way to send mail"));
    };
    let home = shared.installation.directory;
    let looks = shared.primary.read(async |tx| Looks::load(tx, home, home).await).await?;
    let (id, now) = (MailId::random(&shared.entropy), shared.clock.now());
    let sent = shared.mail.send_test(id, &to, &looks, now).await;
    sent.map_err(|why| Refusal::new(&problem::MAIL_FAILED, why.to_string()))?;
    let (from, by) = (config.sender.to_string(), config.way.to_string());
    Ok(TestedMail { to: to.as_str().to_owned(), from, by })
}
