//! The desk at which flows are served: what they work with, and the steps that come before any transaction.
//!
//! Whatever costs work or lets somebody guess goes through here, in this order: is there room for the attempt
//! ([`crate::throttle`]), is the answer right (on the password pool), and what becomes of it in the account's
//! history ([`crate::history`]). Pages and the JSON API serve at the same desk, so neither is a way around.

use std::net::IpAddr;

use mezusphere_model::id::DirectoryId;
use mezusphere_model::token::Token;
use mezusphere_model::{Clock, Entropy};
use mezusphere_store::Primary;
use mezusphere_store::primary::ReadTx;
use mezusphere_store::primary::user::UserRow;

use crate::account::Email;
use crate::factor::Proof;
use crate::factor::password::{Judged, Password, PasswordHash, PasswordPool, ProveError, judge};
use crate::flow::Refusal;
use crate::history::{History, Outcome};
use crate::sign_in::{Place, SignedIn};
use crate::throttle::{AccountKey, Mailing, Throttle};

/// What flows work with. Cheap to clone: all clones are one desk.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The database.
    pub primary: Primary,
    /// Tells the time.
    pub clock: Clock,
    /// Draws ids and tokens.
    pub entropy: Entropy,
    /// Hashes and verifies passwords.
    pub passwords: PasswordPool,
    /// Slows down guessing.
    pub throttle: Throttle,
    /// Remembers attempts until they are written down.
    pub history: History,
}

/// Somebody at the desk: where they are, as far as it can be seen.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Their address.
    pub address: IpAddr,
    /// Their browser, as it says.
    pub agent: String,
}

impl Visit {
    /// Where they are, to be noted.
    pub fn place(&self) -> Place {
        Place { address: self.address.to_string(), agent: self.agent.clone() }
    }
}

impl Desk {
    /// Checks a new password against the rules and hashes it. `about` is what an attacker knows of its owner: address,
    /// name, what they sign in to. Ask only after the link or the current password was seen to be good.
    pub async fn new_password(&self, typed: String, about: Vec<String>) -> Result<PasswordHash, Refusal> {
        if typed.is_empty() {
            return Err(Refusal::Incomplete);
        }
        Ok(self.passwords.set(Password::new(typed)?, about).await?)
    }

    /// Opens what a mailed link leads to, by one of the flows' `open`; the link stays good.
    ///
    /// Links that lead nowhere are counted, so that trying them has an end.
    ///
    /// # Errors
    /// [`Refusal::LinkDead`] for a link that no longer works or never did, [`Refusal::Throttled`].
    pub async fn open<T>(
        &self,
        visit: &Visit,
        text: &str,
        open: impl AsyncFnOnce(&mut ReadTx, &Token) -> Result<T, Refusal>,
    ) -> Result<(Token, T), Refusal> {
        let opened = match Token::parse(text) {
            Some(token) => self.primary.read(async |tx| open(tx, &token).await).await.map(|it| (token, it)),
            None => Err(Refusal::LinkDead),
        };
        if matches!(opened, Err(Refusal::LinkDead)) {
            self.throttle.link_failed(visit.address)?;
        }
        opened
    }

    /// Checks somebody's password for a sign-in.
    pub(crate) async fn prove(
        &self,
        visit: &Visit,
        directory: DirectoryId,
        email: &str,
        typed: Password,
    ) -> Result<Proof, Refusal> {
        let attempt = self.throttle.begin(AccountKey::of(directory, email), visit.address)?;
        let mark = self.throttle.mark(&typed);
        let Judged { user, verdict } =
            match judge(&self.primary, &self.passwords, directory, email, typed).await {
                Ok(judged) => judged,
                Err(error) => {
                    self.throttle.not_judged(attempt);
                    return Err(error.into());
                }
            };
        let at = self.clock.now();
        match verdict {
            Ok(proof) => {
                self.throttle.succeeded(attempt);
                Ok(proof)
            }
            Err(ProveError::Wrong) => {
                // The attempt stays charged.
                let spraying = self.throttle.failed(attempt, mark);
                self.history.note(directory, user, Outcome::WrongPassword, visit, at);
                if let Some(spraying) = spraying {
                    self.history.note_spraying(directory, spraying, visit, at);
                }
                Err(Refusal::Wrong)
            }
            Err(error) => {
                self.throttle.not_judged(attempt);
                self.history.note(directory, user, Outcome::Refused, visit, at);
                Err(error.into())
            }
        }
    }

    /// Checks the password of who is signed in already. Attempts are counted per sign-in: whoever stole one cannot use
    /// up the attempts of its owner, who signs in anew.
    pub(crate) async fn prove_again(
        &self,
        visit: &Visit,
        signed_in: &SignedIn,
        typed: String,
    ) -> Result<Proof, Refusal> {
        if typed.is_empty() {
            return Err(Refusal::Incomplete);
        }
        let typed = Password::new(typed)?;
        let UserRow { id, directory, email, .. } = &signed_in.user;
        let attempt = self.throttle.begin_again(signed_in.sign_in.id)?;
        let Judged { user, verdict } =
            match judge(&self.primary, &self.passwords, *directory, email, typed).await {
                Ok(judged) => judged,
                Err(error) => {
                    self.throttle.give_back_again(attempt);
                    return Err(error.into());
                }
            };
        match verdict {
            Ok(proof) if proof.user() == *id => {
                self.throttle.give_back_again(attempt);
                Ok(proof)
            }
            // The address moved to somebody else meanwhile.
            Ok(_) => Err(Refusal::OtherPerson),
            Err(error) => {
                let outcome = match error {
                    ProveError::Wrong => Outcome::WrongPassword,
                    _ => Outcome::Refused,
                };
                self.history.note(*directory, user, outcome, visit, self.clock.now());
                Err(error.into())
            }
        }
    }

    /// Reads an address and asks leave to send it a mail of this kind, whether or not it has an account.
    pub(crate) fn mailing(
        &self,
        visit: &Visit,
        directory: DirectoryId,
        kind: Mailing,
        email: &str,
    ) -> Result<Email, Refusal> {
        if email.trim().is_empty() {
            return Err(Refusal::Incomplete);
        }
        let email = Email::parse(email)?;
        self.throttle.mail(AccountKey::of(directory, email.as_str()), kind, visit.address)?;
        Ok(email)
    }
}
