//! A primary with one organization, one directory and one project, a clock that stands still, and a password pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_identity::account::{self, Email, NewUser};
use mezusphere_identity::desk::{Desk, Visit};
use mezusphere_identity::factor::password::{
    Password, PasswordHash, PasswordPool, Peppers, PoolLimits, ProveError, prove,
};
use mezusphere_identity::flow::login::{Login, Step};
use mezusphere_identity::flow::{Authenticated, Onward};
use mezusphere_identity::history::History;
use mezusphere_identity::message::{Message, MessageKind};
use mezusphere_identity::sign_in::{self, Destination, Limits, Place, SignedIn};
use mezusphere_identity::throttle::Throttle;
use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, EnvironmentId, OrganizationId, ProjectId};
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_model::slug::Slug;
use mezusphere_model::token::Token;
use mezusphere_model::{Entropy, Host, Timestamp};
use mezusphere_store::Primary;
use mezusphere_store::primary::ReadTx;
use mezusphere_store::primary::directory::{self, DirectoryRow, Settings, SignUp};
use mezusphere_store::primary::environment::{self, EnvironmentRow};
use mezusphere_store::primary::host::{self, HostKind, HostRow};
use mezusphere_store::primary::organization::{self, OrganizationRow};
use mezusphere_store::primary::project::{self, ProjectRow};
use mezusphere_store::primary::sign_in::SignInRow;
use mezusphere_store::primary::user::{self, UserRow};
use mezusphere_store::{StoreError, WriteError};

/// A password the rules take.
pub(crate) const GOOD: &str = "plum koala nine rulers";

/// How long sign-ins last here.
pub(crate) const LIMITS: Limits =
    Limits { absolute: Duration::from_hours(12), idle: Duration::from_hours(2) };

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

