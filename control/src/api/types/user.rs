//! Users of a project's directory, and roles with their permissions.

use std::collections::BTreeMap;

use mezusphere_model::id::{FlowId, SignInId, UserId};
use mezusphere_model::identity::{Assurance, Method};
use mezusphere_model::slug::Name;
use serde::{Deserialize, Serialize};

/// Whether a user may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// May.
    Active,
    /// May not until activated again.
    Suspended,
    /// May not any more.
    Deactivated,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// E-mail address, unique in the directory.
    pub email: String,
    /// Full name.
    pub name: String,
    /// What they are called where a name is shown; empty: by their name.
    #[serde(default)]
    pub display_name: String,
    /// Whether they may sign in.
    pub status: UserStatus,
    /// Whether they have a password.
    pub has_password: bool,
    /// Whether they have proved that the address is theirs, or an operator said so.
    #[serde(default)]
    pub verified: bool,
    /// Custom claims.
    #[serde(default)]
    pub claims: Claims,
    /// Roles in this project, sorted.
    pub roles: Vec<Name>,
    /// When they last signed in.
    #[serde(default)]
    pub signed_in_at: Option<String>,
    /// Since when.
    pub created_at: String,
}

/// Custom claims: small values by name, which routes may ask for and pass on.
pub type Claims = BTreeMap<String, serde_json::Value>;

/// Query of `GET …/users`: everything that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserListQuery {
    /// Most entries to return: 1 to [`super::PAGE_LEN_MAX`], [`super::PAGE_LEN_DEFAULT`] if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the page before ended. A page of a search may be shorter than asked for, even empty; only a `next` of
    /// `null` says that the list is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Words, each of which begins the address or a word of a name of theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// A role they hold in this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Name>,
    /// Whether they may sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<UserStatus>,
}

/// `PATCH …/users/{user}`: what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    /// E-mail address; a new one is not verified unless `verified` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What they are called where a name is shown; empty: by their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Whether the address is known to be theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// Custom claims, replaced whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
}

/// Where a user is signed in: one browser or program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSession {
    /// Its id.
    pub id: SignInId,
    /// How they signed in, as `amr` values.
    pub methods: Vec<Method>,
    /// How strongly.
    pub assurance: Assurance,
    /// Since when.
    pub created_at: String,
    /// Last used.
    pub seen_at: String,
    /// When it ends whatever happens.
    pub expires_at: String,
    /// From which address.
    pub address: String,
    /// With which browser, as it said.
    pub agent: String,
    /// Hosts of this project it is signed in at.
    pub hosts: Vec<String>,
}

/// What became of `DELETE …/users/{user}/sessions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedOut {
    /// How many sign-ins ended.
    pub ended: u32,
}

/// Something that happened to a user's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginEvent {
    /// When.
    pub at: String,
    /// What: `signed_in`, `wrong_password`, `refused`, `signed_out`, `password_changed`, …
    pub outcome: String,
    /// By which method.
    pub method: String,
    /// From which address.
    pub address: String,
    /// With which browser, as it said.
    pub agent: String,
}

/// Query of `POST …/user-imports`, whose body is the file: `text/csv`, or `application/json` (an array of objects, or one
/// object to a line).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportQuery {
    /// Only look: nobody is added.
    #[serde(default)]
    pub dry_run: bool,
    /// Leave out who has an account already; else that is a mistake.
    #[serde(default)]
    pub skip_existing: bool,
}

/// What became of an import. Unless `applied` nobody was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// Whether the users were added: nothing was wrong, and it was no dry run.
    pub applied: bool,
    /// Users that were added, or would be.
    pub users: usize,
    /// Left out, because they have an account.
    pub skipped: usize,
    /// How many mistakes there are.
    pub errors: usize,
    /// The mistakes; of very many the first.
    pub problems: Vec<ImportProblem>,
}

/// A mistake in a file of users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportProblem {
    /// The line it is on, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

/// `POST …/invitations`: asks somebody in by mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteUser {
    /// Whom.
    pub email: String,
    /// What they are called, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Roles they will have in this project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Name>,
    /// Who invites, as the mail says; the project's name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// An invitation that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInvitation {
    /// Its id, for taking it back.
    pub id: FlowId,
    /// Whom.
    pub email: String,
    /// Roles they will have in this project.
    pub roles: Vec<Name>,
    /// Who invited.
    pub by: String,
    /// Since when.
    pub created_at: String,
    /// When it ends.
    pub expires_at: String,
}

/// `POST …/users`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// E-mail address.
    pub email: String,
    /// Full name; what stands before the `@` of the address if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What they are called where a name is shown; by their name if absent or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// First password; without one they cannot sign in until one is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Roles in this project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Name>,
    /// Whether the address is known to be theirs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
    /// Custom claims.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: Claims,
}

impl std::fmt::Debug for CreateUser {
    /// Leaves the password out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateUser").field("roles", &self.roles).finish_non_exhaustive()
    }
}

/// `PUT …/users/{user}/password`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// The new password. Every session of the user ends.
    pub password: String,
}

impl std::fmt::Debug for SetPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SetPassword(…)")
    }
}

/// `PUT …/users/{user}/roles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRoles {
    /// All roles they have in this project from now on.
    pub roles: Vec<Name>,
}

/// A role of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: Name,
    /// What it gives, sorted.
    pub permissions: Vec<Name>,
    /// Since when.
    pub created_at: String,
}

/// `PUT …/roles/{role}`: creates or replaces it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutRole {
    /// What it gives.
    #[serde(default)]
    pub permissions: Vec<Name>,
}
