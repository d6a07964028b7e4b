//! An installation with operators, two projects with directories of their own, and the pages over it.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_identity::account::{self, Email, NewUser};
use mezusphere_identity::desk::Desk;
use mezusphere_identity::factor::password::{Password, PasswordPool, Peppers, PoolLimits};
use mezusphere_identity::history::History;
use mezusphere_identity::sign_in::Limits;
use mezusphere_identity::throttle::Throttle;
use mezusphere_model::clock::ManualClock;
use mezusphere_model::id::{DirectoryId, EnvironmentId, OrganizationId, ProjectId};
use mezusphere_model::platform::Platform;
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_model::slug::Slug;
use mezusphere_model::{Entropy, Host, Timestamp};
use mezusphere_store::primary::audit;
use mezusphere_store::primary::directory::Settings;
use mezusphere_store::primary::directory::{self, DirectoryRow};
use mezusphere_store::primary::environment::{self, EnvironmentRow};
use mezusphere_store::primary::host::{self, HostKind, HostRow};
use mezusphere_store::primary::organization::{self, OrganizationRow};
use mezusphere_store::primary::project::{self, ProjectRow};
use mezusphere_store::primary::user::UserRow;
use mezusphere_store::primary::{PageRequest, Tx, mail};
use mezusphere_store::{Primary, StoreError, WriteError};

use crate::login::{FormKey, Login, routes};
use crate::mail::Mail;
use crate::{MailConfig, MailWay};

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

/// A mail that waits to be sent.
#[derive(Debug)]
pub(super) struct Mailed {
    pub(super) to: String,
    pub(super) kind: String,
    /// Its link's path.
    pub(super) path: String,
    /// Nobody gets it.
    pub(super) decoy: bool,
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
    /// An installation that cannot send mail.
    pub(super) async fn new() -> Self {
        Self::with(Mail::none()).await
    }

    /// One that can. Nobody takes mails out of the queue: [`World::mails`] reads them.
    pub(super) async fn with_mail() -> Self {
        let config = MailConfig::new(MailWay::Log, "Mezusphere <no-reply@mezu.localhost>".parse().unwrap());
        let platform = Platform::development(8443).unwrap();
        Self::with(Mail::new(Some(config), &platform, ORIGIN.to_owned()).unwrap()).await
    }

    async fn with(mail: Mail) -> Self {
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
            desk: Desk {
                primary: primary.clone(),
                clock: hand.clock(),
                entropy: entropy.clone(),
                passwords: pool.clone(),
                throttle: Throttle::new(hand.clock(), &entropy),
                history: History::default(),
            },
            mail,
            platform: Platform::development(8443).unwrap(),
            origin: ORIGIN.to_owned(),
            limits: Limits { absolute: Duration::from_hours(12), idle: Duration::from_hours(2) },
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
                settings: Settings::default(),
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
            settings: Settings::default(),
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
        let (name, display_name) = ("Ada <Lovelace>".to_owned(), String::new());
        let new = NewUser { directory, email, name, display_name, claims, password };
        let now = self.hand.clock().now();
        self.primary.write(async |tx| account::create(tx, &self.entropy, now, new).await).await.unwrap()
    }

    /// Changes what a directory allows and looks like.
    pub(super) async fn settings(&self, directory: DirectoryId, change: impl FnOnce(&mut Settings)) {
        let mut settings = Settings::default();
        change(&mut settings);
        let organization = self.organization;
        let write = self
            .primary
            .write(async |tx| directory::update_settings(tx, organization, directory, &settings).await);
        write.await.unwrap();
    }

    /// The mails that were queued since it was last asked, oldest first.
    pub(super) async fn mails(&self) -> Vec<Mailed> {
        let claim: Result<_, StoreError> = self.primary.write(async |tx| mail::claim(tx, 1, 100).await).await;
        let read = |mail: mail::ClaimedMail| {
            let letter: serde_json::Value = serde_json::from_slice(&mail.body).unwrap();
            Mailed {
                to: mail.row.recipient,
                kind: mail.row.kind,
                path: letter["path"].as_str().unwrap_or_default().to_owned(),
                decoy: letter["decoy"] == true,
            }
        };
        claim.unwrap().into_iter().map(read).collect()
    }

    /// The link in the only mail of this kind that was queued since.
    pub(super) async fn link(&self, kind: &str) -> String {
        let mails = self.mails().await;
        let mut found = mails.iter().filter(|mail| mail.kind == kind && !mail.decoy);
        let path = found.next().unwrap_or_else(|| panic!("no {kind} among {mails:?}")).path.clone();
        assert!(found.next().is_none() && !path.is_empty(), "{mails:?}");
        path
    }

    /// What the audit log says happened, oldest first.
    pub(super) async fn audited(&self) -> Vec<String> {
        let list =
            self.primary.read(async |tx| audit::list(tx, self.organization, &PageRequest::first()).await);
        let rows: Result<_, StoreError> = list.await;
        rows.unwrap().rows.into_iter().rev().map(|row| row.entry.action).collect()
    }
}
