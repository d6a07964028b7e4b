//! Organizations: the owners of projects.

use mezusphere_model::Timestamp;
use mezusphere_model::id::OrganizationId;
use mezusphere_model::slug::Slug;

use super::value::{Row, args};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationRow {
    /// Its id.
    pub id: OrganizationId,
    /// Its short name, unique in the installation.
    pub slug: Slug,
    /// Its name for people.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

fn read(row: &Row) -> Result<OrganizationRow, StoreError> {
    Ok(OrganizationRow {
        id: row.get("id")?,
        slug: row.get("slug")?,
        name: row.get("name")?,
        created_at: row.get("created_at")?,
    })
}

/// Adds an organization.
pub async fn insert(tx: &mut Tx, row: &OrganizationRow) -> Result<(), WriteError> {
    tx.insert(
        "organization",
        "INSERT INTO organizations (id, slug, name, created_at) VALUES ($1, $2, $3, $4)",
        args![row.id, &row.slug, row.name.as_str(), row.created_at],
    )
    .await
    .map(drop)
}

/// The organization with this id.
pub async fn get(tx: &mut ReadTx, id: OrganizationId) -> Result<Option<OrganizationRow>, StoreError> {
    let row = tx.row("SELECT * FROM organizations WHERE id = $1", args![id]).await?;
    row.as_ref().map(read).transpose()
}

/// The organization with this slug.
pub async fn find(tx: &mut ReadTx, slug: &Slug) -> Result<Option<OrganizationRow>, StoreError> {
    let row = tx.row("SELECT * FROM organizations WHERE slug = $1", args![slug]).await?;
    row.as_ref().map(read).transpose()
}

/// All organizations by slug; the key of a page is a slug.
pub async fn list(tx: &mut ReadTx, page: &PageRequest) -> Result<Paged<OrganizationRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM organizations WHERE slug > $1 ORDER BY slug LIMIT $2",
            args![page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.slug.to_string()))
}

/// Changes the name for people.
pub async fn rename(tx: &mut Tx, id: OrganizationId, name: &str) -> Result<(), WriteError> {
    tx.change("organization", "UPDATE organizations SET name = $2 WHERE id = $1", args![id, name]).await
}
