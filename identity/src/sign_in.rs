//! Sign-ins: somebody is signed in at the login host. Sessions on app hosts are its children and end with it.
//!
//! ```text
//!  begin ──▶ live ──resolve / hand_off──▶ live
//!             │ expires_at, idle, user inactive, password changed ──▶ not good any more
//!             └─ ended (sign-out, replaced by the next sign-in)   ──▶ over, with all its sessions
//! ```
//!
//! The token in the cookie has 256 random bits; only its hash is stored. Each sign-in gets a new one, and the
//! sign-in the browser held before is ended, so a planted cookie is worth nothing (R11).

use std::net::IpAddr;
use std::time::Duration;

use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, EnvironmentId, ProjectId, SignInId};
use mezusphere_model::token::Token;
use mezusphere_model::{Entropy, Host, Timestamp};
use mezusphere_store::primary::directory::Settings;
use mezusphere_store::primary::hand_off::{self, HandOffRow};
use mezusphere_store::primary::sign_in::{self, SignInRow};
use mezusphere_store::primary::user::{self, UserRow};
use mezusphere_store::primary::{ReadTx, Tx};
use mezusphere_store::{StoreError, WriteError};

use crate::account::Email;
use crate::flow::{Authenticated, Refusal};
use crate::history::{self, Outcome};
use crate::message::{Message, MessageKind};

/// How long a hand-off code is good: the time of two redirects.
pub const HAND_OFF_TTL: Duration = Duration::from_mins(1);

/// Sign-ins one browser holds, one per directory: more tokens would make its cookie longer than needed by anybody but
/// a tester.
pub const HELD_MAX: usize = 4;

/// Live sign-ins of one user; at the next one the oldest ends. A page of the account lists them all, and a program that
/// signs in at every call fills no table.
pub const LIVE_MAX: u32 = 100;

/// Longest note kept of the browser that signed in, in characters.
const AGENT_LEN_MAX: usize = 256;

/// How long sign-ins last.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From sign-in to the end, whatever happens.
    pub absolute: Duration,
    /// Without being used; zero: never for idleness.
    pub idle: Duration,
}

impl Limits {
    /// A directory's own limits, or the installation's.
    pub fn of(installation: Self, settings: &Settings) -> Self {
        settings.sessions.map_or(installation, |own| Self {
            absolute: Duration::from_secs(u64::from(own.absolute_s)),
            idle: Duration::from_secs(u64::from(own.idle_s)),
        })
    }
}

/// Where a sign-in was made, noted for the person to recognise it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From which address.
    pub address: String,
    /// With which browser, as it said.
    pub agent: String,
}

impl Place {
    /// What stands in a browser's stead for what an operator did.
    pub const OPERATOR: &'static str = "operator";

    /// Where an operator was who acts on somebody's account.
    pub fn of_operator(address: Option<IpAddr>) -> Self {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        Self { address, agent: Self::OPERATOR.to_owned() }
    }
}

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Their sign-in.
    pub sign_in: SignInRow,
    /// They.
    pub user: UserRow,
}

/// Where a signed-in user is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The project of the host.
    pub project: ProjectId,
    /// The environment of the host.
    pub environment: EnvironmentId,
    /// The app host.
    pub host: Host,
    /// SHA-256 of the secret in the state cookie on that host, base64url.
    pub state_hash: String,
    /// Path and query there.
    pub return_to: String,
}

/// Begins a sign-in and returns the token for its cookie. `held` is the token the browser had; that sign-in ends.
pub async fn begin(
    tx: &mut Tx,
    entropy: &Entropy,
    directory: DirectoryId,
    who: &Authenticated,
    limits: Limits,
    place: &Place,
    held: Option<&Token>,
) -> Result<(SignInRow, Token), WriteError> {
    if let Some(held) = held
        && let Some(old) = sign_in::find(tx, &held.hash()).await?
    {
        sign_in::end(tx, old.directory, old.id).await?;
    }
    let now = tx.now();
    let token = Token::random(entropy);
    let row = SignInRow {
        id: SignInId::random(entropy),
        token_hash: token.hash(),
        directory,
        user: who.user(),
        methods: who.methods().to_vec(),
        assurance: who.assurance(),
        authenticated_at: who.at(),
        created_at: now,
        expires_at: now.after(limits.absolute),
        idle_s_max: u32::try_from(limits.idle.as_secs()).unwrap_or(u32::MAX),
        seen_at: now,
        address: place.address.clone(),
        agent: place.agent.chars().filter(|c| !c.is_control()).take(AGENT_LEN_MAX).collect(),
        ended_at: None,
    };
    sign_in::insert(tx, &row).await?;
    Ok((row, token))
}

