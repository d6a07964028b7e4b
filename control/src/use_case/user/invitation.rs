//! Asking people in by mail, with the roles they will have.

use mezusphere_identity::account::{Email, check_name};
use mezusphere_identity::flow;
use mezusphere_identity::flow::invitation::{self, Invite, Open};
use mezusphere_model::id::FlowId;
use mezusphere_store::WriteError;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::{PageRequest, Tx};

use super::super::{Paging, scope};
use super::role_unknown;
use crate::Shared;
use crate::api::types::{InviteUser, Page, UserInvitation};
use crate::caller::{Caller, Permission};
use crate::problem::{self, Refusal};

fn view(open: Open) -> UserInvitation {
    UserInvitation {
        id: open.id,
        email: open.email,
        roles: open.roles,
        by: open.by,
        created_at: open.created_at.to_string(),
        expires_at: open.expires_at.to_string(),
    }
}

/// Invites somebody: the mail is queued with the invitation.
pub(crate) async fn invite(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    request: InviteUser,
) -> Result<UserInvitation, Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    let email = Email::parse(&request.email)?;
    let name = request.name.as_deref().map(check_name).transpose()?.unwrap_or_default().to_owned();
    let by = request.by.as_deref().map(check_name).transpose()?.map(str::to_owned);
    shared
        .primary
        .write(async |tx| {
            let project = scope::accounts(tx, &grant, project).await?;
            if !shared.mail.is_available() {
                let detail = "no mail can be sent, and an invitation goes by mail";
                return Err(Refusal::new(&problem::MAIL_OFF, detail));
            }
            for role in &request.roles {
                if mezusphere_store::primary::role::get(tx, project.id, role).await?.is_none() {
                    return Err(role_unknown(&project, role));
                }
            }
            let asked = Invite {
                directory: project.directory,
                email: email.clone(),
                name,
                project: project.id,
                roles: request.roles.clone(),
                by: by.unwrap_or_else(|| project.name.clone()),
                onward: None,
            };
            let messages = invitation::invite(tx, &asked).await.map_err(|why| refused(&project, why))?;
            for message in &messages {
                shared.mail.enqueue(tx, message).await?;
            }
            let detail = serde_json::json!({ "email": email.as_str(), "roles": request.roles });
            let made = newest(tx, &project, email.as_str()).await?;
            scope::audit(tx, &grant, &project, "user.invite", &made.id, detail);
            Ok(made)
        })
        .await
}

/// The open invitation of an address; a newer one replaces an older one, so there is one.
async fn newest(tx: &mut Tx, project: &ProjectRow, email: &str) -> Result<UserInvitation, Refusal> {
    let mut page = PageRequest::first();
    loop {
        let paged = invitation::list(tx, project.directory, &page).await?;
        let mut rows = paged.rows.into_iter();
        if let Some(open) = rows.find(|open| open.email.to_lowercase() == email.to_lowercase()) {
            return Ok(view(open));
        }
        let Some(next) = paged.next else { return Err(scope::not_found("user invitation", "")) };
        page = PageRequest::after(next);
    }
}

fn refused(project: &ProjectRow, why: flow::Refusal) -> Refusal {
    match why {
        flow::Refusal::Store(why) => why.into(),
        flow::Refusal::SignUpClosed => {
            let detail = format!("the directory of {} is closed, so nobody can accept", project.slug);
            Refusal::new(&problem::DIRECTORY_INVALID, detail).with_next(format!(
                "open it for those who are invited: mezusphere directory set --project {} --sign-up invitation",
                project.slug
            ))
        }
        other => Refusal::new(&problem::REQUEST_INVALID, other.to_string()),
    }
}

/// Invitations to the project that are open.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    paging: Paging,
) -> Result<Page<UserInvitation>, Refusal> {
    let grant = caller.allow(Permission::UsersRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::people(tx, &grant, project).await?;
            let paged = invitation::list(tx, project.directory, &PageRequest::from(paging)).await?;
            let own = paged.rows.into_iter().filter(|open| open.project == project.id);
            Ok(Page { items: own.map(view).collect(), next: paged.next })
        })
        .await
}

/// Takes one back: its link stops working.
pub(crate) async fn revoke(shared: &Shared, caller: &Caller, project: &str, id: &str) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::accounts(tx, &grant, project).await?;
            let unknown = || scope::not_found("user invitation", id);
            let flow: FlowId = id.parse().map_err(|_| unknown())?;
            match invitation::revoke(tx, project.directory, flow).await {
                Err(WriteError::NotFound { .. }) => return Err(unknown()),
                other => other?,
            }
            scope::audit(tx, &grant, &project, "user.uninvite", &flow, serde_json::json!({}));
            Ok(())
        })
        .await
}
