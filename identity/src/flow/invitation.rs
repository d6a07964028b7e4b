//! Invitations: an operator asks somebody in, with the roles they will have.
//!
//! ```text
//!  invite ──mail──▶ link ──open──▶ Choose ──accept(name, hash)──▶ SignedIn   (user made, address verified, roles given)
//!                             │
//!                             └──▶ Join ──join──▶ Joined    (the address has an account meanwhile: it gets the roles)
//!                             └── used, replaced, taken back, 7 days over, project gone, directory closed ──▶ dead
//! ```
//!
//! A newer invitation of the same address replaces the older one. The roles are those of one project; a role that is gone
//! when the invitation is accepted is left out, and nothing is given in its place. A closed directory invites nobody.

use mezusphere_model::Timestamp;
use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, FlowId, ProjectId};
use mezusphere_model::identity::Subject;
use mezusphere_model::slug::Name;
use mezusphere_model::token::Token;
use mezusphere_store::WriteError;
use mezusphere_store::primary::directory::{self, SignUp as Policy};
use mezusphere_store::primary::one_time_link::{self, LinkRow};
use mezusphere_store::primary::user::{self, UserRow};
use mezusphere_store::primary::{PageRequest, Paged, ReadTx, Tx, project, role};
use serde::{Deserialize, Serialize};

use super::link::{self, For, Purpose};
use super::sign_up::{Completed, add, who};
use super::{Onward, Refusal};
use crate::account::{Email, check_name};
use crate::factor::password::PasswordHash;
use crate::message::{Message, MessageKind};

/// An invitation to be made.
#[derive(Clone, Debug)]
pub struct Invite {
    /// Where the account will live.
    pub directory: DirectoryId,
    /// Whom.
    pub email: Email,
    /// What they are called, if that is known; they may change it.
    pub name: String,
    /// To which project.
    pub project: ProjectId,
    /// With which of its roles.
    pub roles: Vec<Name>,
    /// Who invites, as the mail says.
    pub by: String,
    /// Where they go once they are in.
    pub onward: Option<Onward>,
}

/// An invitation that is open, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its id, for taking it back.
    pub id: FlowId,
    /// Whom.
    pub email: String,
    /// To which project.
    pub project: ProjectId,
    /// With which roles.
    pub roles: Vec<Name>,
    /// Who invited.
    pub by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What the link of an invitation leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where the account will live.
    pub directory: DirectoryId,
    /// Whom.
    pub email: Email,
    /// What they are called, as far as it is known.
    pub name: String,
    /// To which project.
    pub project: ProjectId,
    /// Who invited.
    pub by: String,
    /// Where they go once they are in.
    pub onward: Option<Onward>,
    /// When the link ends.
    pub ends_at: Timestamp,
    /// What is next.
    pub next_step: Step,
}

/// What an invitation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A name and a password: [`accept`].
    Choose,
    /// A button, because the address has an account: [`join`].
    Join,
}

/// Somebody who has an account accepted.
#[derive(Clone, Debug)]
pub struct Joined {
    /// They. Not signed in: a link in a mail is no password.
    pub user: UserRow,
    /// Where they go once they are in.
    pub onward: Option<Onward>,
}

#[derive(Serialize, Deserialize)]
struct Detail {
    name: String,
    project: ProjectId,
    roles: Vec<Name>,
    by: String,
    #[serde(default)]
    onward: Option<Onward>,
}

/// Makes the link and says what to mail. That the caller may give these roles is the caller's check.
///
/// # Errors
/// [`Refusal::SignUpClosed`] if the directory takes nobody; [`Refusal::Store`] with not found for a project that is not
/// of this directory, or a role it does not have.
pub async fn invite(tx: &mut Tx, invite: &Invite) -> Result<Vec<Message>, Refusal> {
    let directory = directory::by_id(tx, invite.directory).await?.ok_or(Refusal::SignUpClosed)?;
    if directory.settings.sign_up == Policy::Closed {
        return Err(Refusal::SignUpClosed);
    }
    let project = project::get(tx, invite.project).await?.filter(|row| row.directory == invite.directory);
    let project = project.ok_or(WriteError::NotFound { what: "project" })?;
    for name in &invite.roles {
        role::get(tx, project.id, name).await?.ok_or(WriteError::NotFound { what: "role" })?;
    }
    let whom = For { directory: invite.directory, user: None, email: invite.email.as_str() };
    let detail = Detail {
        name: invite.name.clone(),
        project: project.id,
        roles: invite.roles.clone(),
        by: invite.by.clone(),
        onward: invite.onward.clone(),
    };
    let token = link::make(tx, Purpose::Invitation, whom, &detail).await?;
    let kind = MessageKind::Invitation { token, by: invite.by.clone(), project: project.name };
    Ok(vec![Message::new(invite.directory, invite.email.clone(), &invite.name, kind)])
}

