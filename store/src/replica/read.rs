//! Reading from the replica, on the caller's thread.
//!
//! A look-up by key is a walk of sled's tree in memory; pages that are not in the cache are read from the file, a few KiB
//! each. What is not meant for the request path says so.

use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::document::{
    AcmeChallengeDoc, ApiKeyDoc, CertificateDoc, DocumentKey, Partition, PlatformDoc, PrincipalDoc,
    RevocationDoc, TrustDoc,
};
use mezusphere_model::id::{ApiKeyId, EnvironmentId, ProjectId, SignInId};
use mezusphere_model::identity::Subject;
use mezusphere_model::route::{READER, SiteDoc};
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::TokenHash;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::disk::DiskError;
use super::record;
use super::{Replica, Shared};

/// Why a read gave no answer. The only safe conclusion is to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The disk failed.
    #[error("the replica cannot be read")]
    Disk,
    /// What was asked for is damaged; it is being fetched anew. Given only where "missing" would permit something.
    #[error("the replica is damaged and being mended")]
    Damaged,
    /// What was asked for may just not be here yet: its partition is being fetched for the first time, or is not here
    /// at all. Given only where "missing" would permit something.
    #[error("the replica does not have the partition yet")]
    Incomplete,
    /// It is there, but only a newer version can read it. What it says is unknown, so nothing may rest on it.
    #[error("the document needs a newer version")]
    TooNew,
}

/// What a look-up found.
enum Found<T> {
    Document(T),
    Missing,
    Damaged,
    /// Whole, but of a form this version does not know, or says itself that it needs a newer reader.
    TooNew,
}

impl<T> Found<T> {
    /// Where what is missing is refused, what is damaged may count as missing: it comes back by itself. What needs a newer
    /// version does not, and whoever asks control instead would get the same document by another way.
    fn or_missing(self) -> Result<Option<T>, ReadError> {
        match self {
            Self::Document(document) => Ok(Some(document)),
            Self::Missing | Self::Damaged => Ok(None),
            Self::TooNew => Err(ReadError::TooNew),
        }
    }

    /// Where "missing" would permit something: it must come from a partition that is or was whole.
    fn or_refuse(self, was_whole: bool) -> Result<Option<T>, ReadError> {
        match self {
            Self::Damaged => Err(ReadError::Damaged),
            Self::Missing if !was_whole => Err(ReadError::Incomplete),
            found => found.or_missing(),
        }
    }
}

impl Replica {
    /// The session whose token hashes to this. Two look-ups by key: memory when hot; on a miss reads of a few KiB.
    pub fn session(&self, token: &TokenHash) -> Result<Option<SessionDoc>, ReadError> {
        let found: Found<SessionDoc> = self.shared.find_indexed(&DocumentKey::session(token))?;
        // The document names its token itself, so that no mix-up can lend it to another.
        Ok(found.or_missing()?.filter(|session| session.token_hash == *token))
    }

    /// Somebody's principal in a project. One look-up, as cheap as [`Replica::session`].
    pub fn principal(&self, project: ProjectId, subject: Subject) -> Result<Option<PrincipalDoc>, ReadError> {
        let key = DocumentKey::principal(subject);
        let found: Found<PrincipalDoc> = self.shared.find(Partition::Project(project), &key)?;
        Ok(found.or_missing()?.filter(|doc| doc.project == project && doc.subject == subject))
    }

    /// An API key. As cheap as [`Replica::session`].
    pub fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyDoc>, ReadError> {
        let found: Found<ApiKeyDoc> = self.shared.find_indexed(&DocumentKey::api_key(id))?;
        Ok(found.or_missing()?.filter(|key| key.id == id))
    }

