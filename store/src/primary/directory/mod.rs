//! Directories: where end users live. One belongs to an organization, or to one project of it.

pub mod limits;
mod settings;

use aws_lc_rs::digest;
use mezusphere_model::id::{DirectoryId, OrganizationId, ProjectId};
use mezusphere_model::{Timestamp, hex};

pub use settings::{
    Brand, DOMAINS_MAX, LOGO_LEN_MAX, Logo, LogoMark, LogoType, MailLooks, SessionLimits, Settings, SignUp,
};

use super::project::{self, ProjectRow};
use super::value::{Row, args, json};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// Hexadecimal digits of [`LogoMark::digest`].
const MARK_LEN: usize = 32;

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryRow {
    /// Its id.
    pub id: DirectoryId,
    /// Whose.
    pub organization: OrganizationId,
    /// The only project it serves; `None`: any project of the organization may use it.
    pub project: Option<ProjectId>,
    /// Its name, unique in the organization.
    pub name: String,
    /// What it allows and looks like.
    pub settings: Settings,
    /// When it was made.
    pub created_at: Timestamp,
}

fn read(row: &Row) -> Result<DirectoryRow, StoreError> {
    let settings = row.opt::<String>("settings")?.map(|_| row.json("settings")).transpose()?;
    Ok(DirectoryRow {
        id: row.get("id")?,
        organization: row.get("organization")?,
        project: row.opt("project")?,
        name: row.get("name")?,
        settings: settings.unwrap_or_default(),
        created_at: row.get("created_at")?,
    })
}

/// Adds a directory. Its project may be added later in the same transaction.
pub async fn insert(tx: &mut Tx, row: &DirectoryRow) -> Result<(), WriteError> {
    tx.insert(
        "organization",
        "INSERT INTO directories (id, organization, project, name, created_at) VALUES ($1, $2, $3, $4, $5)",
        args![row.id, row.organization, row.project, row.name.as_str(), row.created_at],
    )
    .await?;
    if row.settings == Settings::default() {
        return Ok(());
    }
    update_settings(tx, row.organization, row.id, &row.settings).await
}

