//! The password factor: what a password may be, how it is kept, how it is checked.
//!
//! The rules say which new passwords are taken, [`PasswordPool`] hashes and verifies on threads of its own,
//! [`prove`] turns a right password into a [`Proof`](super::Proof).
//! A password is wiped from memory when dropped and never shown by `Debug`.

mod hasher;
mod pool;
mod priority;
mod prove;
mod rules;

use std::fmt;

use aws_lc_rs::hmac;
use mezusphere_model::Timestamp;
use mezusphere_model::id::UserId;
use mezusphere_store::primary::password::PasswordRow;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

pub use hasher::Peppers;
pub use pool::{
    PASSWORD_BUSY_RETRY_AFTER, PasswordPool, PoolError, PoolLimits, QUEUE_LEN_MAX, SetError, THREADS_MAX,
    Verdict,
};
pub(crate) use prove::{Judged, judge, set};
pub use prove::{ProveError, prove};
pub use rules::{GUESSES_LOG10_MIN, PASSWORD_LEN_MAX, PASSWORD_LEN_MIN, Weakness};

/// Longest password as octets of UTF-8: no code point takes more than four.
const PASSWORD_OCTETS_MAX: usize = PASSWORD_LEN_MAX * 4;

/// A password as somebody typed it, short enough to be hashed.
///
/// Held in NFKC (NIST SP 800-63B §3.1.1.2), so that the same characters typed on two keyboards are the same
/// password. Every code point is allowed, spaces and emoji included; nothing is trimmed or cut off.
pub struct Password {
    normal: Zeroizing<String>,
    code_points: usize,
}

/// The text is longer than any password may be; told before any work is spent on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password has at most {PASSWORD_LEN_MAX} characters")]
pub struct PasswordTooLong;

impl Password {
    /// Takes what was typed.
    ///
    /// # Errors
    /// [`PasswordTooLong`] above [`PASSWORD_LEN_MAX`] code points; the length in octets is looked at first, so
    /// that a megabyte costs nothing.
    pub fn new(typed: String) -> Result<Self, PasswordTooLong> {
        let typed = Zeroizing::new(typed);
        if typed.len() > PASSWORD_OCTETS_MAX {
            return Err(PasswordTooLong);
        }
        let code_points = typed.chars().count();
        if code_points > PASSWORD_LEN_MAX {
            return Err(PasswordTooLong);
        }
        // One code point becomes at most 18 in NFKC (UAX #15 §12.1), so no reallocation leaves a copy behind.
        let mut normal = Zeroizing::new(String::with_capacity(typed.len() * 18));
        normal.extend(typed.nfkc());
        Ok(Self { normal, code_points })
    }

    /// Its length in code points, as typed.
    pub fn code_points(&self) -> usize {
        self.code_points
    }

    /// Whether both are one password, however they were typed. For two that one person has just typed: it is no check of a
    /// password, and takes no care of timing.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.normal == other.normal
    }

    fn as_str(&self) -> &str {
        &self.normal
    }

    /// A mark that is the same for the same password, under a key that is never stored: it tells one password tried on
    /// many accounts, and is too short to tell which.
    pub(crate) fn mark(&self, key: &hmac::Key) -> u32 {
        let tag = hmac::sign(key, self.normal.as_bytes());
        tag.as_ref().first_chunk::<4>().copied().map_or(0, u32::from_be_bytes)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A password as it is kept: Argon2id in PHC string form (`$argon2id$v=19$m=19456,t=2,p=1$salt$hash`), and
/// which pepper went into it.
///
/// Useless to whoever does not also have the pepper; never leaves the primary all the same.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    phc: String,
    pepper_version: u32,
}

impl PasswordHash {
    /// A hash read back from the store.
    pub fn from_stored(phc: String, pepper_version: u32) -> Self {
        Self { phc, pepper_version }
    }

    /// Its PHC string, for the store.
    pub fn phc(&self) -> &str {
        &self.phc
    }

    /// Version of the pepper it was made with, for the store.
    pub fn pepper_version(&self) -> u32 {
        self.pepper_version
    }

    /// The row that sets it as `user`'s password.
    pub(crate) fn into_row(self, user: UserId, now: Timestamp) -> PasswordRow {
        PasswordRow { user, hash: self.phc, pepper_version: self.pepper_version, changed_at: now }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r14_a_password_of_one_mebibyte_is_refused_before_any_work() {
        assert!(matches!(Password::new("x".repeat(1024 * 1024)), Err(PasswordTooLong)));
    }

    #[test]
    fn r14_length_counts_code_points_not_octets() {
        let emoji = "🔑".repeat(PASSWORD_LEN_MAX);
        assert_eq!(Password::new(emoji.clone()).unwrap().code_points(), PASSWORD_LEN_MAX);
        assert!(matches!(Password::new(emoji + "k"), Err(PasswordTooLong)));
    }

    #[test]
    fn the_same_characters_from_two_keyboards_are_the_same_password() {
        let composed = Password::new("caf\u{e9} am Fluss 15".to_owned()).unwrap();
        let decomposed = Password::new("cafe\u{301} am Fluss 15".to_owned()).unwrap();
        assert_eq!(composed.as_str(), decomposed.as_str());
        assert!(composed.is_same(&decomposed));
    }

    #[test]
    fn nothing_is_trimmed_and_every_code_point_counts() {
        assert_eq!(Password::new(" \u{0}\t a ".to_owned()).unwrap().as_str(), " \u{0}\t a ");
    }

    #[test]
    fn a_password_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", Password::new("tell nobody".to_owned()).unwrap()), "Password(…)");
    }
}
