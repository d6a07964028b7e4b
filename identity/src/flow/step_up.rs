//! Stepping up: who is signed in proves it again, or proves more, because what they want asks for it.
//!
//! ```text
//!  begin ──▶ Prove ──password──▶ SignedIn ──complete──▶ Raised    (same sign-in, new token, new time of authentication)
//!              │ ▲         │
//!              │ └──wrong──┘
//!              └── ends_at passes, another account signs in ──▶ refused
//! ```
//!
//! The account stays the same: a proof of somebody else is refused, not taken as a change of account. The sign-in keeps
//! its id and so its sessions; its token is new and the old one is dead (R11). Sessions on app hosts keep the time they
//! were made at, until the application asks for a hand-off again: a step-up here freshens what is asked for, not what
//! lies open elsewhere.

use std::time::Duration;

use mezusphere_model::id::SignInId;
use mezusphere_model::identity::Assurance;
use mezusphere_model::token::Token;
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::sign_in::{self, Renewal, SignInRow};
use mezusphere_store::primary::user;
use serde::{Deserialize, Serialize};

use super::login::{Login, Step};
use super::{Authenticated, Refusal};
use crate::desk::{Desk, Visit};
use crate::history::{self, Outcome};
use crate::sign_in::{Place, SignedIn, is_good};

/// What is asked of a sign-in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// At least this strong.
    #[serde(default)]
    pub assurance: Assurance,
    /// Proved no longer ago than this, in seconds.
    #[serde(default)]
    pub max_age_s: Option<u32>,
}

impl Demand {
    /// Whether a sign-in is enough as it is: no step-up is needed then.
    pub fn is_met(&self, sign_in: &SignInRow, now: Timestamp) -> bool {
        let age = now.since(sign_in.authenticated_at);
        sign_in.assurance >= self.assurance
            && self.max_age_s.is_none_or(|max| age <= Duration::from_secs(u64::from(max)))
    }
}

/// One run of a step-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepUp {
    sign_in: SignInId,
    login: Login,
}

/// A sign-in that was raised.
#[derive(Clone, Debug)]
pub struct Raised {
    /// It, as it is now.
    pub row: SignInRow,
    /// Its token from now on; the one before is dead.
    pub token: Token,
}

impl StepUp {
    /// Begins, for who is signed in.
    pub fn begin(entropy: &Entropy, signed_in: &SignedIn, demand: Demand, now: Timestamp) -> Self {
        let login = Login::begin_for(entropy, signed_in.sign_in.directory, demand.assurance, now);
        Self { sign_in: signed_in.sign_in.id, login }
    }

    /// The sign-in underneath: its id, end and next step are this flow's.
    pub const fn login(&self) -> &Login {
        &self.login
    }

    /// What it waits for.
    pub fn next_step(&self) -> Step {
        self.login.next_step()
    }

    /// Checks the password of who is signed in. `signed_in` is who is signed in now: another sign-in than this was begun
    /// for is refused.
    ///
    /// # Errors
    /// [`Refusal::OtherPerson`], [`Refusal::Expired`], [`Refusal::Wrong`], [`Refusal::Throttled`]…
    pub async fn password(
        &mut self,
        desk: &Desk,
        visit: &Visit,
        signed_in: &SignedIn,
        typed: String,
    ) -> Result<Step, Refusal> {
        self.login.check(desk.clock.now())?;
        if signed_in.sign_in.id != self.sign_in {
            return Err(Refusal::OtherPerson);
        }
        let proof = desk.prove_again(visit, signed_in, typed).await?;
        Ok(self.login.prove(proof, desk.clock.now())?)
    }
}

/// Raises the sign-in: a new token, and the time, methods and strength of `who`.
///
/// # Errors
/// [`Refusal::OtherPerson`] if `who` is not who is signed in; [`Refusal::Inactive`] if the sign-in has ended meanwhile
/// or its user was suspended.
pub async fn complete(
    tx: &mut Tx,
    signed_in: &SignedIn,
    who: &Authenticated,
    place: &Place,
) -> Result<Raised, Refusal> {
    let SignInRow { directory, id, .. } = signed_in.sign_in;
    if who.user() != signed_in.sign_in.user {
        return Err(Refusal::OtherPerson);
    }
    let held = sign_in::get(tx, directory, id).await?.ok_or(Refusal::Inactive)?;
    let user = user::get(tx, directory, held.user).await?.ok_or(Refusal::Inactive)?;
    if !is_good(&held, &user, tx.now()) {
        return Err(Refusal::Inactive);
    }
    let token = Token::random(tx.entropy());
    let renewal = Renewal {
        token_hash: token.hash(),
        methods: who.methods().to_vec(),
        assurance: who.assurance(),
        authenticated_at: who.at(),
    };
    let row =
        sign_in::renew(tx, directory, id, &held.token_hash, &renewal).await?.ok_or(Refusal::Inactive)?;
    history::record(tx, &user, Outcome::SteppedUp, Some(who.methods()), place).await?;
    Ok(Raised { row, token })
}
