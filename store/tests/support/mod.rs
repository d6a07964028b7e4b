//! What the store's tests share: a seal, a world of two tenants to put rows into, and documents.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest;
use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::{Document, DocumentKey, Partition, Status};
use mezusphere_model::id::{
    ApiKeyId, DirectoryId, EnvironmentId, OrganizationId, ProjectId, RouteId, ServiceAccountId, SessionId,
    SignInId, UserId,
};
use mezusphere_model::identity::{Assurance, Method};
use mezusphere_model::route::{AuthMode, PathMatch, RouteDoc};
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_model::session::SessionDoc;
use mezusphere_model::slug::{Name, Slug};
use mezusphere_model::token::Token;
use mezusphere_model::{Entropy, Host, Timestamp};
use mezusphere_store::Primary;
use mezusphere_store::feed::FeedSource as _;
use mezusphere_store::primary::PostgresConfig;
use mezusphere_store::primary::api_key::ApiKeyRow;
use mezusphere_store::primary::directory::DirectoryRow;
use mezusphere_store::primary::environment::EnvironmentRow;
use mezusphere_store::primary::host::{HostKind, HostRow};
use mezusphere_store::primary::organization::OrganizationRow;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::service_account::ServiceAccountRow;
use mezusphere_store::primary::sign_in::SignInRow;
use mezusphere_store::primary::user::UserRow;
use mezusphere_store::primary::{
    Tx, WriteError, api_key, directory, environment, host, organization, project, service_account, session,
    sign_in, user,
};

/// A seal that hides and authenticates well enough for tests: XOR with a hash stream, and a hash over all.
pub(crate) struct TestSeal(pub(crate) u8);

impl TestSeal {
    fn stream(&self, len: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        for block in 0_u32.. {
            if stream.len() >= len {
                break;
            }
            let seed = [&[self.0][..], &block.to_be_bytes()].concat();
            stream.extend_from_slice(digest::digest(&digest::SHA256, &seed).as_ref());
        }
        stream
    }

    fn tag(&self, context: &str, secret: &[u8]) -> Vec<u8> {
        let all = [&[self.0][..], context.as_bytes(), &[0], secret].concat();
        digest::digest(&digest::SHA256, &all).as_ref().to_vec()
    }
}

impl Seal for TestSeal {
    fn seal(&self, context: &str, secret: &[u8]) -> Vec<u8> {
        let hidden = secret.iter().zip(self.stream(secret.len())).map(|(a, b)| a ^ b);
        self.tag(context, secret).into_iter().chain(hidden).collect()
    }

    fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        let (tag, hidden) = sealed.split_at_checked(32).ok_or(UnsealError)?;
        let secret: Vec<u8> = hidden.iter().zip(self.stream(hidden.len())).map(|(a, b)| a ^ b).collect();
        if self.tag(context, &secret) == tag { Ok(secret) } else { Err(UnsealError) }
    }
}

/// A seal of several keys, the first in use and the others to go; in front of a value stands which it is of.
pub(crate) struct TestRing(Mutex<Vec<u8>>);

impl TestRing {
    pub(crate) fn of(keys: &[u8]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(keys.to_vec())))
    }

    /// These keys from now on.
    pub(crate) fn set(&self, keys: &[u8]) {
        *self.0.lock().unwrap() = keys.to_vec();
    }
}

impl Seal for TestRing {
    fn seal(&self, context: &str, secret: &[u8]) -> Vec<u8> {
        let key = self.0.lock().unwrap()[0];
        [vec![key], TestSeal(key).seal(context, secret)].concat()
    }

    fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        let (key, sealed) = sealed.split_first().ok_or(UnsealError)?;
        let known = self.0.lock().unwrap().contains(key);
        if known { TestSeal(*key).open(context, sealed) } else { Err(UnsealError) }
    }

    fn outdated(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().iter().skip(1).map(|key| vec![*key]).collect()
    }
}

pub(crate) fn seal() -> Arc<dyn Seal> {
    TestRing::of(&[1])
}

/// 2026-11-21.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_795_219_200);

