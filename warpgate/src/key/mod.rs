//! Where the connection key comes from, and in which order; [`hide()`] keeps it out of `ps`.
//!
//! Order: `--key-file`, `WARPGATE_KEY`, `WARPGATE_KEY_FILE`, standard input (`--key -`),
//! `$CREDENTIALS_DIRECTORY/warpgate-key`, `--key`. The key itself is never printed: only its last four characters.

mod error;
mod hide;

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use mezusphere_model::connection_key::ConnectionKey;
use zeroize::Zeroizing;

pub use error::{KeyError, reason};
pub use hide::hide;

use crate::limits::KEY_LEN_MAX;

/// Environment variable that holds the key.
pub const KEY_VARIABLE: &str = "WARPGATE_KEY";

/// Environment variable that names a file which holds the key.
pub const KEY_FILE_VARIABLE: &str = "WARPGATE_KEY_FILE";

/// Set by [`hide()`] for the process that takes over, so that it can say where the key came from.
pub const HIDDEN_VARIABLE: &str = "WARPGATE_KEY_WAS_ARGUMENT";

/// Name of the key's file among systemd's credentials (`LoadCredential=warpgate-key:…`).
const CREDENTIAL: &str = "warpgate-key";

/// What the command line and the environment offer.
#[derive(Default)]
pub struct Sources {
    /// `--key-file`.
    pub file: Option<PathBuf>,
    /// `WARPGATE_KEY`.
    pub variable: Option<String>,
    /// `WARPGATE_KEY_FILE`.
    pub variable_file: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<PathBuf>,
    /// `--key`; `-` means standard input.
    pub argument: Option<String>,
    /// `--key` was given and [`hide()`] took it from the command line.
    pub hidden: Option<Hidden>,
}

/// What became of a `--key` that was taken from the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// It is in `WARPGATE_KEY` now.
    Moved,
    /// `WARPGATE_KEY` was set, and wins.
    Ignored,
}

impl Hidden {
    /// How [`HIDDEN_VARIABLE`] says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Ignored => "ignored",
        }
    }
}

/// Where a key was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file named by `--key-file` or `WARPGATE_KEY_FILE`.
    File(PathBuf),
    /// `WARPGATE_KEY`.
    Variable,
    /// Standard input.
    Stdin,
    /// A systemd credential.
    Credential(PathBuf),
    /// `--key`.
    Argument,
}

/// A key that was found, and what to tell about it.
pub struct Found {
    /// The key.
    pub key: ConnectionKey,
    /// Where.
    pub source: Source,
    /// Its last four characters: all of it that is ever shown.
    pub hint: String,
    /// What the user should know about how the key was given.
    pub notes: Vec<String>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Credential(path) => path.display().fmt(f),
            Self::Variable => f.write_str(KEY_VARIABLE),
            Self::Stdin => f.write_str("standard input"),
            Self::Argument => f.write_str("--key"),
        }
    }
}

