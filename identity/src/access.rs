//! What somebody may do in a project: their roles, and the permissions those give.

use std::collections::BTreeSet;

use mezusphere_model::document::Status;
use mezusphere_model::id::ProjectId;
use mezusphere_model::identity::Subject;
use mezusphere_model::slug::Name;
use mezusphere_store::StoreError;
use mezusphere_store::primary::role::RoleRow;
use mezusphere_store::primary::{ReadTx, principal};

/// Roles and permissions of somebody in one project. Both sorted, without repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Roles they hold.
    pub roles: Vec<Name>,
    /// What those roles give, together.
    pub permissions: Vec<Name>,
}

impl Access {
    /// What holding these roles amounts to.
    pub fn of_roles(held: &[RoleRow]) -> Self {
        let roles: BTreeSet<&Name> = held.iter().map(|role| &role.name).collect();
        let permissions: BTreeSet<&Name> = held.iter().flat_map(|role| &role.permissions).collect();
        Self {
            roles: roles.into_iter().cloned().collect(),
            permissions: permissions.into_iter().cloned().collect(),
        }
    }

    /// Whether one of the roles gives this permission.
    pub fn permits(&self, permission: &Name) -> bool {
        self.permissions.binary_search(permission).is_ok()
    }
}

/// What somebody may do in `project` now; nothing if they are suspended, `None` if they cannot be there at all.
pub async fn effective(
    tx: &mut ReadTx,
    project: ProjectId,
    subject: Subject,
) -> Result<Option<Access>, StoreError> {
    let Some(principal) = principal::load(tx, project, subject).await? else { return Ok(None) };
    if principal.status != Status::Active {
        return Ok(Some(Access::default()));
    }
    Ok(Some(Access { roles: principal.roles, permissions: principal.permissions }))
}

#[cfg(test)]
mod tests {
    use mezusphere_model::Timestamp;

    use super::*;

    fn role(name: &str, permissions: &[&str]) -> RoleRow {
        RoleRow {
            project: ProjectId::from_bits(1),
            name: Name::parse(name).unwrap(),
            description: String::new(),
            permissions: permissions.iter().map(|text| Name::parse(text).unwrap()).collect(),
            created_at: Timestamp::default(),
        }
    }

    #[test]
    fn permissions_are_the_union_of_what_the_roles_give() {
        let access = Access::of_roles(&[
            role("support", &["orders:read", "customers:read"]),
            role("customer", &["orders:read", "orders:create"]),
        ]);
        let text = |names: &[Name]| names.iter().map(Name::as_str).collect::<Vec<_>>().join(" ");
        assert_eq!(text(&access.roles), "customer support");
        assert_eq!(text(&access.permissions), "customers:read orders:create orders:read");
        assert!(access.permits(&Name::parse("orders:read").unwrap()));
        assert!(!access.permits(&Name::parse("orders").unwrap()), "whole names only");
    }

    #[test]
    fn no_role_gives_no_permission() {
        assert_eq!(Access::of_roles(&[]), Access::default());
    }
}