/// A primary with the clock and the randomness it was given.
pub(crate) struct Store {
    pub(crate) primary: Primary,
    pub(crate) ring: Arc<TestRing>,
    pub(crate) hand: ManualClock,
    pub(crate) entropy: Entropy,
    pub(crate) dir: tempfile::TempDir,
}

impl Store {
    pub(crate) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (hand, entropy) = (ManualClock::at(START), Entropy::counting());
        let ring = TestRing::of(&[1]);
        let seal = Arc::clone(&ring) as Arc<dyn Seal>;
        let primary = Primary::open_sqlite(dir.path(), hand.clock(), entropy.clone(), seal).await.unwrap();
        Self { primary, ring, hand, entropy, dir }
    }

    pub(crate) async fn postgres(config: PostgresConfig) -> Self {
        let (hand, entropy) = (ManualClock::at(START), Entropy::counting());
        let ring = TestRing::of(&[1]);
        let seal = Arc::clone(&ring) as Arc<dyn Seal>;
        let primary = Primary::open_postgres(config, hand.clock(), entropy.clone(), seal).await.unwrap();
        Self { primary, ring, hand, entropy, dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.hand.clock().now()
    }

    /// An organization with one project of this name.
    pub(crate) async fn tenant(&self, name: &str) -> Tenant {
        let tenant = Tenant {
            organization: OrganizationId::random(&self.entropy),
            directory: DirectoryId::random(&self.entropy),
            project: ProjectId::random(&self.entropy),
            environment: EnvironmentId::random(&self.entropy),
            host: Host::parse(&format!("{name}.localhost")).unwrap(),
        };
        let slug = Slug::parse(name).unwrap();
        let at = self.now();
        self.primary
            .write(async |tx| {
                let Tenant { organization, directory, project, environment, host } = tenant.clone();
                organization::insert(
                    tx,
                    &OrganizationRow {
                        id: organization,
                        slug: slug.clone(),
                        name: name.to_owned(),
                        created_at: at,
                    },
                )
                .await?;
                directory::insert(
                    tx,
                    &DirectoryRow {
                        id: directory,
                        organization,
                        project: Some(project),
                        name: name.to_owned(),
                        settings: directory::Settings::default(),
                        created_at: at,
                    },
                )
                .await?;
                project::insert(
                    tx,
                    &ProjectRow {
                        id: project,
                        organization,
                        directory,
                        slug: slug.clone(),
                        name: name.to_owned(),
                        created_at: at,
                    },
                )
                .await?;
                environment::insert(
                    tx,
                    &EnvironmentRow {
                        id: environment,
                        project,
                        slug: Slug::parse("production").unwrap(),
                        site_revision: 0,
                        created_at: at,
                    },
                )
                .await?;
                host::insert(
                    tx,
                    &HostRow { host, project, environment, kind: HostKind::Endpoint, created_at: at },
                )
                .await
            })
            .await
            .unwrap();
        tenant
    }

    /// A user of the tenant's directory.
    pub(crate) async fn user(&self, tenant: &Tenant, email: &str) -> UserId {
        let id = UserId::random(&self.entropy);
        let row = user_row(id, tenant.directory, email, self.now());
        self.primary.write(async |tx| user::insert(tx, &row).await).await.unwrap();
        id
    }

    /// A sign-in of the user, good for a day.
    pub(crate) async fn sign_in(&self, tenant: &Tenant, user: UserId) -> (SignInId, Token) {
        let (row, token) = self.sign_in_row(tenant, user);
        self.primary.write(async |tx| sign_in::insert(tx, &row).await).await.unwrap();
        (row.id, token)
    }

    pub(crate) fn sign_in_row(&self, tenant: &Tenant, user: UserId) -> (SignInRow, Token) {
        let token = Token::random(&self.entropy);
        let at = self.now();
        let row = SignInRow {
            id: SignInId::random(&self.entropy),
            token_hash: token.hash(),
            directory: tenant.directory,
            user,
            methods: vec![Method::Password],
            assurance: Assurance::Aal1,
            authenticated_at: at,
            created_at: at,
            expires_at: at.after(Duration::from_hours(24)),
            idle_s_max: 3600,
            seen_at: at,
            address: "192.0.2.1".to_owned(),
            agent: "test".to_owned(),
            ended_at: None,
        };
        (row, token)
    }

    /// A session of the sign-in on the tenant's host, not stored yet.
    pub(crate) fn session_doc(
        &self,
        tenant: &Tenant,
        user: UserId,
        sign_in: SignInId,
    ) -> (SessionDoc, Token) {
        let token = Token::random(&self.entropy);
        let at = self.now();
        let doc = SessionDoc {
            id: SessionId::random(&self.entropy),
            token_hash: token.hash(),
            sign_in,
            user,
            project: tenant.project,
            host: tenant.host.clone(),
            methods: vec![Method::Password],
            assurance: Assurance::Aal1,
            authenticated_at: at,
            issued_at: at,
            expires_at: at.after(Duration::from_hours(8)),
            idle_s_max: 1800,
            seen_at: at,
        };
        (doc, token)
    }

    /// A stored session.
    pub(crate) async fn session(
        &self,
        tenant: &Tenant,
        user: UserId,
        sign_in: SignInId,
    ) -> (SessionDoc, Token) {
        let (doc, token) = self.session_doc(tenant, user, sign_in);
        self.primary.write(async |tx| session::insert(tx, &doc).await).await.unwrap();
        (doc, token)
    }

    /// A service account with one key.
    pub(crate) async fn key(&self, tenant: &Tenant, name: &str) -> (ServiceAccountId, ApiKeyRow) {
        let account = ServiceAccountId::random(&self.entropy);
        let row = self.key_row(tenant, account);
        self.primary
            .write(async |tx| {
                service_account::insert(
                    tx,
                    &ServiceAccountRow {
                        id: account,
                        project: tenant.project,
                        name: name.to_owned(),
                        description: String::new(),
                        status: Status::Active,
                        version: 1,
                        created_at: self.now(),
                    },
                )
                .await?;
                api_key::insert(tx, &row).await
            })
            .await
            .unwrap();
        (account, row)
    }

    pub(crate) fn key_row(&self, tenant: &Tenant, account: ServiceAccountId) -> ApiKeyRow {
        ApiKeyRow {
            id: ApiKeyId::random(&self.entropy),
            secret_hash: Token::random(&self.entropy).hash(),
            project: tenant.project,
            account,
            environment: None,
            scopes: vec![name("connect")],
            hint: "abcd".to_owned(),
            created_at: self.now(),
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        }
    }

    pub(crate) fn route(&self, path: &str) -> RouteDoc {
        let path = PathMatch::parse(path).unwrap();
        let upstream = Slug::parse("default").unwrap();
        RouteDoc::new(RouteId::random(&self.entropy), path, AuthMode::Required, upstream)
    }
}