impl Sources {
    /// What this process was given beside the command line.
    pub fn from_environment(file: Option<PathBuf>, argument: Option<String>) -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            file,
            variable: std::env::var(KEY_VARIABLE).ok().filter(|value| !value.is_empty()),
            variable_file: path(KEY_FILE_VARIABLE),
            credentials: path("CREDENTIALS_DIRECTORY"),
            argument,
            hidden: std::env::var(HIDDEN_VARIABLE)
                .ok()
                .map(|how| if how == Hidden::Ignored.as_str() { Hidden::Ignored } else { Hidden::Moved }),
        }
    }

    /// Finds the key in the first source that has one; later ones are not looked at.
    ///
    /// # Errors
    /// [`KeyError`]: a source that is named but unusable is an error, never a reason to try the next.
    pub fn find(self, stdin: impl io::Read) -> Result<Found, KeyError> {
        let mut notes = Vec::new();
        let (source, text) = self.read(stdin, &mut notes)?;
        let text = Zeroizing::new(text);
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(KeyError::Empty(source));
        }
        if trimmed.len() > KEY_LEN_MAX {
            return Err(KeyError::TooLong(source));
        }
        let key =
            ConnectionKey::from_str(trimmed).map_err(|why| KeyError::Bad { place: source.clone(), why })?;
        Ok(Found { key, source, hint: ConnectionKey::hint(trimmed).to_owned(), notes })
    }

    fn read(self, stdin: impl io::Read, notes: &mut Vec<String>) -> Result<(Source, String), KeyError> {
        let from_stdin = self.argument.as_deref() == Some("-");
        if let Some(path) = self.file {
            return read_file(&path, Source::File(path.clone()), notes);
        }
        if let Some(text) = self.variable {
            let moved = self.hidden == Some(Hidden::Moved);
            let source = if moved { Source::Argument } else { Source::Variable };
            if moved {
                notes.push(
                    "--key was visible to other users in `ps` for a moment; for services use --key-file FILE or \
                     WARPGATE_KEY"
                        .to_owned(),
                );
            } else if self.argument.is_some() || self.hidden.is_some() {
                notes.push("WARPGATE_KEY is set, so --key is ignored".to_owned());
            }
            return Ok((source, text));
        }
        if let Some(path) = self.variable_file {
            return read_file(&path, Source::File(path.clone()), notes);
        }
        if from_stdin {
            let text = read_line(stdin).map_err(KeyError::Stdin)?;
            return Ok((Source::Stdin, text));
        }
        if let Some(path) = self.credentials.map(|directory| directory.join(CREDENTIAL))
            && path.exists()
        {
            return read_file(&path, Source::Credential(path.clone()), notes);
        }
        let text = self.argument.ok_or(KeyError::Missing)?;
        notes.push(
            "--key stays visible to other users in `ps`; use --key-file FILE or WARPGATE_KEY instead"
                .to_owned(),
        );
        Ok((Source::Argument, text))
    }
}

fn read_file(path: &Path, source: Source, notes: &mut Vec<String>) -> Result<(Source, String), KeyError> {
    let unreadable = |why| KeyError::Unreadable(path.to_owned(), why);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    if let Some(mode) = readable_by_others(&file)
        && matches!(source, Source::File(_))
    {
        notes.push(format!(
            "{} can be read by other users (mode {mode:03o}); run: chmod 600 {0}",
            path.display()
        ));
    }
    Ok((source, read_bounded(file).map_err(unreadable)?))
}

