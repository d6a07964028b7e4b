//! How a command ends badly: one line that says what, one that says what next, and an exit code scripts can tell apart.

use std::fmt;
use std::process::ExitCode;

/// Why a command failed, for the exit code. Documented in `docs/operations/cli.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 1: something that should not happen.
    Unexpected = 1,
    /// 2: the command line is wrong (clap's own code).
    Usage = 2,
    /// 3: what was named does not exist, or is not yours to see.
    NotFound = 3,
    /// 4: it exists already, or is in use.
    Conflict = 4,
    /// 5: you may not.
    Refused = 5,
    /// 6: the server cannot be reached.
    Unreachable = 6,
    /// 7: the server understood and rejects a value.
    Invalid = 7,
    /// 10: another process holds the data directory.
    Locked = 10,
    /// 11: the data directory or a file cannot be read or written.
    Files = 11,
    /// 12: the data is from a newer version.
    TooNew = 12,
    /// 13: an address to listen on is taken or not allowed.
    Listen = 13,
}

/// A command's failure.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For the exit code.
    pub(crate) kind: Kind,
    /// What happened: one sentence, lower-case start, no full stop.
    pub(crate) what: String,
    /// What to do next.
    pub(crate) next: Option<String>,
    /// A stable code, where the server gave one.
    pub(crate) code: Option<String>,
}

impl Failure {
    /// A failure without advice yet.
    pub(crate) fn new(kind: Kind, what: impl fmt::Display) -> Self {
        Self { kind, what: what.to_string(), next: None, code: None }
    }

    /// Adds what to do next.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The code for the shell.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  next: {next}")?;
        }
        Ok(())
    }
}

impl From<std::io::Error> for Failure {
    fn from(why: std::io::Error) -> Self {
        Self::new(Kind::Unexpected, why)
    }
}