    /// Whether a sign-in has ended, as a project knows it. One look-up, as cheap as [`Replica::session`].
    ///
    /// # Errors
    /// [`ReadError::Damaged`], [`ReadError::Incomplete`] or [`ReadError::TooNew`] if it cannot be told.
    pub fn revocation(
        &self,
        project: ProjectId,
        sign_in: SignInId,
    ) -> Result<Option<RevocationDoc>, ReadError> {
        let partition = Partition::Project(project);
        // Before and after: between the two a partition may become whole, or be begun anew, but not both.
        let was_whole = self.shared.was_whole(partition);
        let found = self.shared.find(partition, &DocumentKey::revocation(sign_in))?;
        found.or_refuse(was_whole && self.shared.was_whole(partition))
    }

    /// An environment's signed bundle. Reads the disk: not on the request path.
    pub fn bundle(
        &self,
        project: ProjectId,
        environment: EnvironmentId,
    ) -> Result<Option<SignedBundle>, ReadError> {
        let key = DocumentKey::bundle(environment);
        self.shared.find(Partition::Project(project), &key)?.or_missing()
    }

    /// An environment's site; `None` also if it needs a newer reader. Reads the disk: not on the request path.
    pub fn site(&self, project: ProjectId, environment: EnvironmentId) -> Result<Option<SiteDoc>, ReadError> {
        let key = DocumentKey::site(environment);
        let found: Found<SiteDoc> = self.shared.find(Partition::Project(project), &key)?;
        Ok(found.or_missing()?.filter(|site| readable(site) && site.project == project))
    }

    /// Every site this version can read, routes that it cannot read included (they are closed when decided on).
    /// Reads the disk: not on the request path.
    pub fn sites(&self) -> Result<Vec<SiteDoc>, ReadError> {
        let sites = self.shared.find_all::<SiteDoc>("site/")?;
        let ours = |(partition, site): (Partition, SiteDoc)| {
            (readable(&site) && partition == Partition::Project(site.project)).then_some(site)
        };
        Ok(sites.into_iter().filter_map(ours).collect())
    }

    /// Every public certificate with the partition it was published in. Reads the disk: not on the request path.
    pub fn certificates(&self) -> Result<Vec<(Partition, CertificateDoc)>, ReadError> {
        self.shared.find_all("certificate/")
    }

    /// The platform document; `None` until the first contact. Reads the disk: not on the request path.
    pub fn platform(&self) -> Result<Option<PlatformDoc>, ReadError> {
        self.shared.find(Partition::Platform, &DocumentKey::platform())?.or_missing()
    }

    /// Whom the nodes of the installation trust, and who is denied; `None` until the first contact. Reads the disk: not on
    /// the request path.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] or [`ReadError::TooNew`] if it cannot be told: keep to what was read last.
    pub fn trust(&self) -> Result<Option<TrustDoc>, ReadError> {
        // Nobody is trusted on the word of a document that is missing, so it may be.
        self.shared.find(Partition::Platform, &DocumentKey::trust())?.or_refuse(true)
    }

    /// The challenge of a certificate authority with this token, expired ones included. One look-up, as cheap as
    /// [`Replica::session`].
    pub fn acme_challenge(&self, token: &str) -> Result<Option<AcmeChallengeDoc>, ReadError> {
        let key = DocumentKey::acme_challenge(token);
        let found: Found<AcmeChallengeDoc> = self.shared.find(Partition::Platform, &key)?;
        Ok(found.or_missing()?.filter(|challenge| challenge.token == token))
    }

    /// Every open challenge, for whoever must find one by its host (RFC 8737 §3). Reads the disk: not on the request path.
    pub fn acme_challenges(&self) -> Result<Vec<AcmeChallengeDoc>, ReadError> {
        let found = self.shared.find_all::<AcmeChallengeDoc>("acme-challenge/")?;
        let ours = |(partition, doc)| (partition == Partition::Platform).then_some(doc);
        Ok(found.into_iter().filter_map(ours).collect())
    }
}

fn readable(site: &SiteDoc) -> bool {
    if site.min_reader > READER {
        tracing::warn!(environment = %site.environment, "A site needs a newer version; it stays closed");
    }
    site.min_reader <= READER
}

