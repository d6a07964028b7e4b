//! A replica in memory whose every answer can be made to fail.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use mezusphere_edge::view::documents::Documents;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::document::{
    ApiKeyDoc, Document, DocumentKey, Partition, PlatformDoc, PrincipalDoc, RevocationDoc, TrustDoc,
};
use mezusphere_model::id::{ApiKeyId, EnvironmentId, ProjectId, SignInId};
use mezusphere_model::identity::Subject;
use mezusphere_model::route::SiteDoc;
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::TokenHash;
use mezusphere_store::Replica;
use mezusphere_store::replica::{Changed, ChangedKey, ReadError};
use tokio::sync::broadcast;

pub(crate) struct FakeDocuments {
    filed: Mutex<BTreeMap<(Partition, DocumentKey), Document>>,
    revision: Mutex<u64>,
    failing: Mutex<HashSet<&'static str>>,
    age: Mutex<Option<Duration>>,
    /// Partitions that are up to date, whatever the age of all.
    followed: Mutex<HashSet<Partition>>,
    /// Whose age counts instead.
    replica: Mutex<Option<Arc<Replica>>>,
    changes: broadcast::Sender<Changed>,
}

impl FakeDocuments {
    pub(crate) fn new() -> Self {
        Self {
            filed: Mutex::default(),
            revision: Mutex::new(1),
            failing: Mutex::default(),
            age: Mutex::new(Some(Duration::ZERO)),
            followed: Mutex::default(),
            replica: Mutex::default(),
            changes: broadcast::Sender::new(64),
        }
    }

    /// The same, on its own from here.
    pub(crate) fn copy(&self) -> Self {
        Self {
            filed: Mutex::new(self.filed.lock().unwrap().clone()),
            revision: Mutex::new(*self.revision.lock().unwrap()),
            ..Self::new()
        }
    }

    /// Files a document and tells whoever listens.
    pub(crate) fn publish(&self, partition: Partition, document: Document) {
        let key = document.key();
        self.filed.lock().unwrap().insert((partition, key.clone()), document);
        self.tell(partition, key);
    }

    pub(crate) fn retract(&self, partition: Partition, key: DocumentKey) {
        self.filed.lock().unwrap().remove(&(partition, key.clone()));
        self.tell(partition, key);
    }

    fn tell(&self, partition: Partition, key: DocumentKey) {
        *self.revision.lock().unwrap() += 1;
        drop(self.changes.send(Changed::Keys(Arc::from([ChangedKey { partition, key }]))));
    }

    /// Makes the answers of these methods fail.
    pub(crate) fn fail(&self, methods: &[&'static str]) {
        *self.failing.lock().unwrap() = methods.iter().copied().collect();
        drop(self.changes.send(Changed::Everything));
    }

    /// Makes them work again without telling anybody.
    pub(crate) fn heal(&self) {
        self.failing.lock().unwrap().clear();
    }

    /// Makes them fail without telling anybody.
    pub(crate) fn break_down(&self, methods: &[&'static str]) {
        *self.failing.lock().unwrap() = methods.iter().copied().collect();
    }

    pub(crate) fn set_age(&self, age: Option<Duration>) {
        *self.age.lock().unwrap() = age;
    }

    /// These partitions are up to date from now on, whatever the age of all.
    pub(crate) fn follow(&self, partitions: &[Partition]) {
        *self.followed.lock().unwrap() = partitions.iter().copied().collect();
    }

    /// From now on all this is as old as what a real replica holds.
    pub(crate) fn age_with(&self, replica: Option<Arc<Replica>>) {
        *self.replica.lock().unwrap() = replica;
    }

    pub(crate) fn set_revision(&self, revision: u64) {
        *self.revision.lock().unwrap() = revision;
    }

    fn find<T>(
        &self,
        method: &'static str,
        key: &DocumentKey,
        pick: impl Fn(&Document) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        if self.failing.lock().unwrap().contains(method) {
            return Err(ReadError::Disk);
        }
        let filed = self.filed.lock().unwrap();
        Ok(filed.iter().find(|((_, filed), _)| filed == key).and_then(|(_, document)| pick(document)))
    }
}

macro_rules! pick {
    ($kind:ident) => {
        |document: &Document| match document {
            Document::$kind(doc) => Some(doc.clone()),
            _ => None,
        }
    };
}

impl Documents for FakeDocuments {
    fn session(&self, token: &TokenHash) -> Result<Option<SessionDoc>, ReadError> {
        self.find("session", &DocumentKey::session(token), pick!(Session))
    }

    fn principal(&self, _: ProjectId, subject: Subject) -> Result<Option<PrincipalDoc>, ReadError> {
        self.find("principal", &DocumentKey::principal(subject), pick!(Principal))
    }

    fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyDoc>, ReadError> {
        self.find("api_key", &DocumentKey::api_key(id), pick!(ApiKey))
    }

    fn revocation(&self, _: ProjectId, sign_in: SignInId) -> Result<Option<RevocationDoc>, ReadError> {
        self.find("revocation", &DocumentKey::revocation(sign_in), pick!(Revocation))
    }

    fn bundle(&self, _: ProjectId, environment: EnvironmentId) -> Result<Option<SignedBundle>, ReadError> {
        self.find("bundle", &DocumentKey::bundle(environment), pick!(Bundle))
    }

    fn site(&self, _: ProjectId, environment: EnvironmentId) -> Result<Option<SiteDoc>, ReadError> {
        Ok(self.find("site", &DocumentKey::site(environment), pick!(Site))?.map(|site| *site))
    }

    fn sites(&self) -> Result<Vec<SiteDoc>, ReadError> {
        if self.failing.lock().unwrap().contains("sites") {
            return Err(ReadError::Disk);
        }
        let filed = self.filed.lock().unwrap();
        Ok(filed.values().filter_map(pick!(Site)).map(|site| *site).collect())
    }

    fn platform(&self) -> Result<Option<PlatformDoc>, ReadError> {
        self.find("platform", &DocumentKey::platform(), pick!(Platform))
    }

    fn trust(&self) -> Result<Option<TrustDoc>, ReadError> {
        self.find("trust", &DocumentKey::trust(), pick!(Trust))
    }

    fn revision(&self, _: Partition) -> u64 {
        *self.revision.lock().unwrap()
    }

    fn age(&self) -> Option<Duration> {
        match &*self.replica.lock().unwrap() {
            Some(replica) => replica.age(),
            None => *self.age.lock().unwrap(),
        }
    }

    fn age_of(&self, partition: Partition) -> Option<Duration> {
        match &*self.replica.lock().unwrap() {
            Some(replica) => replica.age_of(partition),
            None if self.followed.lock().unwrap().contains(&partition) => Some(Duration::ZERO),
            None => *self.age.lock().unwrap(),
        }
    }

    fn subscribe(&self) -> BoxStream<'static, Changed> {
        stream::unfold(self.changes.subscribe(), |mut changes| async move {
            let changed = changes.recv().await.unwrap_or(Changed::Everything);
            Some((changed, changes))
        })
        .boxed()
    }
}
