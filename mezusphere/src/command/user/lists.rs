//! The lists of `mezusphere user`: users, their sessions and history, and who is invited.

use super::super::{Context, project_path};
use crate::failure::Failure;

/// Users of whom all that is asked is true.
pub(super) async fn users(context: &Context, project: &str, asked: Vec<String>) -> Result<(), Failure> {
    let empty = if asked.is_empty() {
        format!("No users yet. Create one: mezusphere user create {project} EMAIL")
    } else {
        "No user is like that.".to_owned()
    };
    let query = asked.into_iter().chain(["limit=200".to_owned()]).collect::<Vec<_>>().join("&");
    let items = context.client.list(&format!("{}/users?{query}", project_path(project))).await?;
    let columns = [
        ("EMAIL", "/email"),
        ("NAME", "/name"),
        ("DISPLAY NAME", "/display_name"),
        ("STATUS", "/status"),
        ("ROLES", "/roles"),
        ("LAST SIGN-IN", "/signed_in_at"),
        ("ID", "/id"),
    ];
    Ok(context.output.list(&items, &columns, &empty)?)
}

/// Invitations to a project that are open.
pub(super) async fn invitations(context: &Context, project: &str) -> Result<(), Failure> {
    let items = context.client.list(&format!("{}/invitations", project_path(project))).await?;
    let columns =
        [("EMAIL", "/email"), ("ROLES", "/roles"), ("BY", "/by"), ("UNTIL", "/expires_at"), ("ID", "/id")];
    let empty = format!("Nobody is invited. Invite somebody: mezusphere user invite {project} EMAIL");
    Ok(context.output.list(&items, &columns, &empty)?)
}

/// Where the user at this path is signed in.
pub(super) async fn sessions(context: &Context, path: &str, user: &str) -> Result<(), Failure> {
    let items = context.client.list(&format!("{path}/sessions")).await?;
    let columns = [
        ("LAST USED", "/seen_at"),
        ("SINCE", "/created_at"),
        ("UNTIL", "/expires_at"),
        ("BY", "/methods"),
        ("ADDRESS", "/address"),
        ("BROWSER", "/agent"),
        ("HOSTS", "/hosts"),
        ("ID", "/id"),
    ];
    Ok(context.output.list(&items, &columns, &format!("{user} is not signed in."))?)
}

/// What happened to the account of the user at this path.
pub(super) async fn history(context: &Context, path: &str, user: &str) -> Result<(), Failure> {
    let items = context.client.list(&format!("{path}/history")).await?;
    let columns = [
        ("WHEN", "/at"),
        ("WHAT", "/outcome"),
        ("BY", "/method"),
        ("ADDRESS", "/address"),
        ("BROWSER", "/agent"),
    ];
    Ok(context.output.list(&items, &columns, &format!("Nothing is known of {user} yet."))?)
}
