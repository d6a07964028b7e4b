//! Flags of a route: who may use it, for which methods, and where it leads.

use clap::{Args, ValueEnum};
use mezusphere_model::route::{AuthMode, Requirement};
use mezusphere_model::slug::{Name, Slug};

/// Who may use a route at all.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Auth {
    /// Everybody; no identity is forwarded
    Public,
    /// Everybody; the identity is forwarded when there is one
    Optional,
    /// Only who is signed in
    Required,
}

impl From<Auth> for AuthMode {
    fn from(auth: Auth) -> Self {
        match auth {
            Auth::Public => Self::Public,
            Auth::Optional => Self::Optional,
            Auth::Required => Self::Required,
        }
    }
}

/// What a route asks for, and where it leads.
#[derive(Debug, Args)]
pub(super) struct AccessArgs {
    /// One of these roles is needed; may be repeated.
    #[arg(long = "role", value_name = "NAME")]
    roles: Vec<Name>,
    /// This role is needed, with every other given so; may be repeated.
    #[arg(long = "all-role", value_name = "NAME")]
    all_roles: Vec<Name>,
    /// One of these permissions is needed; may be repeated.
    #[arg(long = "permission", value_name = "NAME")]
    permissions: Vec<Name>,
    /// This permission is needed, with every other given so; may be repeated.
    #[arg(long = "all-permission", value_name = "NAME")]
    all_permissions: Vec<Name>,
    /// Only this method; may be repeated.
    #[arg(long = "method", value_name = "METHOD")]
    pub(super) methods: Vec<String>,
    /// The warpgate's name for where it leads.
    #[arg(long, value_name = "NAME")]
    pub(super) upstream: Option<Slug>,
}

/// What of it can be taken back.
#[derive(Debug, Default, Args)]
pub(super) struct ClearAccess {
    /// For every method again.
    #[arg(long, conflicts_with = "methods")]
    all_methods: bool,
    /// Ask for no role and no permission any more.
    #[arg(long, conflicts_with_all = ["roles", "all_roles", "permissions", "all_permissions"])]
    no_require: bool,
}

impl AccessArgs {
    pub(super) fn requirement(&self) -> Requirement {
        Requirement {
            any_role: self.roles.clone(),
            all_roles: self.all_roles.clone(),
            any_permission: self.permissions.clone(),
            all_permissions: self.all_permissions.clone(),
            claims: Vec::new(),
        }
    }

    /// What is asked for from now on, if that changes.
    pub(super) fn new_requirement(&self, clear: &ClearAccess) -> Option<Requirement> {
        let asked = self.requirement();
        (clear.no_require || !asked.is_empty()).then_some(asked)
    }

    /// The methods from now on, if they change.
    pub(super) fn new_methods(&self, clear: &ClearAccess) -> Option<Vec<String>> {
        (clear.all_methods || !self.methods.is_empty()).then(|| self.methods.clone())
    }
}
