//! A user's password: typed into standard input, or made here.

use std::io::Read as _;

use mezusphere_model::Entropy;

use super::super::Context;
use crate::failure::{Failure, Kind};

/// Characters of a password made here: no two look alike. 20 of 56 give 116 bits.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Longest password read from standard input, in octets.
const PASSWORD_LEN_MAX: u64 = 4096;

/// A password, and whether it has to be shown because nobody has seen it.
pub(super) struct Password {
    pub(super) text: String,
    pub(super) made_here: bool,
}

/// The password that was piped in, or a new one.
pub(super) fn password(context: &Context, from_stdin: bool) -> Result<Password, Failure> {
    if !from_stdin {
        return Ok(Password { text: make(&context.entropy), made_here: true });
    }
    let mut text = String::new();
    std::io::stdin()
        .take(PASSWORD_LEN_MAX)
        .read_to_string(&mut text)
        .map_err(|why| Failure::new(Kind::Usage, format!("cannot read the password: {why}")))?;
    let text = text.trim_end_matches(['\n', '\r']).to_owned();
    if text.is_empty() {
        return Err(Failure::new(Kind::Usage, "standard input is empty")
            .next("pipe the password in: printf %s PASSWORD | mezusphere user … --password-stdin"));
    }
    Ok(Password { text, made_here: false })
}

fn make(entropy: &Entropy) -> String {
    let count = u64::try_from(ALPHABET.len()).unwrap_or(1);
    let letter = || usize::try_from(entropy.below(count)).ok().and_then(|at| ALPHABET.get(at)).copied();
    let groups = (0..4).map(|_| (0..5).filter_map(|_| letter()).map(char::from).collect::<String>());
    groups.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_made_here_meets_the_rule_for_passwords() {
        let entropy = Entropy::counting();
        let (one, two) = (make(&entropy), make(&entropy));
        assert_eq!(one.chars().count(), 23);
        assert_ne!(one, two);
    }
}
