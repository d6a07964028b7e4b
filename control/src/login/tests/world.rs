//! An installation with operators, two projects with directories of their own, and the pages over it.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_identity::account::{self, Email, NewUser};
use mezusphere_identity::factor::password::{Password, PasswordPool, Peppers, PoolLimits};
use mezusphere_identity::sign_in::Limits;
use mezusphere_identity::throttle::Throttle;
use mezusphere_model::clock::ManualClock;
use mezusphere_model::id::{DirectoryId, EnvironmentId, OrganizationId, ProjectId};
use mezusphere_model::platform::Platform;
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_model::slug::Slug;
use mezusphere_model::{Entropy, Host, Timestamp};
use mezusphere_store::primary::audit;
use mezusphere_store::primary::directory::{self, DirectoryRow};
use mezusphere_store::primary::environment::{self, EnvironmentRow};
use mezusphere_store::primary::host::{self, HostKind, HostRow};
use mezusphere_store::primary::organization::{self, OrganizationRow};
use mezusphere_store::primary::project::{self, ProjectRow};
use mezusphere_store::primary::user::UserRow;
use mezusphere_store::primary::{PageRequest, Tx};
use mezusphere_store::{Primary, StoreError, WriteError};

use crate::login::{FormKey, Login, routes};

/// A password the rules take, of every user here.
pub(super) const GOOD: &str = "plum koala nine rulers";

/// The login host's origin.
pub(super) const ORIGIN: &str = "https://login.mezu.localhost:8443";

/// Nothing is sealed in these tests.
struct Open;

impl Seal for Open {
    fn seal(&self, _: &str, secret: &[u8]) -> Vec<u8> {
        secret.to_vec()
    }

    fn open(&self, _: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        Ok(sealed.to_vec())
    }
}

/// A project with its directory and its host.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) project: ProjectId,
    pub(super) directory: DirectoryId,
    pub(super) host: Host,
}

pub(super) struct World {
    pub(super) primary: Primary,
    pub(super) hand: ManualClock,
    pub(super) entropy: Entropy,
    pub(super) pool: PasswordPool,
    pub(super) organization: OrganizationId,
    /// Where operators live; `operator@mezu.localhost` does.
    pub(super) home: DirectoryId,
    /// `shop.localhost`; `ada@shop.example` lives there.
    pub(super) shop: Site,
    /// `blog.localhost`; `ada@blog.example` lives there.
    pub(super) blog: Site,
    pub(super) router: axum::Router,
    _dir: tempfile::TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hand = ManualClock::at(Timestamp::from_seconds(1_795_294_748));
        let entropy = Entropy::counting();
        let seal = Arc::new(Open);
        let primary = Primary::open_sqlite(dir.path(), hand.clock(), entropy.clone(), seal).await.unwrap();
        let pool = PasswordPool::start(Peppers::new(1, [7; 32]), PoolLimits::for_cores(1), &entropy).unwrap();
        let (organization, home) = (OrganizationId::random(&entropy), DirectoryId::random(&entropy));
        let site = |host: &str| Site {
            project: ProjectId::random(&entropy),
            directory: DirectoryId::random(&entropy),
            host: Host::parse(host).unwrap(),
        };
        let (shop, blog) = (site("shop.localhost"), site("blog.localhost"));
        let router = routes(Login {
            primary: primary.clone(),
            clock: hand.clock(),
            entropy: entropy.clone(),
            platform: Platform::development(8443).unwrap(),
            origin: ORIGIN.to_owned(),
            limits: Limits { absolute: Duration::from_hours(12), idle: Duration::from_hours(2) },
            passwords: pool.clone(),
            throttle: Throttle::new(hand.clock(), &entropy),
            form_key: FormKey::from_secret(&[9; 32]),
            home: (organization, home),
        });
        let world = Self { primary, hand, entropy, pool, organization, home, shop, blog, router, _dir: dir };
        world.furnish().await;
        world
    }

    async fn furnish(&self) {
        let created_at = self.hand.clock().now();
        let organization = self.organization;
        let write = self.primary.write(async |tx| {
            let slug = Slug::parse("default").unwrap();
            let row = OrganizationRow { id: organization, slug, name: "Default".to_owned(), created_at };
            organization::insert(tx, &row).await?;
            let name = "Operators".to_owned();
            let row = DirectoryRow {
                id: self.home,
                organization,
                project: None,
                name,
                settings: directory::Settings::default(),
                created_at,
            };
            directory::insert(tx, &row).await?;
            self.site(tx, &self.shop, "shop", "Shop").await?;
            self.site(tx, &self.blog, "blog", "The Blog").await
        });
        write.await.unwrap();
        self.user(self.home, "operator@mezu.localhost", Some(GOOD)).await;
        self.user(self.shop.directory, "ada@shop.example", Some(GOOD)).await;
        self.user(self.blog.directory, "ada@blog.example", Some(GOOD)).await;
    }

    /// One more project, with `ada@<slug>.example` in its directory.
    pub(super) async fn another(&self, slug: &str) {
        let site = Site {
            project: ProjectId::random(&self.entropy),
            directory: DirectoryId::random(&self.entropy),
            host: Host::parse(&format!("{slug}.localhost")).unwrap(),
        };
        self.primary.write(async |tx| self.site(tx, &site, slug, slug).await).await.unwrap();
        self.user(site.directory, &format!("ada@{slug}.example"), Some(GOOD)).await;
    }

    async fn site(&self, tx: &mut Tx, site: &Site, slug: &str, name: &str) -> Result<(), WriteError> {
        let created_at = tx.now();
        let (organization, project, directory) = (self.organization, site.project, site.directory);
        let row = DirectoryRow {
            id: directory,
            organization,
            project: Some(project),
            name: slug.to_owned(),
            settings: directory::Settings::default(),
            created_at,
        };
        directory::insert(tx, &row).await?;
        let slug = Slug::parse(slug).unwrap();
        let row =
            ProjectRow { id: project, organization, directory, slug, name: name.to_owned(), created_at };
        project::insert(tx, &row).await?;
        let environment = EnvironmentId::random(&self.entropy);
        let slug = Slug::parse("production").unwrap();
        let row = EnvironmentRow { id: environment, project, slug, site_revision: 0, created_at };
        environment::insert(tx, &row).await?;
        let kind = HostKind::Endpoint;
        host::insert(tx, &HostRow { host: site.host.clone(), project, environment, kind, created_at }).await
    }

    pub(super) async fn user(&self, directory: DirectoryId, email: &str, password: Option<&str>) -> UserRow {
        let password = match password {
            Some(text) => {
                Some(self.pool.set(Password::new(text.to_owned()).unwrap(), Vec::new()).await.unwrap())
            }
            None => None,
        };
        let email = Email::parse(email).unwrap();
        let claims = std::collections::BTreeMap::new();
        let new = NewUser { directory, email, name: "Ada <Lovelace>".to_owned(), claims, password };
        let now = self.hand.clock().now();
        self.primary.write(async |tx| account::create(tx, &self.entropy, now, new).await).await.unwrap()
    }

    /// What the audit log says happened, oldest first.
    pub(super) async fn audited(&self) -> Vec<String> {
        let list =
            self.primary.read(async |tx| audit::list(tx, self.organization, &PageRequest::first()).await);
        let rows: Result<_, StoreError> = list.await;
        rows.unwrap().rows.into_iter().rev().map(|row| row.entry.action).collect()
    }
}
