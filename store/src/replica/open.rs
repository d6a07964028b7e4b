//! Opening the replica, and reading from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Clock;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::document::{
    ApiKeyDoc, CertificateDoc, Partition, PlatformDoc, PrincipalDoc, RevocationDoc,
};
use mezusphere_model::id::{ApiKeyId, EnvironmentId, ProjectId, SignInId};
use mezusphere_model::identity::Subject;
use mezusphere_model::route::SiteDoc;
use mezusphere_model::seal::Seal;
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::TokenHash;

use super::Changed;

/// Why a replica cannot be opened. Damage is not among the reasons: a damaged one is put aside and begun anew.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the replica {} is in use by {}", path.display(), holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The replica's directory.
        path: PathBuf,
        /// The process that holds it, if it said so.
        holder: Option<u32>,
    },
    /// The directory cannot be created or written.
    #[error("cannot write to {}: {source}", path.display())]
    Unwritable {
        /// The replica's directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Why a read gave no answer. The only safe conclusion is to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The disk failed. (A damaged value is not an error: it counts as missing, and its partition is fetched anew.)
    #[error("the replica cannot be read")]
    Disk,
}

/// An edge's copy of the feed. Share it in an `Arc`.
pub struct Replica(());

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replica")
    }
}

impl Replica {
    /// Opens or creates the replica in `dir`. `seal` closes documents that hold keys.
    ///
    /// Blocks on the disk: call it before the I/O threads run.
    pub fn open(dir: &Path, clock: Clock, seal: Arc<dyn Seal>) -> Result<Self, OpenError> {
        todo!()
    }

    /// The session whose token hashes to this. One look-up by key: memory when hot; on a miss one read of a few KiB.
    pub fn session(&self, token: &TokenHash) -> Result<Option<SessionDoc>, ReadError> {
        todo!()
    }

    /// Somebody's principal in a project. As cheap as [`Replica::session`].
    pub fn principal(&self, project: ProjectId, subject: Subject) -> Result<Option<PrincipalDoc>, ReadError> {
        todo!()
    }

    /// An API key. As cheap as [`Replica::session`].
    pub fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyDoc>, ReadError> {
        todo!()
    }

    /// Whether a sign-in has ended, as a project knows it. As cheap as [`Replica::session`].
    pub fn revocation(
        &self,
        project: ProjectId,
        sign_in: SignInId,
    ) -> Result<Option<RevocationDoc>, ReadError> {
        todo!()
    }

    /// An environment's signed bundle. Reads the disk: not on the request path.
    pub fn bundle(
        &self,
        project: ProjectId,
        environment: EnvironmentId,
    ) -> Result<Option<SignedBundle>, ReadError> {
        todo!()
    }

    /// An environment's site. Reads the disk: not on the request path.
    pub fn site(&self, project: ProjectId, environment: EnvironmentId) -> Result<Option<SiteDoc>, ReadError> {
        todo!()
    }

    /// Every site that this version can read, closed routes included. Reads the disk: not on the request path.
    pub fn sites(&self) -> Result<Vec<SiteDoc>, ReadError> {
        todo!()
    }

    /// Every public certificate with the partition it was published in. Reads the disk: not on the request path.
    pub fn certificates(&self) -> Result<Vec<(Partition, CertificateDoc)>, ReadError> {
        todo!()
    }

    /// The platform document; `None` until the first contact. Reads the disk: not on the request path.
    pub fn platform(&self) -> Result<Option<PlatformDoc>, ReadError> {
        todo!()
    }

    /// The revision this copy has reached in a partition; 0: none. Memory only.
    pub fn revision(&self, partition: Partition) -> u64 {
        todo!()
    }

    /// How long ago this copy was last known to be up to date; `None`: never. Memory only.
    ///
    /// Survives a restart: the time of the last contact is on the disk.
    pub fn age(&self) -> Option<Duration> {
        todo!()
    }

    /// A listener for changes. What changed before this call is not told: subscribe first, then read.
    pub fn subscribe(&self) -> Changes {
        todo!()
    }
}

/// Hears what changes in a replica.
#[derive(Debug)]
pub struct Changes(());

impl Changes {
    /// Waits for the next change. Cancel safe.
    pub async fn changed(&mut self) -> Changed {
        todo!()
    }
}