/// An organization's directory.
pub async fn get(
    tx: &mut ReadTx,
    organization: OrganizationId,
    id: DirectoryId,
) -> Result<Option<DirectoryRow>, StoreError> {
    let row = tx
        .row(
            "SELECT d.*, s.document AS settings
             FROM directories d LEFT JOIN directory_settings s ON s.directory = d.id
             WHERE d.organization = $1 AND d.id = $2",
            args![organization, id],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// The directory with this id, whoever owns it: for callers that hold a sign-in or a link of the directory itself.
pub async fn by_id(tx: &mut ReadTx, id: DirectoryId) -> Result<Option<DirectoryRow>, StoreError> {
    let row = tx
        .row(
            "SELECT d.*, s.document AS settings
             FROM directories d LEFT JOIN directory_settings s ON s.directory = d.id
             WHERE d.id = $1",
            args![id],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// An organization's directory by name.
pub async fn find(
    tx: &mut ReadTx,
    organization: OrganizationId,
    name: &str,
) -> Result<Option<DirectoryRow>, StoreError> {
    let row = tx
        .row(
            "SELECT d.*, s.document AS settings
             FROM directories d LEFT JOIN directory_settings s ON s.directory = d.id
             WHERE d.organization = $1 AND d.name = $2",
            args![organization, name],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// The projects a directory serves, by slug; the key of a page is a slug.
pub async fn projects(
    tx: &mut ReadTx,
    organization: OrganizationId,
    id: DirectoryId,
    page: &PageRequest,
) -> Result<Paged<ProjectRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM projects WHERE organization = $1 AND directory = $2 AND slug > $3
             ORDER BY slug LIMIT $4",
            args![organization, id, page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(project::read).collect::<Result<_, _>>()?, |row| row.slug.to_string()))
}

/// How many users a directory has.
pub async fn count_users(tx: &mut ReadTx, id: DirectoryId) -> Result<u64, StoreError> {
    let row = tx.row("SELECT COUNT(*) AS n FROM users WHERE directory = $1", args![id]).await?;
    row.map_or(Ok(0), |row| row.get("n"))
}

/// Removes a directory that serves no project, with its users.
///
/// # Errors
/// Not found: the directory, also if a project uses it; ask [`projects`] first.
pub async fn delete(tx: &mut Tx, organization: OrganizationId, id: DirectoryId) -> Result<(), WriteError> {
    tx.change(
        "directory",
        "DELETE FROM directories WHERE organization = $1 AND id = $2
           AND NOT EXISTS (SELECT 1 FROM projects WHERE projects.directory = directories.id)",
        args![organization, id],
    )
    .await
}

/// An organization's directories by name; the key of a page is a name.
pub async fn list(
    tx: &mut ReadTx,
    organization: OrganizationId,
    page: &PageRequest,
) -> Result<Paged<DirectoryRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT d.*, s.document AS settings
             FROM directories d LEFT JOIN directory_settings s ON s.directory = d.id
             WHERE d.organization = $1 AND d.name > $2 ORDER BY d.name LIMIT $3",
            args![organization, page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.name.clone()))
}

/// Replaces a directory's settings. The mark of its logo is kept as it is: [`set_logo`] changes that.
///
/// # Errors
/// Not found: the directory, if it is another organization's.
pub async fn update_settings(
    tx: &mut Tx,
    organization: OrganizationId,
    id: DirectoryId,
    settings: &Settings,
) -> Result<(), WriteError> {
    let held = get(tx, organization, id).await?.ok_or(WriteError::NotFound { what: "directory" })?;
    let mut settings = settings.clone();
    settings.brand.logo = held.settings.brand.logo;
    write_settings(tx, id, &settings).await
}

async fn write_settings(tx: &mut Tx, id: DirectoryId, settings: &Settings) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change(
        "directory",
        "INSERT INTO directory_settings (directory, document, updated_at) VALUES ($1, $2, $3)
         ON CONFLICT (directory) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at",
        args![id, json(settings)?, now],
    )
    .await
}

/// Sets a directory's logo, or takes it away; the settings carry its mark from then on.
///
/// # Errors
/// Not found: the directory, if it is another organization's. [`StoreError::TooLarge`] past [`LOGO_LEN_MAX`].
pub async fn set_logo(
    tx: &mut Tx,
    organization: OrganizationId,
    id: DirectoryId,
    logo: Option<&Logo>,
) -> Result<(), WriteError> {
    let held = get(tx, organization, id).await?.ok_or(WriteError::NotFound { what: "directory" })?;
    let mut settings = held.settings;
    settings.brand.logo = logo.map(mark);
    match logo {
        Some(logo) if logo.bytes.len() > LOGO_LEN_MAX => {
            return Err(StoreError::TooLarge(format!("a logo of {LOGO_LEN_MAX} bytes is allowed")).into());
        }
        Some(logo) => {
            tx.change(
                "directory",
                "INSERT INTO directory_logos (directory, media_type, bytes) VALUES ($1, $2, $3)
                 ON CONFLICT (directory) DO UPDATE SET media_type = excluded.media_type, bytes = excluded.bytes",
                args![id, logo.media_type.as_str(), logo.bytes.as_slice()],
            )
            .await?;
        }
        None => {
            tx.execute("DELETE FROM directory_logos WHERE directory = $1", args![id]).await?;
        }
    }
    write_settings(tx, id, &settings).await
}

/// A directory's logo, for whoever asks: it stands on the sign-in page.
pub async fn logo(tx: &mut ReadTx, id: DirectoryId) -> Result<Option<Logo>, StoreError> {
    let row = tx.row("SELECT bytes FROM directory_logos WHERE directory = $1", args![id]).await?;
    let Some(row) = row else { return Ok(None) };
    let bytes: Vec<u8> = row.get("bytes")?;
    let media_type =
        LogoType::of(&bytes).ok_or_else(|| StoreError::Damaged("a logo is no picture".to_owned()))?;
    Ok(Some(Logo { media_type, bytes }))
}

fn mark(logo: &Logo) -> LogoMark {
    let digest = digest::digest(&digest::SHA256, &logo.bytes);
    let mut hex = hex(digest.as_ref());
    hex.truncate(MARK_LEN);
    LogoMark { media_type: logo.media_type, digest: hex }
}
