//! Where the view reads from: the replica, seen through the questions the edge asks of it.
//!
//! A trait, so that a test can make any single answer fail and prove that the edge then refuses (R1).

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::document::{ApiKeyDoc, Partition, PlatformDoc, PrincipalDoc, RevocationDoc, TrustDoc};
use mezusphere_model::id::{ApiKeyId, EnvironmentId, ProjectId, SignInId};
use mezusphere_model::identity::Subject;
use mezusphere_model::route::SiteDoc;
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::TokenHash;
use mezusphere_store::Replica;
use mezusphere_store::replica::{Changed, ReadError};

/// The documents an edge decides with. Each answer is one look-up in memory, or one short read of the disk.
pub trait Documents: Send + Sync + 'static {
    /// The session whose token hashes to this.
    fn session(&self, token: &TokenHash) -> Result<Option<SessionDoc>, ReadError>;

    /// Somebody's principal in a project.
    fn principal(&self, project: ProjectId, subject: Subject) -> Result<Option<PrincipalDoc>, ReadError>;

    /// An API key.
    fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyDoc>, ReadError>;

    /// Whether a sign-in has ended, as a project knows it.
    fn revocation(&self, project: ProjectId, sign_in: SignInId) -> Result<Option<RevocationDoc>, ReadError>;

    /// An environment's signed bundle.
    fn bundle(
        &self,
        project: ProjectId,
        environment: EnvironmentId,
    ) -> Result<Option<SignedBundle>, ReadError>;

    /// An environment's site.
    fn site(&self, project: ProjectId, environment: EnvironmentId) -> Result<Option<SiteDoc>, ReadError>;

    /// Every site.
    fn sites(&self) -> Result<Vec<SiteDoc>, ReadError>;

    /// The platform document; `None` until the first contact.
    fn platform(&self) -> Result<Option<PlatformDoc>, ReadError>;

    /// Whom to trust, and who was evicted; `None` until the first contact.
    fn trust(&self) -> Result<Option<TrustDoc>, ReadError>;

    /// The revision reached in a partition; 0: none.
    fn revision(&self, partition: Partition) -> u64;

    /// How long ago all this was last known to be up to date; `None`: never.
    fn age(&self) -> Option<Duration>;

    /// The same of one partition; `None` also for one that is not here.
    fn age_of(&self, partition: Partition) -> Option<Duration>;

    /// Every change after this call.
    fn subscribe(&self) -> BoxStream<'static, Changed>;
}

impl Documents for Replica {
    fn session(&self, token: &TokenHash) -> Result<Option<SessionDoc>, ReadError> {
        Self::session(self, token)
    }

    fn principal(&self, project: ProjectId, subject: Subject) -> Result<Option<PrincipalDoc>, ReadError> {
        Self::principal(self, project, subject)
    }

    fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyDoc>, ReadError> {
        Self::api_key(self, id)
    }

    fn revocation(&self, project: ProjectId, sign_in: SignInId) -> Result<Option<RevocationDoc>, ReadError> {
        Self::revocation(self, project, sign_in)
    }

    fn bundle(
        &self,
        project: ProjectId,
        environment: EnvironmentId,
    ) -> Result<Option<SignedBundle>, ReadError> {
        Self::bundle(self, project, environment)
    }

    fn site(&self, project: ProjectId, environment: EnvironmentId) -> Result<Option<SiteDoc>, ReadError> {
        Self::site(self, project, environment)
    }

    fn sites(&self) -> Result<Vec<SiteDoc>, ReadError> {
        Self::sites(self)
    }

    fn platform(&self) -> Result<Option<PlatformDoc>, ReadError> {
        Self::platform(self)
    }

    fn trust(&self) -> Result<Option<TrustDoc>, ReadError> {
        Self::trust(self)
    }

    fn revision(&self, partition: Partition) -> u64 {
        Self::revision(self, partition)
    }

    fn age(&self) -> Option<Duration> {
        Self::age(self)
    }

    fn age_of(&self, partition: Partition) -> Option<Duration> {
        Self::age_of(self, partition)
    }

    fn subscribe(&self) -> BoxStream<'static, Changed> {
        stream::unfold(Self::subscribe(self), |mut changes| async move {
            let changed = changes.changed().await;
            Some((changed, changes))
        })
        .boxed()
    }
}
