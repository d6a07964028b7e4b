//! Commands named in hints, written so that they reach the server at hand: with the `--data` or `--api` it is reached by.
//!
//! Owns what is put into a sentence; [`crate::output`] and [`crate::failure`] say the sentences.

use std::fmt::Write as _;
use std::path::Path;

/// What a command line needs to reach the server at hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// Empty, or flags with a space before them.
    flags: String,
}

impl Hints {
    /// For the server with this data directory; the default one need not be said.
    pub(crate) fn of_data(data: &Path) -> Self {
        let mut flags = String::new();
        if data != crate::command::default_data() {
            // A String takes whatever is written to it.
            let (Ok(()) | Err(_)) = write!(flags, " --data {}", quoted(&data.display().to_string()));
        }
        Self { flags }
    }

    /// For a console elsewhere.
    pub(crate) fn of_api(url: &str, ca: Option<&Path>) -> Self {
        let mut flags = format!(" --api {}", quoted(url));
        if let Some(ca) = ca {
            let (Ok(()) | Err(_)) = write!(flags, " --ca {}", quoted(&ca.display().to_string()));
        }
        Self { flags }
    }

    /// `text` with these flags in every admin command it names.
    pub(crate) fn complete(&self, text: &str) -> String {
        const PROGRAM: &str = "mezusphere ";
        let verbs = crate::verbs();
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(PROGRAM) {
            let (before, after) = rest.split_at(at + PROGRAM.len());
            let word =
                after.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).next().unwrap_or_default();
            if verbs.iter().any(|verb| verb == word) {
                out.push_str(before.trim_end());
                out.push_str(&self.flags);
                out.push(' ');
            } else {
                out.push_str(before);
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// A word as a POSIX shell takes it whole.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_in_a_hint_carries_the_data_directory_it_needs() {
        let rows = [
            ("mezusphere project list", "mezusphere --data /srv/mezu project list"),
            (
                "see `mezusphere serve`, or: mezusphere api-key create P",
                "see `mezusphere --data /srv/mezu serve`, or: mezusphere --data /srv/mezu api-key create P",
            ),
            ("mezusphere 0.1.0 is a program", "mezusphere 0.1.0 is a program"),
            ("the version of mezusphere that control runs", "the version of mezusphere that control runs"),
        ];
        for (text, expected) in rows {
            assert_eq!(Hints::of_data(Path::new("/srv/mezu")).complete(text), expected);
            assert_eq!(Hints::of_data(&crate::command::default_data()).complete(text), text);
        }
        let spaced = Hints::of_data(Path::new("/srv/my data")).complete("mezusphere user list P");
        assert_eq!(spaced, "mezusphere --data '/srv/my data' user list P");
        let far = Hints::of_api("https://console.example", Some(Path::new("ca.pem")));
        assert_eq!(
            far.complete("mezusphere role list P"),
            "mezusphere --api https://console.example --ca ca.pem role list P"
        );
    }
}
