//! What can go wrong in the primary, as use cases see it, and which of the drivers' errors means what.

use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

/// The database could not do it. Unless it says otherwise nothing was written; whether a retry helps is said per variant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Busy, full, gone or failing; the same call may work later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A stored value cannot be read back: the file was altered, or there is a bug. A retry changes nothing.
    #[error("the database holds a value that cannot be read: {0}")]
    Damaged(String),
    /// One transaction publishes more than [`super::PUBLISH_MAX`] documents, or a document is too large.
    #[error("too much for one change: {0}")]
    TooLarge(String),
    /// The connection was lost while the change was being committed: it may have happened or not. Look before doing it
    /// again.
    #[error("it is not known whether the change was made: {0}")]
    OutcomeUnknown(String),
    /// Everything was moved to a PostgreSQL: what is here takes no changes any more, whoever asks and however often.
    #[error("it was moved to PostgreSQL")]
    Moved,
    /// A transaction that is confined to one tenant asked for another: a bug.
    #[error("the transaction is confined to another tenant")]
    Confined,
}

/// Why a write did not happen. The transaction must be given up: return the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The name, address or id is in use.
    #[error("{what} is already in use")]
    Conflict {
        /// What is taken.
        what: Taken,
    },
    /// What is changed, or what the new row refers to, is not there, or not this tenant's.
    #[error("no such {what}")]
    NotFound {
        /// The missing thing, as a noun.
        what: &'static str,
    },
    /// The database could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a unique constraint protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Taken {
    /// An organization's slug.
    OrganizationSlug,
    /// A project's slug; unique in the installation, because it is a host name's label.
    ProjectSlug,
    /// An environment's slug in its project.
    EnvironmentSlug,
    /// A host, in the whole installation.
    Host,
    /// A route with the same path and methods in the environment.
    RoutePath,
    /// A directory's name in its organization.
    DirectoryName,
    /// An e-mail address in its directory.
    Email,
    /// A role's name in its project.
    RoleName,
    /// A service account's name in its project.
    ServiceAccountName,
    /// A node's name.
    NodeName,
    /// An id, a token hash or a version: a bug or a collision of random numbers.
    Id,
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OrganizationSlug => "this organization name",
            Self::ProjectSlug => "this project name",
            Self::EnvironmentSlug => "this environment name",
            Self::Host => "this host",
            Self::RoutePath => "this path, with these methods,",
            Self::DirectoryName => "this directory name",
            Self::Email => "this e-mail address",
            Self::RoleName => "this role name",
            Self::ServiceAccountName => "this service account name",
            Self::NodeName => "this node name",
            Self::Id => "this id",
        })
    }
}

/// SQLite's result codes that tell whose fault it was; the low byte is the primary code.
mod code {
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const NOT_A_DATABASE: u32 = 26;
    pub(super) const CONSTRAINT: u32 = 19;
}

/// The primary result code of a database error.
fn sqlite_code(why: &dyn sqlx::error::DatabaseError) -> Option<u32> {
    why.try_downcast_ref::<SqliteError>()?;
    why.code()?.parse::<u32>().ok().map(|extended| extended & 0xff)
}

/// Whether PostgreSQL said it, and with which code (SQLSTATE).
fn postgres_code(why: &sqlx::Error) -> Option<&str> {
    why.as_database_error()?.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::code)
}

/// Whether nothing of the transaction can have been written and the same one may succeed when tried again: it met
/// another one, or lost its connection. Not to be asked about a commit.
pub(super) fn may_be_tried_again(why: &sqlx::Error) -> bool {
    matches!(postgres_code(why), Some("40001" | "40P01")) || ends_the_connection(why)
}

/// Whether the connection cannot be used any more, or is to a server that takes no writes now.
pub(super) fn ends_the_connection(why: &sqlx::Error) -> bool {
    match why {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        other => postgres_code(other)
            .is_some_and(|code| code.starts_with("57P") || code.starts_with("08") || code == "25006"),
    }
}

/// Whether row-level security refused it.
fn is_walled(database: &dyn sqlx::error::DatabaseError) -> bool {
    database
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|why| why.code() == "42501" && why.message().contains("row-level security"))
}

/// Whether SQLite says that the file is damaged or no database.
pub(super) fn is_damage(why: &sqlx::Error) -> bool {
    let code = why.as_database_error().and_then(sqlite_code);
    matches!(code, Some(code::CORRUPT | code::NOT_A_DATABASE))
}

/// What a driver's error means.
pub(super) fn store_error(why: &sqlx::Error) -> StoreError {
    match why {
        sqlx::Error::PoolTimedOut => StoreError::Unavailable("too many others are waiting for it".to_owned()),
        sqlx::Error::PoolClosed => StoreError::Unavailable("it was closed".to_owned()),
        sqlx::Error::Database(database) => {
            let constraint = sqlite_code(&**database) == Some(code::CONSTRAINT)
                || postgres_code(why).is_some_and(|code| code.starts_with("23"));
            if is_damage(why) || constraint {
                StoreError::Damaged(database.to_string())
            } else {
                StoreError::Unavailable(database.to_string())
            }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            StoreError::Damaged(why.to_string())
        }
        other => StoreError::Unavailable(other.to_string()),
    }
}

/// What a driver's error means for a change whose row refers to `parent`.
pub(super) fn write_error(why: &sqlx::Error, parent: &'static str) -> WriteError {
    let Some(database) = why.as_database_error() else { return store_error(why).into() };
    match database.kind() {
        sqlx::error::ErrorKind::UniqueViolation => {
            WriteError::Conflict { what: taken(database.constraint().unwrap_or_else(|| database.message())) }
        }
        sqlx::error::ErrorKind::ForeignKeyViolation => WriteError::NotFound { what: parent },
        // Behind the wall: another tenant's row is not there.
        _ if is_walled(database) => WriteError::NotFound { what: parent },
        _ => store_error(why).into(),
    }
}

/// Which constraint it was.
fn taken(names: &str) -> Taken {
    // SQLite names columns, `UNIQUE constraint failed: users.directory, users.email_key`; PostgreSQL the constraint.
    let rows = [
        ("organizations.slug", "organizations_slug_key", Taken::OrganizationSlug),
        ("projects.slug", "projects_slug_key", Taken::ProjectSlug),
        ("environments.slug", "environments_project_slug_key", Taken::EnvironmentSlug),
        ("hosts.host", "hosts_pkey", Taken::Host),
        ("host_claims.host", "host_claims_pkey", Taken::Host),
        ("routes.path", "routes_environment_path_methods_key", Taken::RoutePath),
        ("directories.name", "directories_organization_name_key", Taken::DirectoryName),
        ("users.email_key", "users_directory_email_key_key", Taken::Email),
        ("roles.name", "roles_pkey", Taken::RoleName),
        ("service_accounts.name", "service_accounts_project_name_key", Taken::ServiceAccountName),
        ("nodes.name", "nodes_name_key", Taken::NodeName),
    ];
    // `service_accounts.name` must not be read as some other table's column: whole words only.
    let names: Vec<_> = names.split([' ', ',']).collect();
    rows.iter()
        .find(|(sqlite, postgres, _)| names.contains(sqlite) || names.contains(postgres))
        .map_or(Taken::Id, |(_, _, taken)| *taken)
}
