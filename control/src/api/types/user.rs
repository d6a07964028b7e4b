//! Users of a project's directory, and roles with their permissions.

use mezusphere_model::id::UserId;
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
    /// Name to show.
    pub name: String,
    /// Whether they may sign in.
    pub status: UserStatus,
    /// Whether they have a password.
    pub has_password: bool,
    /// Roles in this project, sorted.
    pub roles: Vec<Name>,
    /// Since when.
    pub created_at: String,
}

/// `POST …/users`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// E-mail address.
    pub email: String,
    /// Name to show; the e-mail address if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// First password; without one they cannot sign in until one is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Roles in this project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Name>,
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
