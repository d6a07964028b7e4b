//! Flows: one run of a sign-in, from the first page to its end.
//!
//! A flow has an id, an end, a state and a next step. It collects proofs from [`crate::factor`] without knowing
//! how they were made, so factors and flows multiply without knowing each other. Flows do no I/O; what a flow
//! decides is stored by the caller (`control` keeps an open flow in the form it is about, authenticated, so
//! that strangers who open the page write nothing).

pub mod first_sign_in;
pub mod login;

use mezusphere_model::Timestamp;
use mezusphere_model::id::UserId;
use mezusphere_model::identity::{Assurance, Method};

use crate::factor::Proof;

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
