//! Flows: one run of a sign-in, a sign-up, a recovery…, from the first page to its end.
//!
//! A flow is a value with an id, an end, a state and a next step. It collects proofs from [`crate::factor`] without
//! knowing how they were made, so factors and flows multiply without knowing each other. The caller keeps the value
//! (`control` seals it into the form it is about), so that strangers who open a page write nothing; a value that was not
//! sealed by the caller itself must never be read back. Only what leaves by mail is stored: one-time links.
//!
//! Every flow is served in the same way, so that a page and an API call are a few lines each:
//!
//! | step | what the caller does |
//! |---|---|
//! | show | `begin`, then seal the flow into the form |
//! | ask for a mail | `flow.ask(desk, visit, …)?`, then `send(tx, &asked, onward)?` and queue the messages in that transaction |
//! | open a link (GET) | `desk.open(&visit, text, recovery::open)?`; changes nothing |
//! | use a link (POST) | `desk.open` again, `desk.new_password(…)?`, then `complete(tx, &token, …)?` and queue its messages |
//! | prove | `flow.password(desk, visit, …)?` until its step is `SignedIn(who)`, then `sign_in::welcome(tx, …, &who, …)` |
//!
//! Every step that is not taken is a [`Refusal`]. What each flow stores, mails and limits is in `docs/flows.md`.

pub mod by_mail;
pub mod change_email;
pub mod change_password;
pub mod first_sign_in;
pub mod invitation;
mod link;
pub mod login;
pub mod recovery;
mod refusal;
pub mod sign_up;
pub mod step_up;
pub mod verify_email;

use mezusphere_model::id::UserId;
use mezusphere_model::identity::{Assurance, Method};
use mezusphere_model::{Host, Timestamp};
use serde::{Deserialize, Serialize};

use crate::factor::Proof;

pub use link::{INVITATION_TTL, LINK_TTL};
pub use refusal::Refusal;

/// Where somebody wanted to go when a flow began that leads through their mailbox: a path on an app host. Kept in the
/// link; looked up again when the link is used, because the host may be gone.
///
/// Without the state of a sign-in that was begun there: the mail may be read in another browser. The application finds
/// nobody signed in, asks the login host, and gets a hand-off at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Onward {
    /// The app host.
    pub host: Host,
    /// Path and query there.
    pub return_to: String,
}

/// Somebody has satisfied a flow; what a sign-in is made from. Made by flows only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    user: UserId,
    methods: Vec<Method>,
    assurance: Assurance,
    at: Timestamp,
}

impl Authenticated {
    /// What these proofs amount to; `None` without any, or if they are not all of one person.
    fn from_proofs(proofs: &[Proof]) -> Option<Self> {
        let user = proofs.first()?.user();
        if proofs.iter().any(|proof| proof.user() != user) {
            return None;
        }
        let mut methods: Vec<Method> = proofs.iter().map(Proof::method).collect();
        methods.sort_unstable();
        methods.dedup();
        // A passkey verifies its user by itself, so it is two factors in one.
        let strong = methods.len() > 1 || methods.contains(&Method::Passkey);
        let assurance = if strong { Assurance::Aal2 } else { Assurance::Aal1 };
        // The oldest proof: a session is no fresher than the first thing it rests on.
        let at = proofs.iter().map(Proof::at).min()?;
        Some(Self { user, methods, assurance, at })
    }

    /// Who.
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// By what, sorted.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// How strongly.
    pub const fn assurance(&self) -> Assurance {
        self.assurance
    }

    /// When.
    pub const fn at(&self) -> Timestamp {
        self.at
    }
}

/// Why a flow does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// Its time is over; begin anew.
    #[error("this sign-in was left open for too long")]
    Expired,
    /// The proof is of another person than the ones before it.
    #[error("the proofs belong to different people")]
    OtherPerson,
    /// It is already done; a flow signs in once.
    #[error("this sign-in is already complete")]
    Done,
}