/// Reads one octet more than a key may have, so that the caller sees that it is too long.
fn read_bounded(from: impl io::Read) -> io::Result<String> {
    let limit = u64::try_from(KEY_LEN_MAX).unwrap_or(u64::MAX).saturating_add(64);
    let mut text = String::new();
    from.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

/// The first line that is not empty, so that whoever pastes a key into a terminal ends it with Enter.
fn read_line(from: impl io::Read) -> io::Result<String> {
    use io::BufRead as _;
    let limit = u64::try_from(KEY_LEN_MAX).unwrap_or(u64::MAX).saturating_add(64);
    for line in io::BufReader::new(from.take(limit)).lines() {
        let line = line?;
        if !line.trim().is_empty() {
            return Ok(line);
        }
    }
    Ok(String::new())
}

fn readable_by_others(file: &std::fs::File) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use mezusphere_model::id::{ApiKeyId, EnvironmentId};
    use mezusphere_model::token::{ApiKeyToken, Token};
    use mezusphere_model::{Entropy, Host};

    use super::*;
    use crate::exit::Exit;

    fn key(seed: u8) -> ConnectionKey {
        let entropy = Entropy::counting();
        ConnectionKey {
            key: ApiKeyToken { id: ApiKeyId::random(&entropy), secret: Token::from_bytes([seed; 32]) },
            environment: EnvironmentId::random(&entropy),
            root: [7; 32],
            host: Host::parse("connect.mezu.localhost").unwrap(),
            port: 8443,
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn the_documented_order_of_sources_holds() {
        let keys: Vec<_> = (0..6).map(|seed| key(seed).reveal()).collect();
        let by_flag = file(&keys[0]);
        let by_variable = file(&keys[2]);
        let credentials = tempfile::tempdir().unwrap();
        std::fs::write(credentials.path().join(CREDENTIAL), &keys[4]).unwrap();
        let all = |stdin: bool| Sources {
            file: Some(by_flag.path().to_owned()),
            variable: Some(keys[1].clone()),
            variable_file: Some(by_variable.path().to_owned()),
            credentials: Some(credentials.path().to_owned()),
            argument: Some(if stdin { "-".to_owned() } else { keys[5].clone() }),
            hidden: None,
        };
        let find = |sources: Sources| {
            let found = sources.find(keys[3].as_bytes()).unwrap();
            keys.iter().position(|text| *text == found.key.reveal()).unwrap()
        };
        let mut sources = all(true);
        assert_eq!(find(all(true)), 0, "--key-file");
        sources.file = None;
        assert_eq!(find(Sources { file: None, ..all(true) }), 1, "WARPGATE_KEY");
        assert_eq!(find(Sources { file: None, variable: None, ..all(true) }), 2, "WARPGATE_KEY_FILE");
        let rest = |stdin| Sources { file: None, variable: None, variable_file: None, ..all(stdin) };
        assert_eq!(find(rest(true)), 3, "--key -");
        assert_eq!(find(rest(false)), 4, "systemd credential");
        assert_eq!(find(Sources { credentials: None, ..rest(false) }), 5, "--key");
    }

    #[test]
    fn each_bad_key_has_its_sentence_and_exit_code() {
        let good = key(1).reveal();
        let api_key = key(1).key.reveal();
        let long = "m".repeat(KEY_LEN_MAX + 1);
        let rows: [(&str, Exit, &str); 7] = [
            ("", Exit::Usage, "there is no key"),
            ("  \n", Exit::Usage, "there is no key"),
            ("hello", Exit::KeyInvalid, "not a connection key"),
            (&good[..good.len() - 3], Exit::KeyInvalid, "incomplete or mistyped"),
            (&good[..6], Exit::KeyInvalid, "incomplete or mistyped"),
            (&api_key, Exit::KeyInvalid, "this is an API key"),
            (&long, Exit::KeyInvalid, "more than 4096"),
        ];
        for (text, exit, says) in rows {
            let named = file(text);
            let sources = Sources { file: Some(named.path().to_owned()), ..Sources::default() };
            let error = sources.find(io::empty()).err().unwrap();
            assert_eq!(error.exit(), exit, "{text:.20}");
            assert!(error.to_string().contains(says), "{error}");
            assert!(!error.next().is_empty());
            if text.trim().len() > 8 {
                assert!(!error.to_string().contains(text.trim()), "the key does not show: {error}");
            }
        }
    }

    #[test]
    fn a_named_source_that_is_unusable_is_an_error_not_a_reason_to_try_the_next() {
        let sources = Sources {
            file: Some("/nonexistent/key".into()),
            variable: Some(key(1).reveal()),
            ..Sources::default()
        };
        let error = sources.find(io::empty()).err().unwrap();
        assert_eq!(error.exit(), Exit::Usage);
        assert_eq!(error.to_string(), "the key file /nonexistent/key cannot be read: there is no such file");
        assert_eq!(Sources::default().find(io::empty()).err().unwrap().exit(), Exit::Usage);
    }

    #[test]
    fn a_key_that_is_ignored_or_was_visible_is_pointed_out() {
        let notes = |hidden, argument: Option<&str>| {
            let (variable, argument) = (Some(key(1).reveal()), argument.map(str::to_owned));
            Sources { variable, argument, hidden, ..Sources::default() }
                .find(io::empty())
                .unwrap()
                .notes
                .join("")
        };
        assert!(notes(Some(Hidden::Moved), None).contains("visible to other users"));
        assert!(notes(Some(Hidden::Ignored), None).contains("--key is ignored"));
        assert!(notes(None, Some("mzw_x")).contains("--key is ignored"));
        assert_eq!(notes(None, None), "");
    }

    #[test]
    fn surrounding_white_space_is_not_part_of_a_key() {
        let named = file(&format!("\n  {} \r\n", key(1).reveal()));
        let found =
            Sources { file: Some(named.path().to_owned()), ..Sources::default() }.find(io::empty()).unwrap();
        assert_eq!(found.key, key(1));
        assert!(key(1).reveal().ends_with(&found.hint) && found.hint.len() == 4);
    }

    #[test]
    fn r25_a_key_file_that_others_can_read_is_pointed_out() {
        use std::os::unix::fs::PermissionsExt as _;
        let named = file(&key(1).reveal());
        let find = || {
            let sources = Sources { file: Some(named.path().to_owned()), ..Sources::default() };
            sources.find(io::empty()).unwrap().notes
        };
        named.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(find()[0].contains("chmod 600"));
        named.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(find().is_empty());
    }
}
