//! How a command ends badly: one line that says what, one that says what next, and an exit code scripts can tell apart.

use std::fmt;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::hint::Hints;

/// Why a command failed, for the exit code. Documented in `docs/operations/cli.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 0: whoever reads along, `head` for one, has enough. Nothing is said of it.
    ReaderGone = 0,
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
    /// 6: the server cannot be reached, or it or its database can do nothing at the moment.
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

impl Kind {
    /// The error code for scripts where no server gave one.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::ReaderGone => "done",
            Self::Unexpected => "unexpected",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Invalid => "invalid",
            Self::Locked => "locked",
            Self::Files => "files",
            Self::TooNew => "too_new",
            Self::Listen => "listen",
        }
    }
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

    /// Adds the stable code of whoever refused.
    pub(crate) fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// The code for the shell.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }

    /// The same failure, with what a command in its advice needs to reach the server at hand.
    pub(crate) fn completed(mut self, hints: &Hints) -> Self {
        self.next = self.next.map(|next| hints.complete(&next));
        self
    }

    /// As scripts read it: `{"error":{"code","message","next","exit"}}`.
    pub(crate) fn json(&self) -> Value {
        json!({ "error": {
            "code": self.code.as_deref().unwrap_or(self.kind.word()),
            "message": self.what,
            "next": self.next,
            "exit": self.kind as u8,
        } })
    }
}

/// The table printed by `--help`; `docs/operations/cli.md` has the same one.
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
    0  done
    1  unexpected; please report it
    2  the command line is wrong
    3  what was named does not exist, or is not yours to see
    4  it exists already, or is in use
    5  not allowed
    6  the server or its database cannot be reached, or is busy
    7  a value was rejected
   10  another process holds the data directory
   11  files cannot be read or written
   12  the data is from a newer version
   13  an address to listen on is taken or not allowed
  130  a second signal stopped the server before it had drained";

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
        let kind = match why.kind() {
            std::io::ErrorKind::BrokenPipe => Kind::ReaderGone,
            _ => Kind::Unexpected,
        };
        Self::new(kind, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_in_the_help() {
        use Kind::{
            Conflict, Files, Invalid, Listen, Locked, NotFound, Refused, TooNew, Unexpected, Unreachable,
            Usage,
        };
        let all = [
            Unexpected,
            Usage,
            NotFound,
            Conflict,
            Refused,
            Unreachable,
            Invalid,
            Locked,
            Files,
            TooNew,
            Listen,
        ];
        for kind in all {
            let line = format!("\n{:>5}  ", kind as u8);
            assert!(EXIT_CODES_HELP.contains(&line), "{kind:?} is missing");
            assert_ne!(kind.word(), "");
        }
        // Besides those: done, and a second signal to `serve`.
        assert_eq!(EXIT_CODES_HELP.lines().count(), 1 + all.len() + 2);
    }

    #[test]
    fn scripts_get_code_message_advice_and_exit_code() {
        let local = Failure::new(Kind::Files, "no such file").next("make it");
        let expected =
            json!({ "error": { "code": "files", "message": "no such file", "next": "make it", "exit": 11 } });
        assert_eq!(local.json(), expected);
        let mut served = Failure::new(Kind::NotFound, "there is no project x");
        served.code = Some("object.not_found".to_owned());
        assert_eq!(served.json()["error"]["code"], "object.not_found");
    }
}
