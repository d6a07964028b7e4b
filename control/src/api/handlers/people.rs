//! Users and roles.

use axum::Extension;
use axum::extract::{Path, State};

use super::{Asking, Control, Done, GONE, Gone, One, Three, Two, created, ok};
use crate::api::body::{Asked, Body, File, Force};
use crate::api::types as t;
use crate::use_case::{Paging, directory, project, role, user};

pub(in crate::api) async fn own_directory(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::Directory> {
    directory::of_project(&s, &c, &name).await.map(ok)
}

pub(in crate::api) async fn change_own_directory(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
    Body(changes): Body<t::DirectoryChanges>,
) -> Done<t::Directory> {
    directory::change_of_project(&s, &c, &name, changes).await.map(ok)
}

pub(in crate::api) async fn set_directory(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
    Body(request): Body<t::SetDirectory>,
) -> Done<t::Project> {
    project::set_directory(&s, &c, &name, request).await.map(ok)
}

pub(in crate::api) async fn list_users(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    Asked(asked): Asked<t::UserListQuery>,
) -> Done<t::Page<t::User>> {
    let paging = Paging::checked(asked.limit, asked.after.clone())?;
    user::list(&s, &c, &project, asked, paging).await.map(ok)
}

pub(in crate::api) async fn update_user(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
    Body(request): Body<t::UpdateUser>,
) -> Done<t::User> {
    user::update(&s, &c, &project, &name, request).await.map(ok)
}

pub(in crate::api) async fn list_user_sessions(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::Page<t::UserSession>> {
    user::sessions::list(&s, &c, &project, &name).await.map(ok)
}

pub(in crate::api) async fn end_user_sessions(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::SignedOut> {
    user::sessions::end_all(&s, &c, &project, &name).await.map(ok)
}

pub(in crate::api) async fn end_user_session(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name, session)): Three,
) -> Gone {
    user::sessions::end(&s, &c, &project, &name, &session).await.map(|()| GONE)
}

pub(in crate::api) async fn user_history(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
    paging: Paging,
) -> Done<t::Page<t::LoginEvent>> {
    user::sessions::history(&s, &c, &project, &name, paging).await.map(ok)
}

pub(in crate::api) async fn deactivate_user(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::User> {
    user::deactivate(&s, &c, &project, &name).await.map(ok)
}

pub(in crate::api) async fn import_users(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    Asked(asked): Asked<t::ImportQuery>,
    File(format, body): File,
) -> Done<t::ImportReport> {
    user::import::import(&s, &c, &project, asked, format, body).await.map(ok)
}

pub(in crate::api) async fn invite_user(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    Body(request): Body<t::InviteUser>,
) -> Done<t::UserInvitation> {
    user::invitation::invite(&s, &c, &project, request).await.map(created)
}

pub(in crate::api) async fn list_user_invitations(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    paging: Paging,
) -> Done<t::Page<t::UserInvitation>> {
    user::invitation::list(&s, &c, &project, paging).await.map(ok)
}

pub(in crate::api) async fn revoke_user_invitation(
    State(s): Control,
    Extension(c): Asking,
    Path((project, id)): Two,
) -> Gone {
    user::invitation::revoke(&s, &c, &project, &id).await.map(|()| GONE)
}

pub(in crate::api) async fn create_user(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    Body(request): Body<t::CreateUser>,
) -> Done<t::User> {
    user::create(&s, &c, &project, request).await.map(created)
}

pub(in crate::api) async fn show_user(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::User> {
    user::show(&s, &c, &project, &name).await.map(ok)
}

pub(in crate::api) async fn delete_user(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Gone {
    user::delete(&s, &c, &project, &name).await.map(|()| GONE)
}

pub(in crate::api) async fn suspend_user(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::User> {
    user::suspend(&s, &c, &project, &name).await.map(ok)
}

pub(in crate::api) async fn activate_user(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::User> {
    user::activate(&s, &c, &project, &name).await.map(ok)
}

pub(in crate::api) async fn user_link(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::SignInLink> {
    user::sign_in_link(&s, &c, &project, &name).await.map(created)
}

pub(in crate::api) async fn set_password(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
    Body(request): Body<t::SetPassword>,
) -> Done<t::User> {
    user::set_password(&s, &c, &project, &name, request).await.map(ok)
}

pub(in crate::api) async fn set_user_roles(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
    Body(request): Body<t::SetRoles>,
) -> Done<t::User> {
    user::set_roles(&s, &c, &project, &name, &request).await.map(ok)
}

pub(in crate::api) async fn list_roles(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
) -> Done<t::Page<t::Role>> {
    role::list(&s, &c, &project).await.map(ok)
}

pub(in crate::api) async fn show_role(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::Role> {
    role::show(&s, &c, &project, &name).await.map(ok)
}

pub(in crate::api) async fn put_role(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
    Body(request): Body<t::PutRole>,
) -> Done<t::Role> {
    role::put(&s, &c, &project, &name, request).await.map(ok)
}

pub(in crate::api) async fn delete_role(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
    Force(force): Force,
) -> Gone {
    role::delete(&s, &c, &project, &name, force).await.map(|()| GONE)
}
