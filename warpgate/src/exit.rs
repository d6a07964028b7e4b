//! Exit codes: what a script or a service manager may rely on.

use std::process::ExitCode;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Drained after a signal, or nothing was left to do.
    Done,
    /// Something that should not happen did; the message says what.
    Failed,
    /// The command line, a file it names, or the missing key.
    Usage,
    /// The key is malformed, unknown, or not allowed to connect.
    KeyInvalid,
    /// The key was revoked or has expired, or an operator evicted this warpgate.
    KeyRevoked,
    /// The control plane cannot be reached (only with `--exit-on-failure`).
    ControlUnreachable,
    /// No edge can be reached or none accepts this warpgate (only with `--exit-on-failure`).
    NoTransport,
    /// This machine's clock is too far off.
    ClockSkew,
    /// An upstream that is needed does not answer (`--require-origin`, or `check`).
    Origin,
    /// The platform no longer serves a warpgate this old.
    TooOld,
    /// No running warpgate was found on this machine (`status`, `routes`, `logs`).
    NotRunning,
    /// A warpgate runs, and is not ready (`status`).
    NotReady,
    /// A second signal stopped it before it had drained.
    Interrupted,
}

/// The table printed by `--help`.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
    0  stopped by a signal, and drained
    1  an unexpected failure
    2  wrong usage, no key, or a file that cannot be used
    3  no running warpgate was found (status, routes, logs)
    4  a warpgate runs, and is not ready (status)
   10  the key is malformed, unknown, or not allowed to connect
   11  the key was revoked or has expired, or an operator evicted this warpgate
   12  the control plane cannot be reached (check, --exit-on-failure)
   13  no edge can be reached, or none accepts us (check, --exit-on-failure)
   14  this machine's clock is too far off
   15  an upstream does not answer (check, --require-origin)
   16  this warpgate is too old for the platform
  130  stopped by a second signal before it had drained";

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::KeyInvalid => 10,
            Self::KeyRevoked => 11,
            Self::ControlUnreachable => 12,
            Self::NoTransport => 13,
            Self::ClockSkew => 14,
            Self::Origin => 15,
            Self::TooOld => 16,
            Self::NotRunning => 3,
            Self::NotReady => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_in_the_help() {
        use Exit::{
            ClockSkew, ControlUnreachable, Done, Failed, Interrupted, KeyInvalid, KeyRevoked, NoTransport,
            NotReady, NotRunning, Origin, TooOld, Usage,
        };
        for exit in [
            Done,
            Failed,
            Usage,
            KeyInvalid,
            KeyRevoked,
            ControlUnreachable,
            NoTransport,
            ClockSkew,
            Origin,
            TooOld,
            NotRunning,
            NotReady,
            Interrupted,
        ] {
            let line = format!("\n{:>5}  ", exit.code());
            assert!(EXIT_CODES_HELP.contains(&line), "{exit:?} is missing");
        }
    }
}
