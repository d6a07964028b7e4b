//! Which new passwords are taken: long enough, and not among the first an attacker would try.
//!
//! No composition rules and no forced change (NIST SP 800-63B §3.1.1.2). The list of common passwords and
//! the patterns built from them (repeats, keyboard rows, dates, names, the user's own address) come from
//! zxcvbn (Wheeler, USENIX Security 2016; the `zxcvbn` crate carries its frequency lists).

use zxcvbn::zxcvbn;

use super::Password;

/// What anybody knows of an installation.
const PRODUCT: &str = "mezusphere";

/// Shortest password that is the only factor, in code points (design §6).
pub const PASSWORD_LEN_MIN: usize = 15;

/// Longest password, in code points: room for any passphrase, little to hash.
pub const PASSWORD_LEN_MAX: usize = 128;

/// A password an attacker reaches within 10⁸ guesses is called common. Throttled guessing never gets that
/// far; the bound is where zxcvbn's score turns from "somewhat guessable" to "safely unguessable" online.
pub const GUESSES_LOG10_MIN: f64 = 8.0;

/// Why a new password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Fewer than [`PASSWORD_LEN_MIN`] code points.
    #[error("a password has at least {PASSWORD_LEN_MIN} characters")]
    TooShort,
    /// Among the first that an attacker would try.
    #[error("this password is too easy to guess")]
    Common,
}

/// Checks a new password. `about` is what an attacker knows of its owner: address, name, what they sign in to.
///
/// Takes up to some milliseconds, so it runs on the pool's threads.
pub(super) fn check(password: &Password, about: &[String]) -> Result<(), Weakness> {
    if password.code_points() < PASSWORD_LEN_MIN {
        return Err(Weakness::TooShort);
    }
    let about: Vec<&str> = about.iter().flat_map(|text| words(text)).chain([PRODUCT]).collect();
    if zxcvbn(password.as_str(), &about).guesses_log10() < GUESSES_LOG10_MIN {
        return Err(Weakness::Common);
    }
    Ok(())
}

/// The text as a whole and its parts: `ada@shop.example` also as `ada`, `shop` and `example`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split(|c: char| !c.is_alphanumeric()).filter(|part| part.chars().count() >= 3);
    std::iter::once(text).chain(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Result<(), Weakness> {
        let about = ["ada.lovelace@analytical.example".to_owned(), "Ada Lovelace".to_owned()];
        check(&Password::new(text.to_owned()).unwrap(), &about)
    }

    #[test]
    fn r14_fifteen_characters_are_the_least() {
        assert_eq!(judge("plum koala 9 ru"), Ok(()));
        assert_eq!(judge("plum koala 9 r"), Err(Weakness::TooShort));
        assert_eq!(
            judge("日本語のとても長い合言葉です"),
            Err(Weakness::TooShort),
            "14 code points, 42 octets"
        );
        assert_eq!(judge("日本語のとても長い合言葉ですよ"), Ok(()));
    }

    #[test]
    fn r14_common_passwords_are_refused_however_long() {
        let common = [
            "passwordpassword",
            "123456789012345",
            "aaaaaaaaaaaaaaaaaaaa",
            "qwertyuiopasdfghjkl",
            "abcdefghijklmnopqrstuvwxyz",
            "PasswordPassword",
            "ada.lovelace@analytical.example",
            "lovelacelovelace",
            "ada.lovelace@analytical.example1",
            "Ada Lovelace 2026",
            "mezuspheremezusphere",
            "Mezusphere123456",
            "111111111111111111111111111111",
        ];
        for text in common {
            assert_eq!(judge(text), Err(Weakness::Common), "{text}");
        }
    }

    #[test]
    fn r14_no_mixture_of_character_kinds_is_asked_for() {
        for text in ["correct horse battery staple", "purplemonkeydishwasherlamp", "8675 3091 4410 2963 71"] {
            assert_eq!(judge(text), Ok(()), "{text}");
        }
    }
}
