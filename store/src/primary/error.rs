//! What can go wrong in the primary, as use cases see it.

/// The database could not do it. Nothing was written; whether a retry helps is said per variant.
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
