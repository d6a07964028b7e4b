//! Where users are signed in, ending that, and what happened to their accounts.

use mezusphere_identity::session;
use mezusphere_identity::sign_in::Place;
use mezusphere_model::id::SignInId;
use mezusphere_store::primary::{PageRequest, login_event};

use super::super::{Paging, scope};
use super::who;
use crate::Shared;
use crate::api::types::{LoginEvent, Page, SignedOut, UserSession};
use crate::caller::{Caller, Permission};
use crate::problem::Refusal;

/// Where a user is signed in, the last used first.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<Page<UserSession>, Refusal> {
    let grant = caller.allow(Permission::UsersRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::people(tx, &grant, project).await?;
            let row = scope::user(tx, &project, name).await?;
            let signed = session::list(tx, &row, None).await?;
            let view = |signed: session::Signed| {
                let seen_at = session::last_seen(&signed).to_string();
                let own = signed.apps.iter().filter(|app| app.doc.project == project.id);
                let mut hosts: Vec<_> = own.map(|app| app.doc.host.to_string()).collect();
                hosts.dedup();
                let sign_in = signed.sign_in;
                UserSession {
                    id: sign_in.id,
                    methods: sign_in.methods,
                    assurance: sign_in.assurance,
                    created_at: sign_in.created_at.to_string(),
                    seen_at,
                    expires_at: sign_in.expires_at.to_string(),
                    address: sign_in.address,
                    agent: sign_in.agent,
                    hosts,
                }
            };
            Ok(Page { items: signed.into_iter().map(view).collect(), next: None })
        })
        .await
}

/// Ends one sign-in of a user with all its sessions; edges act on it within seconds (R12).
pub(crate) async fn end(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
    id: &str,
) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::accounts(tx, &grant, project).await?;
            let row = scope::user(tx, &project, name).await?;
            let unknown = || scope::not_found("session", id);
            let sign_in: SignInId = id.parse().map_err(|_| unknown())?;
            match session::end_one(tx, &row, sign_in, None, &Place::of_operator(grant.address())).await {
                Err(mezusphere_store::WriteError::NotFound { .. }) => return Err(unknown()),
                other => other?,
            };
            let mut detail = who(&row);
            if let Some(fields) = detail.as_object_mut() {
                fields.insert("session".to_owned(), sign_in.to_string().into());
            }
            scope::audit(tx, &grant, &project, "user.end_session", &row.id, detail);
            Ok(())
        })
        .await
}

/// Ends every sign-in of a user with all sessions; edges act on it within seconds (R12).
pub(crate) async fn end_all(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<SignedOut, Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::accounts(tx, &grant, project).await?;
            let row = scope::user(tx, &project, name).await?;
            let ended = session::end_all(tx, &row, None, &Place::of_operator(grant.address())).await?;
            let detail = serde_json::json!({ "email": row.email, "ended": ended });
            scope::audit(tx, &grant, &project, "user.sign_out", &row.id, detail);
            Ok(SignedOut { ended })
        })
        .await
}

/// What happened to a user's account, newest first.
pub(crate) async fn history(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
    paging: Paging,
) -> Result<Page<LoginEvent>, Refusal> {
    let grant = caller.allow(Permission::UsersRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::people(tx, &grant, project).await?;
            let row = scope::user(tx, &project, name).await?;
            let paged = login_event::list(tx, project.directory, row.id, &PageRequest::from(paging)).await?;
            let view = |event: login_event::LoginEvent| LoginEvent {
                at: event.at.to_string(),
                outcome: event.outcome,
                method: event.method,
                address: event.address,
                agent: event.agent,
            };
            Ok(Page { items: paged.rows.into_iter().map(view).collect(), next: paged.next })
        })
        .await
}