impl Shared {
    /// A document of a partition.
    fn find<T: DeserializeOwned>(
        &self,
        partition: Partition,
        key: &DocumentKey,
    ) -> Result<Found<T>, ReadError> {
        let place = record::document_key(partition, key.as_str());
        let value = match self.disk.get(&place) {
            Ok(Some(value)) => value,
            Ok(None) => return Ok(Found::Missing),
            Err(why) => return self.failed(why),
        };
        let decoded =
            record::read_document(&*self.seal, &place, key.as_str(), &value, |body| decode(key, body));
        match decoded {
            Ok(Some(document)) => Ok(Found::Document(document)),
            Ok(None) => Ok(Found::TooNew),
            Err(record::BadRecord) => {
                self.damaged_value(partition);
                Ok(Found::Damaged)
            }
        }
    }

    /// A document found without knowing its partition.
    fn find_indexed<T: DeserializeOwned>(&self, key: &DocumentKey) -> Result<Found<T>, ReadError> {
        let Some(index) = record::index_key(key.as_str()) else { return Ok(Found::Missing) };
        let value = match self.disk.get(&index) {
            Ok(Some(value)) => value,
            Ok(None) => return Ok(Found::Missing),
            Err(why) => return self.failed(why),
        };
        let Ok(partition) = record::read_index(&index, &value) else {
            // Whose it was is lost with it.
            self.damaged_disk(DiskError::Damaged);
            return Ok(Found::Damaged);
        };
        self.find(partition, key)
    }

    /// Every document of a kind, from all partitions. Those that cannot be read are left out.
    fn find_all<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<(Partition, T)>, ReadError> {
        let mut partitions = self.partitions();
        partitions.sort_unstable();
        let mut found = Vec::new();
        for partition in partitions {
            let prefix = record::document_key(partition, kind);
            let mut keys = Vec::new();
            let scanned = self.disk.scan(&prefix, &prefix, |place, _| {
                keys.extend(record::parts_of_document_key(&place).map(|(_, key)| key));
                true
            });
            if let Err(why) = scanned {
                self.failed::<T>(why)?;
            }
            for key in keys {
                if let Found::Document(document) = self.find(partition, &key)? {
                    found.push((partition, document));
                }
            }
        }
        Ok(found)
    }

    /// Whether a partition has been whole since the database was begun.
    fn was_whole(&self, partition: Partition) -> bool {
        self.standing(partition).is_some_and(|standing| standing.was_whole)
    }

    fn failed<T>(&self, why: DiskError) -> Result<Found<T>, ReadError> {
        self.damaged_disk(why);
        match why {
            DiskError::Io => Err(ReadError::Disk),
            DiskError::Damaged => Ok(Found::Damaged),
        }
    }
}

/// The document in a body whose kind is the key's; `None` if this version cannot read it.
pub(super) fn decode<T: DeserializeOwned>(key: &DocumentKey, body: &[u8]) -> Option<T> {
    #[derive(serde::Deserialize)]
    struct Wrapped<'b> {
        #[serde(default)]
        min_reader: u64,
        #[serde(borrow)]
        kind: std::borrow::Cow<'b, str>,
        #[serde(borrow)]
        doc: &'b RawValue,
    }
    let wrapped: Wrapped<'_> = serde_json::from_slice(body).ok()?;
    let filed = key.as_str().split('/').next()?;
    // A key says `api-key` where the document says `api_key`.
    let same = filed.bytes().map(|b| if b == b'-' { b'_' } else { b }).eq(wrapped.kind.bytes());
    if !same || wrapped.min_reader > u64::from(READER) {
        tracing::warn!(key = filed, wrapped.min_reader, "A document needs a newer version; it is not used");
        return None;
    }
    match serde_json::from_str(wrapped.doc.get()) {
        Ok(document) => Some(document),
        Err(why) => {
            tracing::warn!(key = filed, %why, "A document cannot be read by this version; it is not used");
            None
        }
    }
}
