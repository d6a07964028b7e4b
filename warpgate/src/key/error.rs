//! Why there is no usable key: a sentence, a next step and an exit code for each reason.

use std::io;
use std::path::PathBuf;

use mezusphere_model::connection_key::ConnectionKeyError;

use super::Source;
use crate::exit::Exit;
use crate::limits::KEY_LEN_MAX;

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No source has one.
    #[error("no connection key was given")]
    Missing,
    /// A file cannot be read.
    #[error("the key file {} cannot be read: {}", .0.display(), reason(.1))]
    Unreadable(PathBuf, io::Error),
    /// Standard input cannot be read.
    #[error("the key cannot be read from standard input: {}", reason(.0))]
    Stdin(io::Error),
    /// The source is there, and empty.
    #[error("there is no key in {0}")]
    Empty(Source),
    /// Too long to be one.
    #[error("{0} holds more than {KEY_LEN_MAX} characters, so it is not a connection key")]
    TooLong(Source),
    /// It is there, and is not a connection key.
    #[error("{why} (read from {place})")]
    Bad {
        /// Where it was.
        place: Source,
        /// What is wrong with it.
        why: ConnectionKeyError,
    },
}

impl KeyError {
    /// How the program ends on it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Bad { .. } | Self::TooLong(_) => Exit::KeyInvalid,
            Self::Missing | Self::Unreadable(..) | Self::Stdin(_) | Self::Empty(_) => Exit::Usage,
        }
    }

    /// What to do next.
    pub fn next(&self) -> String {
        match self {
            Self::Missing | Self::Empty(_) => {
                "ask the operator for one (mezusphere api-key create PROJECT), then: warpgate connect --key-file FILE"
                    .to_owned()
            }
            Self::Unreadable(path, _) => {
                format!("check that {} exists and that this user may read it", path.display())
            }
            Self::Stdin(_) => "pass the key with --key-file FILE instead".to_owned(),
            Self::Bad { why: ConnectionKeyError::ApiKey, .. } => {
                "an API key is for programs that call your routes; ask for the project's connection key, which \
                 starts with mzw_"
                    .to_owned()
            }
            Self::Bad { why: ConnectionKeyError::TooNew(_), .. } => "update warpgate".to_owned(),
            Self::Bad { .. } | Self::TooLong(_) => {
                "a connection key is one line that starts with mzw_; ask the operator for a new one if this one is lost"
                    .to_owned()
            }
        }
    }
}

/// An I/O error in words, without the operating system's number.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_owned()
        }
    }
}