/// A sign-in that was begun.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// It.
    pub row: SignInRow,
    /// The tokens of all sign-ins the browser holds from now on, this one first: what its cookie says.
    pub tokens: Vec<Token>,
    /// What to mail: that somebody signed in from a new place.
    pub messages: Vec<Message>,
}

/// Begins a sign-in in a browser that holds the tokens `held`, and notes it in the account's history. The browser's
/// earlier sign-in in this directory ends, and its oldest ones past [`HELD_MAX`]; so do the user's past [`LIVE_MAX`].
///
/// # Errors
/// [`Refusal::Inactive`] if the user was suspended or deleted since they proved who they are.
pub async fn welcome(
    tx: &mut Tx,
    directory: DirectoryId,
    who: &Authenticated,
    limits: Limits,
    place: &Place,
    held: &[Token],
) -> Result<Welcome, Refusal> {
    let user = user::get(tx, directory, who.user()).await?.ok_or(Refusal::Inactive)?;
    if user.status != Status::Active {
        return Err(Refusal::Inactive);
    }
    let (mut replaced, mut kept) = (None, Vec::new());
    for token in held {
        match sign_in::find(tx, &token.hash()).await? {
            Some(row) if row.directory == directory => replaced = Some(token),
            Some(_) if kept.len() + 1 < HELD_MAX => kept.push(token.clone()),
            Some(row) => drop(sign_in::end(tx, row.directory, row.id).await?),
            None => {}
        }
    }
    let is_new = history::is_new_place(tx, &user, place).await?;
    let entropy = tx.entropy().clone();
    let (row, token) = begin(tx, &entropy, directory, who, limits, place, replaced).await?;
    sign_in::end_oldest(tx, directory, user.id, LIVE_MAX).await?;
    history::record(tx, &user, Outcome::SignedIn, Some(who.methods()), place).await?;
    let mut messages = Vec::new();
    if is_new {
        let kind = MessageKind::NewSignIn { at: tx.now(), place: place.clone() };
        messages.push(Message::new(directory, Email::parse(&user.email)?, user.shown_name(), kind));
    }
    Ok(Welcome { row, tokens: std::iter::once(token).chain(kept).collect(), messages })
}

/// Who holds this token, if the sign-in is good now.
pub async fn resolve(tx: &mut ReadTx, token: &Token) -> Result<Option<SignedIn>, StoreError> {
    let Some(sign_in) = sign_in::find(tx, &token.hash()).await? else { return Ok(None) };
    let Some(user) = user::get(tx, sign_in.directory, sign_in.user).await? else { return Ok(None) };
    Ok(is_good(&sign_in, &user, tx.now()).then_some(SignedIn { sign_in, user }))
}

/// Whether a sign-in is good at `now`.
pub fn is_good(sign_in: &SignInRow, user: &UserRow, now: Timestamp) -> bool {
    let idle_max = Duration::from_secs(u64::from(sign_in.idle_s_max));
    let idle = sign_in.idle_s_max != 0 && now.since(sign_in.seen_at) >= idle_max;
    sign_in.ended_at.is_none()
        && now < sign_in.expires_at
        && !idle
        && user.status == Status::Active
        && sign_in.created_at >= user.sessions_valid_from
}

/// Makes a code that the app host turns into a session, and notes that the sign-in was used.
pub async fn hand_off(
    tx: &mut Tx,
    entropy: &Entropy,
    sign_in: &SignInRow,
    destination: &Destination,
) -> Result<Token, WriteError> {
    let now = tx.now();
    sign_in::seen(tx, sign_in.directory, sign_in.id, now).await?;
    let code = Token::random(entropy);
    let row = HandOffRow {
        code_hash: code.hash(),
        sign_in: sign_in.id,
        project: destination.project,
        environment: destination.environment,
        host: destination.host.clone(),
        state_hash: destination.state_hash.clone(),
        return_to: destination.return_to.clone(),
        created_at: now,
        expires_at: now.after(HAND_OFF_TTL),
    };
    hand_off::insert(tx, &row).await?;
    Ok(code)
}