/// The ids of a tenant.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) organization: OrganizationId,
    pub(crate) directory: DirectoryId,
    pub(crate) project: ProjectId,
    pub(crate) environment: EnvironmentId,
    pub(crate) host: Host,
}

pub(crate) fn user_row(id: UserId, directory: DirectoryId, email: &str, at: Timestamp) -> UserRow {
    UserRow {
        id,
        directory,
        email: email.to_owned(),
        email_verified_at: None,
        name: email.to_owned(),
        display_name: String::new(),
        status: Status::Active,
        claims: BTreeMap::default(),
        version: 1,
        sessions_valid_from: Timestamp::default(),
        signed_in_at: None,
        created_at: at,
        updated_at: at,
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A write whose error is the store's own.
pub(crate) async fn write<T>(
    primary: &Primary,
    work: impl AsyncFnOnce(&mut Tx) -> Result<T, WriteError> + Clone,
) -> Result<T, WriteError> {
    primary.write(work).await
}

/// The document that stands under a key on the feed.
pub(crate) async fn published(
    primary: &Primary,
    partition: Partition,
    key: &DocumentKey,
) -> Option<Document> {
    let mut after = None;
    loop {
        let page = primary.snapshot(partition, after, 1000).await.unwrap();
        if let Some(filed) = page.documents.iter().find(|filed| filed.key == *key) {
            return Some(serde_json::from_str(filed.body.get()).unwrap());
        }
        after = page.documents.last().map(|filed| filed.key.clone());
        if !page.more {
            return None;
        }
    }
}
