//! Signing in.
//!
//! ```text
//!  begin ──▶ Prove ──proof──▶ Prove (another factor) ──proof──▶ SignedIn
//!              │  ▲             │                                  │
//!              │  └─wrong───────┘                                  └─ any further proof: Done
//!              └──────── ends_at passes ──▶ Expired
//! ```
//!
//! One factor is enough unless the flow was begun with a demand for more; a second factor changes
//! [`Login::next_step`] and nothing else. A wrong answer leaves the flow where it is: slowing down is
//! [`crate::throttle`]'s.

use std::time::Duration;

use mezusphere_model::id::{DirectoryId, FlowId};
use mezusphere_model::identity::{Assurance, Method};
use mezusphere_model::{Entropy, Timestamp};

use serde::{Deserialize, Serialize};

use super::{Authenticated, FlowError, Refusal};
use crate::desk::{Desk, Visit};
use crate::factor::Proof;
use crate::factor::password::Password;

/// How long a sign-in page may stay open before it has to be loaded anew: long enough to look a password up.
pub const LOGIN_TTL: Duration = Duration::from_mins(30);

/// One run of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    id: FlowId,
    directory: DirectoryId,
    ends_at: Timestamp,
    needs: Assurance,
    proofs: Vec<Proof>,
}

/// What a sign-in waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A proof by one of these, the usual one first.
    Prove(Vec<Method>),
    /// Nothing: they are signed in.
    SignedIn(Authenticated),
}

impl Login {
    /// Begins a sign-in to `directory` that one factor satisfies.
    pub fn begin(entropy: &Entropy, directory: DirectoryId, now: Timestamp) -> Self {
        Self::resume(FlowId::random(entropy), directory, now.after(LOGIN_TTL))
    }

    /// Begins a sign-in that needs at least this assurance.
    pub fn begin_for(entropy: &Entropy, directory: DirectoryId, needs: Assurance, now: Timestamp) -> Self {
        Self { needs, ..Self::begin(entropy, directory, now) }
    }

    /// The flow as it was begun, read back from where the caller kept it.
    pub fn resume(id: FlowId, directory: DirectoryId, ends_at: Timestamp) -> Self {
        Self { id, directory, ends_at, needs: Assurance::Aal1, proofs: Vec::new() }
    }

    /// Which flow.
    pub const fn id(&self) -> FlowId {
        self.id
    }

    /// Whose accounts it is for.
    pub const fn directory(&self) -> DirectoryId {
        self.directory
    }

    /// When it ends.
    pub const fn ends_at(&self) -> Timestamp {
        self.ends_at
    }

    /// What it waits for.
    pub fn next_step(&self) -> Step {
        match Authenticated::from_proofs(&self.proofs) {
            Some(done) if done.assurance() >= self.needs => Step::SignedIn(done),
            _ => Step::Prove(vec![Method::Password]),
        }
    }

    /// Whether it still takes proofs: before spending work on one.
    pub fn check(&self, now: Timestamp) -> Result<(), FlowError> {
        if matches!(self.next_step(), Step::SignedIn(_)) {
            return Err(FlowError::Done);
        }
        if now >= self.ends_at {
            return Err(FlowError::Expired);
        }
        Ok(())
    }

    /// Checks an address and its password, and says what is next. Everything that costs work comes after the throttle.
    ///
    /// # Errors
    /// [`Refusal::Wrong`], [`Refusal::Inactive`], [`Refusal::Throttled`], [`Refusal::Busy`], [`Refusal::Expired`]…; the
    /// flow stays where it is.
    pub async fn password(
        &mut self,
        desk: &Desk,
        visit: &Visit,
        email: &str,
        typed: String,
    ) -> Result<Step, Refusal> {
        self.check(desk.clock.now())?;
        if email.trim().is_empty() || typed.is_empty() {
            return Err(Refusal::Incomplete);
        }
        let typed = Password::new(typed)?;
        let proof = desk.prove(visit, self.directory, email, typed).await?;
        Ok(self.prove(proof, desk.clock.now())?)
    }

    /// Takes a proof and says what is next.
    pub fn prove(&mut self, proof: Proof, now: Timestamp) -> Result<Step, FlowError> {
        self.check(now)?;
        if self.proofs.first().is_some_and(|first| first.user() != proof.user()) {
            return Err(FlowError::OtherPerson);
        }
        self.proofs.push(proof);
        Ok(self.next_step())
    }
}

#[cfg(test)]
mod tests {
    use mezusphere_model::id::UserId;

    use super::*;

    const ADA: UserId = UserId::from_bits(1);
    const EVE: UserId = UserId::from_bits(2);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_000).after(Duration::from_secs(seconds))
    }

    fn login(needs: Assurance) -> Login {
        Login { needs, ..Login::begin(&Entropy::counting(), DirectoryId::from_bits(1), at(0)) }
    }

    #[test]
    fn a_password_signs_in_and_a_flow_signs_in_once() {
        let mut flow = login(Assurance::Aal1);
        assert_eq!(flow.next_step(), Step::Prove(vec![Method::Password]));
        let Ok(Step::SignedIn(done)) = flow.prove(Proof::new(ADA, Method::Password, at(5)), at(6)) else {
            panic!("one factor is enough");
        };
        assert_eq!(
            (done.user(), done.methods(), done.assurance()),
            (ADA, &[Method::Password][..], Assurance::Aal1)
        );
        assert_eq!(done.at(), at(5));
        assert_eq!(flow.prove(Proof::new(EVE, Method::Password, at(7)), at(7)), Err(FlowError::Done));
    }

    #[test]
    fn a_flow_that_needs_two_factors_takes_two_different_ones_of_one_person() {
        let mut flow = login(Assurance::Aal2);
        let password = Proof::new(ADA, Method::Password, at(1));
        assert!(matches!(flow.prove(password.clone(), at(1)), Ok(Step::Prove(_))));
        assert!(matches!(flow.prove(password, at(2)), Ok(Step::Prove(_))), "the same factor twice is one");
        assert_eq!(
            flow.prove(Proof::new(EVE, Method::OneTimeCode, at(3)), at(3)),
            Err(FlowError::OtherPerson)
        );
        let Ok(Step::SignedIn(done)) = flow.prove(Proof::new(ADA, Method::OneTimeCode, at(4)), at(4)) else {
            panic!("two factors are enough");
        };
        assert_eq!((done.assurance(), done.at()), (Assurance::Aal2, at(1)), "as old as its oldest proof");
    }

    #[test]
    fn a_flow_left_open_ends() {
        let mut flow = login(Assurance::Aal1);
        let end = at(LOGIN_TTL.as_secs());
        assert_eq!(flow.check(end.before(Duration::from_micros(1))), Ok(()));
        assert_eq!(flow.prove(Proof::new(ADA, Method::Password, end), end), Err(FlowError::Expired));
    }
}