/// The open invitations of a directory, by id.
pub async fn list(
    tx: &mut ReadTx,
    directory: DirectoryId,
    page: &PageRequest,
) -> Result<Paged<Open>, mezusphere_store::StoreError> {
    let Paged { rows, next } = one_time_link::list(tx, directory, &Purpose::Invitation.name()?, page).await?;
    let open = |row: LinkRow| {
        let Detail { project, roles, by, .. } = link::detail(&row)?;
        let LinkRow { id, email, created_at, expires_at, .. } = row;
        Ok(Open { id, email, project, roles, by, created_at, expires_at })
    };
    Ok(Paged { rows: rows.into_iter().map(open).collect::<Result<_, mezusphere_store::StoreError>>()?, next })
}

/// Takes an invitation back.
///
/// # Errors
/// Not found: there is none with this id in the directory, or it has been accepted.
pub async fn revoke(tx: &mut Tx, directory: DirectoryId, id: FlowId) -> Result<(), WriteError> {
    one_time_link::revoke(tx, directory, &Purpose::Invitation.name()?, id).await
}

/// What this link leads to; it stays good.
///
/// # Errors
/// [`Refusal::LinkDead`], [`Refusal::SignUpClosed`], [`Refusal::Inactive`] if the address has an account that may not be
/// used.
pub async fn open(tx: &mut ReadTx, token: &Token) -> Result<Opened, Refusal> {
    let row = link::peek(tx, Purpose::Invitation, token).await?;
    opened(tx, &row).await.map(|(opened, _)| opened)
}

async fn opened(tx: &mut ReadTx, row: &LinkRow) -> Result<(Opened, Option<UserRow>), Refusal> {
    let Detail { name, project, by, onward, .. } = link::detail(row)?;
    let directory = directory::by_id(tx, row.directory).await?.ok_or(Refusal::LinkDead)?;
    if directory.settings.sign_up == Policy::Closed {
        return Err(Refusal::SignUpClosed);
    }
    let known = project::get(tx, project).await?.filter(|found| found.directory == row.directory);
    known.ok_or(Refusal::LinkDead)?;
    let email = Email::parse(&row.email)?;
    let holder = user::find(tx, row.directory, email.as_str()).await?;
    if holder.as_ref().is_some_and(|user| user.status != Status::Active) {
        return Err(Refusal::Inactive);
    }
    let next_step = if holder.is_some() { Step::Join } else { Step::Choose };
    let name = holder.as_ref().map_or(name, |user| user.shown_name().to_owned());
    let (directory, ends_at) = (row.directory, row.expires_at);
    Ok((Opened { directory, email, name, project, by, onward, ends_at, next_step }, holder))
}

/// Takes the link and makes the user with the roles; exactly one of any number of attempts does.
///
/// # Errors
/// As [`open`]'s, [`Refusal::Field`] for a name that cannot be shown, and [`Refusal::Taken`] if the address has an
/// account: load the page anew.
pub async fn accept(
    tx: &mut Tx,
    token: &Token,
    name: &str,
    hash: PasswordHash,
) -> Result<Completed, Refusal> {
    let row = link::take(tx, Purpose::Invitation, token).await?;
    let (open, holder) = opened(tx, &row).await?;
    if holder.is_some() {
        return Err(Refusal::Taken);
    }
    let user = add(tx, open.directory, open.email, check_name(name)?, hash).await?;
    give(tx, &row, &user).await?;
    let who = who(user.id, tx.now())?;
    Ok(Completed { user, who, onward: open.onward })
}

/// Takes the link and gives the roles to the account that the address has meanwhile.
///
/// # Errors
/// As [`open`]'s; [`Refusal::LinkDead`] if the account is gone again.
pub async fn join(tx: &mut Tx, token: &Token) -> Result<Joined, Refusal> {
    let row = link::take(tx, Purpose::Invitation, token).await?;
    let (open, holder) = opened(tx, &row).await?;
    let user = holder.ok_or(Refusal::LinkDead)?;
    if user.email_verified_at.is_none() {
        user::verify_email(tx, user.directory, user.id).await?;
    }
    give(tx, &row, &user).await?;
    Ok(Joined { user, onward: open.onward })
}

async fn give(tx: &mut Tx, row: &LinkRow, user: &UserRow) -> Result<(), Refusal> {
    let Detail { project, roles, .. } = link::detail(row)?;
    for name in &roles {
        if role::get(tx, project, name).await?.is_some() {
            role::grant(tx, project, Subject::User(user.id), name).await?;
        }
    }
    Ok(())
}