pub(crate) struct World {
    pub(crate) primary: Primary,
    pub(crate) hand: ManualClock,
    pub(crate) entropy: Entropy,
    pub(crate) pool: PasswordPool,
    pub(crate) directory: DirectoryId,
    pub(crate) project: ProjectId,
    pub(crate) environment: EnvironmentId,
    pub(crate) desk: Desk,
    organization: OrganizationId,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hand = ManualClock::at(Timestamp::from_seconds(1_795_294_748));
        let entropy = Entropy::counting();
        let primary =
            Primary::open_sqlite(dir.path(), hand.clock(), entropy.clone(), Arc::new(Open)).await.unwrap();
        let peppers = Peppers::new(1, [7; 32]);
        let pool = PasswordPool::start(peppers, PoolLimits::for_cores(1), &entropy).unwrap();
        let desk = Desk {
            primary: primary.clone(),
            clock: hand.clock(),
            entropy: entropy.clone(),
            passwords: pool.clone(),
            throttle: Throttle::new(hand.clock(), &entropy),
            history: History::default(),
        };
        let world = Self {
            primary,
            pool,
            desk,
            organization: OrganizationId::random(&entropy),
            directory: DirectoryId::random(&entropy),
            project: ProjectId::random(&entropy),
            environment: EnvironmentId::random(&entropy),
            hand,
            entropy,
            _dir: dir,
        };
        world.furnish().await;
        world
    }

    async fn furnish(&self) {
        let organization = self.organization;
        let created_at = self.now();
        let slug = |text| Slug::parse(text).unwrap();
        let name = "Shop".to_owned();
        let write = self.primary.write(async |tx| {
            let row =
                OrganizationRow { id: organization, slug: slug("acme"), name: "Acme".to_owned(), created_at };
            organization::insert(tx, &row).await?;
            let (id, project) = (self.directory, Some(self.project));
            directory::insert(
                tx,
                &DirectoryRow {
                    id,
                    organization,
                    project,
                    name: name.clone(),
                    settings: Settings::default(),
                    created_at,
                },
            )
            .await?;
            let (id, directory) = (self.project, self.directory);
            let row = ProjectRow { id, organization, directory, slug: slug("shop"), name, created_at };
            project::insert(tx, &row).await?;
            let (id, project) = (self.environment, self.project);
            let row = EnvironmentRow { id, project, slug: slug("production"), site_revision: 0, created_at };
            environment::insert(tx, &row).await?;
            let (environment, kind) = (self.environment, HostKind::Endpoint);
            let host = self.destination().host;
            host::insert(tx, &HostRow { host, project, environment, kind, created_at }).await
        });
        write.await.unwrap();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.hand.clock().now()
    }

    /// The directory's row as it is now.
    pub(crate) async fn directory(&self) -> DirectoryRow {
        let id = self.directory;
        self.read(async |tx| directory::by_id(tx, id).await).await.unwrap().unwrap()
    }

    /// Says who may sign up.
    pub(crate) async fn allow(&self, sign_up: SignUp) {
        let settings = Settings { sign_up, ..Settings::default() };
        let (organization, id) = (self.organization, self.directory);
        let write = self.write(async |tx| directory::update_settings(tx, organization, id, &settings).await);
        write.await.unwrap();
    }

    /// Suspends or resumes a user.
    pub(crate) async fn set_status(&self, user: &UserRow, status: Status) {
        let write = self.write(async |tx| account::set_status(tx, user.directory, user.id, status).await);
        write.await.unwrap();
    }

    /// A user as they are now.
    pub(crate) async fn reload(&self, user: &UserRow) -> UserRow {
        self.read(async |tx| user::get(tx, user.directory, user.id).await).await.unwrap().unwrap()
    }

    /// The user with this address, if there is one.
    pub(crate) async fn find(&self, email: &str) -> Option<UserRow> {
        let directory = self.directory;
        self.read(async |tx| user::find(tx, directory, email).await).await.unwrap()
    }

    /// Signs in, and is who is signed in.
    pub(crate) async fn signed_in(&self, email: &str) -> (SignedIn, Token) {
        let (_, token) = self.sign_in(email, None).await;
        (self.resolve(&token).await.unwrap(), token)
    }

    /// Who holds this token.
    pub(crate) async fn resolve(&self, token: &Token) -> Option<SignedIn> {
        self.read(async |tx| sign_in::resolve(tx, token).await).await.unwrap()
    }

    pub(crate) async fn read<T>(
        &self,
        work: impl AsyncFnOnce(&mut ReadTx) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.primary.read(work).await
    }

    pub(crate) async fn hash(&self, password: &str) -> PasswordHash {
        self.pool.set(typed(password), Vec::new()).await.unwrap()
    }

    /// A user; with a password if one is given.
    pub(crate) async fn user(&self, email: &str, password: Option<&str>) -> UserRow {
        let hash = match password {
            Some(password) => Some(self.hash(password).await),
            None => None,
        };
        let new = NewUser {
            directory: self.directory,
            email: Email::parse(email).unwrap(),
            name: String::new(),
            display_name: String::new(),
            claims: BTreeMap::new(),
            password: hash,
        };
        let now = self.now();
        self.primary.write(async |tx| account::create(tx, &self.entropy, now, new).await).await.unwrap()
    }

    /// Runs a sign-in flow with this password.
    pub(crate) async fn authenticate(
        &self,
        email: &str,
        password: &str,
    ) -> Result<Authenticated, ProveError> {
        let mut flow = Login::begin(&self.entropy, self.directory, self.now());
        let proof = prove(&self.primary, &self.pool, self.directory, email, typed(password)).await?;
        let Ok(Step::SignedIn(who)) = flow.prove(proof, self.now()) else { panic!("one factor is enough") };
        Ok(who)
    }

    /// Signs in, as a browser that holds `held`.
    pub(crate) async fn sign_in(&self, email: &str, held: Option<&Token>) -> (SignInRow, Token) {
        let who = self.authenticate(email, GOOD).await.unwrap();
        let place = Place { address: "192.0.2.7".to_owned(), agent: "Browser\u{7}/1".to_owned() };
        let begin = self.primary.write(async |tx| {
            sign_in::begin(tx, &self.entropy, self.directory, &who, LIMITS, &place, held).await
        });
        begin.await.unwrap()
    }

    /// Whether this token is a good sign-in.
    pub(crate) async fn is_signed_in(&self, token: &Token) -> bool {
        let found: Result<_, StoreError> =
            self.primary.read(async |tx| sign_in::resolve(tx, token).await).await;
        found.unwrap().is_some()
    }

    pub(crate) fn destination(&self) -> Destination {
        Destination {
            project: self.project,
            environment: self.environment,
            host: Host::parse("shop.localhost").unwrap(),
            state_hash: "state".to_owned(),
            return_to: "/orders".to_owned(),
        }
    }

    pub(crate) async fn write<T, E>(
        &self,
        work: impl AsyncFnOnce(&mut mezusphere_store::primary::Tx) -> Result<T, E> + Clone,
    ) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        self.primary.write(work).await
    }
}

/// Somebody at a desk, in a network of their own.
pub(crate) fn visit(network: u8) -> Visit {
    Visit { address: [192, 0, network, 7].into(), agent: "Browser/1".to_owned() }
}

pub(crate) fn place() -> Place {
    visit(2).place()
}

pub(crate) fn onward() -> Onward {
    Onward { host: Host::parse("shop.localhost").unwrap(), return_to: "/orders?page=2".to_owned() }
}

/// The token of the one mail there is.
pub(crate) fn mailed(messages: &[Message]) -> Token {
    let [message] = messages else { panic!("one mail, not {messages:?}") };
    match &message.kind {
        MessageKind::SignUp { token }
        | MessageKind::VerifyEmail { token }
        | MessageKind::Recovery { token }
        | MessageKind::Invitation { token, .. }
        | MessageKind::ChangeEmail { token } => token.clone(),
        other => panic!("no link in {other:?}"),
    }
}

/// Links that lead nowhere: cut short, altered, none at all.
pub(crate) fn mutilated(token: &Token) -> Vec<String> {
    let text = token.reveal();
    let swapped: String = text.chars().rev().collect();
    vec![
        String::new(),
        text[..42].to_owned(),
        format!("{text}A"),
        swapped,
        text.to_lowercase(),
        "é".repeat(43),
    ]
}

pub(crate) fn typed(text: &str) -> Password {
    Password::new(text.to_owned()).unwrap()
}

/// What a refused write was refused for.
pub(crate) fn conflict(error: &WriteError) -> Option<mezusphere_store::primary::Taken> {
    match error {
        WriteError::Conflict { what } => Some(*what),
        _ => None,
    }
}
