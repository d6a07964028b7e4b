//! Who asks control to do something, and the first check of every use case: may they.
//!
//! [`Caller::allow`] is the only maker of a [`Grant`], and only a grant can look up a tenant's objects
//! (`use_case::scope`), so a use case that forgets the check does not compile. A grant of a service account
//! reaches its own project and nothing else; what it cannot reach answers like what does not exist (R22).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use mezusphere_model::id::{ApiKeyId, OrganizationId, ProjectId, ServiceAccountId};
use mezusphere_model::slug::Name;

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What a caller may be allowed to do. The text form is a scope of an API key.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Permission {
            $($(#[$doc])* $name,)*
        }

        impl Permission {
            /// All of them.
            pub const ALL: &'static [Permission] = &[$(Permission::$name,)*];

            /// As a scope: `routes:write`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Permission::$name => $text,)*
                }
            }
        }
    };
}

permissions! {
    /// See the installation: its hosts, trust domain, operators.
    InstallationRead = "installation:read";
    /// Change the installation: organizations, operators.
    InstallationWrite = "installation:write";
    /// See projects, environments and hosts.
    ProjectsRead = "projects:read";
    /// Create, change and delete projects.
    ProjectsWrite = "projects:write";
    /// Create and delete environments and their hosts.
    EnvironmentsWrite = "environments:write";
    /// See routes.
    RoutesRead = "routes:read";
    /// Add, change, order and remove routes.
    RoutesWrite = "routes:write";
    /// See users and roles.
    UsersRead = "users:read";
    /// Create, change, suspend and delete users; give them roles.
    UsersWrite = "users:write";
    /// Define roles and their permissions.
    RolesWrite = "roles:write";
    /// See service accounts and API keys, never secrets.
    KeysRead = "keys:read";
    /// Create service accounts; create, rotate and revoke API keys.
    KeysWrite = "keys:write";
    /// See warpgates and their tunnels.
    WarpgatesRead = "warpgates:read";
    /// Evict warpgates.
    WarpgatesWrite = "warpgates:write";
    /// Read the audit log.
    AuditRead = "audit:read";
}

impl Permission {
    /// The permission as the scope that gives it.
    pub fn name(self) -> Name {
        // Every text above is a name; a test says so.
        Name::parse(self.as_str()).unwrap_or_else(|_| unreachable!("a permission's text is a name"))
    }

    /// Whether it concerns the installation, which no project's service account can hold.
    pub const fn is_installation_wide(self) -> bool {
        matches!(self, Self::InstallationRead | Self::InstallationWrite)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the text of a [`Permission`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a permission of the admin API")]
pub struct UnknownPermission;

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        Self::ALL.iter().copied().find(|known| known.as_str() == text).ok_or(UnknownPermission)
    }
}

/// Who asks, and from where. Authenticated before it is made; see `api::authenticate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub who: Who,
    /// From which address, if over the network; for the audit log.
    pub address: Option<IpAddr>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever can open the admin socket: the account that runs the server, and root.
    LocalOperator,
    /// A key that administers the whole installation, as far as its permissions go.
    OperatorKey {
        /// Which key.
        key: ApiKeyId,
        /// Of which account.
        account: ServiceAccountId,
        /// What it may do.
        permissions: BTreeSet<Permission>,
    },
    /// A key of a project's service account.
    ServiceAccount {
        /// Which key.
        key: ApiKeyId,
        /// Of which account.
        account: ServiceAccountId,
        /// Owner of the project.
        organization: OrganizationId,
        /// The only project it reaches.
        project: ProjectId,
        /// What it may do there.
        permissions: BTreeSet<Permission>,
    },
}

/// What a grant reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every tenant.
    Installation,
    /// One project.
    Project(OrganizationId, ProjectId),
}

/// Proof that the caller holds a permission, and how far it reaches. Made only by [`Caller::allow`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Grant {
    reach: Reach,
    actor: String,
    address: Option<IpAddr>,
}

impl Grant {
    /// How far it reaches.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Whether it reaches this project of this organization.
    pub fn reaches(&self, organization: OrganizationId, project: ProjectId) -> bool {
        match self.reach {
            Reach::Installation => true,
            Reach::Project(own_organization, own) => (organization, project) == (own_organization, own),
        }
    }

    /// Who acts, for the audit log.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// From which address, for the audit log.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

/// The caller lacks a permission. Says nothing about whether anything exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs the permission {permission}")]
pub struct Forbidden {
    /// The permission that is missing.
    pub permission: Permission,
}

impl Caller {
    /// The account that runs the server, on the server's own machine.
    pub const fn local() -> Self {
        Self { who: Who::LocalOperator, address: None }
    }

    /// Whether the caller may do this; the first line of every use case.
    pub fn allow(&self, permission: Permission) -> Result<Grant, Forbidden> {
        let reach = match &self.who {
            Who::LocalOperator => Reach::Installation,
            Who::OperatorKey { permissions, .. } if permissions.contains(&permission) => Reach::Installation,
            Who::ServiceAccount { permissions, organization, project, .. }
                if permissions.contains(&permission) && !permission.is_installation_wide() =>
            {
                Reach::Project(*organization, *project)
            }
            Who::OperatorKey { .. } | Who::ServiceAccount { .. } => return Err(Forbidden { permission }),
        };
        Ok(Grant { reach, actor: self.actor(), address: self.address })
    }

    /// How the audit log names the caller.
    pub fn actor(&self) -> String {
        match &self.who {
            Who::LocalOperator => "local".to_owned(),
            Who::OperatorKey { key, .. } | Who::ServiceAccount { key, .. } => key.to_string(),
        }
    }

    /// What it may do, for `whoami`.
    pub fn permissions(&self) -> Vec<Permission> {
        Permission::ALL.iter().copied().filter(|permission| self.allow(*permission).is_ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(permissions: &[Permission]) -> Caller {
        let who = Who::ServiceAccount {
            key: ApiKeyId::from_bits(1),
            account: ServiceAccountId::from_bits(2),
            organization: OrganizationId::from_bits(3),
            project: ProjectId::from_bits(4),
            permissions: permissions.iter().copied().collect(),
        };
        Caller { who, address: None }
    }

    #[test]
    fn every_permission_is_a_scope_name_and_reads_back() {
        for permission in Permission::ALL {
            assert_eq!(permission.name().as_str().parse(), Ok(*permission));
        }
        assert_eq!("connect".parse::<Permission>(), Err(UnknownPermission));
    }

    #[test]
    fn r22_a_service_account_reaches_its_own_project_only() {
        let caller = account(Permission::ALL);
        for permission in Permission::ALL {
            match caller.allow(*permission) {
                Ok(grant) => assert_eq!(
                    grant.reach(),
                    Reach::Project(OrganizationId::from_bits(3), ProjectId::from_bits(4))
                ),
                Err(Forbidden { permission }) => assert!(permission.is_installation_wide()),
            }
        }
    }

    #[test]
    fn r21_a_key_does_nothing_outside_its_scopes() {
        let caller = account(&[Permission::RoutesRead]);
        assert!(caller.allow(Permission::RoutesRead).is_ok());
        assert_eq!(caller.permissions(), vec![Permission::RoutesRead]);
        assert_eq!(
            caller.allow(Permission::RoutesWrite).unwrap_err(),
            Forbidden { permission: Permission::RoutesWrite }
        );
    }
}
