//! Whose a directory is: a sign-in names its directory only, and the login host serves all of them.

use mezusphere_model::id::DirectoryId;
use mezusphere_store::StoreError;
use mezusphere_store::primary::directory::DirectoryRow;
use mezusphere_store::primary::{ReadTx, directory, project};

use super::answer::Failure;
use crate::page::{Brand, Chrome};

/// A directory with what people are shown of it.
#[derive(Clone, Debug)]
pub(super) struct Tenant {
    pub(super) row: DirectoryRow,
    /// Whose accounts it holds: its brand's name, its project's, or its own.
    pub(super) name: String,
}

impl Tenant {
    /// The directory of a sign-in, link or application somebody holds.
    pub(super) async fn find(tx: &mut ReadTx, id: DirectoryId) -> Result<Option<Self>, StoreError> {
        let Some(row) = directory::by_id(tx, id).await? else { return Ok(None) };
        let project = match row.project {
            Some(id) if row.settings.brand.name.is_none() => project::get(tx, id).await?,
            _ => None,
        };
        let own = row.settings.brand.name.clone();
        let name = own.or(project.map(|project| project.name)).unwrap_or_else(|| row.name.clone());
        Ok(Some(Self { row, name }))
    }

    /// The same, where it was there a moment ago.
    pub(super) async fn held(tx: &mut ReadTx, id: DirectoryId) -> Result<Result<Self, Failure>, StoreError> {
        Ok(Self::find(tx, id).await?.ok_or_else(Failure::unknown_host))
    }

    /// The pages' looks for its people.
    pub(super) fn chrome(&self) -> Chrome {
        Chrome::branded(Brand::of(&self.row))
    }
}
