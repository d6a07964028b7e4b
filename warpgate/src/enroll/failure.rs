//! Why the connect service gave nothing, in sentences with a code, a next step and an exit code.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_pki::alert::{Sentence, own_error_sentence, peer_error_sentence};
use tunnel_proto::connect::{Refusal, refusal};

use crate::bundle::Rejected;
use crate::exit::Exit;
use crate::limits::ENROLL_EXCHANGE_MAX;
use crate::tunnel::proxied::ProxyFailure;
use crate::validity::NotNow;

/// Why control did not give what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectFailure {
    /// A stable dotted word.
    pub code: String,
    /// A sentence without a full stop.
    pub message: String,
    /// What to do.
    pub next: String,
    /// How the program ends if it ends on this.
    pub exit: Exit,
    /// Whether asking again is useless until a person did something.
    pub is_final: bool,
    /// Control's own answer, as opposed to what went wrong on the way to it.
    pub by_control: bool,
}

impl ConnectFailure {
    fn new(code: &str, message: impl Into<String>, next: &str) -> Self {
        let next = next.to_owned();
        Self {
            code: code.to_owned(),
            message: message.into(),
            next,
            exit: Exit::ControlUnreachable,
            is_final: false,
            by_control: false,
        }
    }

    fn ends(self, exit: Exit) -> Self {
        Self { exit, is_final: true, ..self }
    }

    pub(super) fn refused(refusal: &Refusal) -> Self {
        let message = refusal.message.trim_end_matches('.');
        let failure = Self { by_control: true, ..Self::new(&refusal.code, message, &refusal.next) };
        match refusal.code.as_str() {
            refusal::KEY_REVOKED | refusal::KEY_EXPIRED | refusal::WARPGATE_EVICTED => {
                failure.ends(Exit::KeyRevoked)
            }
            refusal::CLOCK_SKEW => failure.ends(Exit::ClockSkew),
            refusal::AGENT_TOO_OLD => failure.ends(Exit::TooOld),
            refusal::ENVIRONMENT_UNKNOWN => failure.ends(Exit::KeyInvalid),
            refusal::CSR_INVALID | refusal::REQUEST_MALFORMED => failure.ends(Exit::Failed),
            code if code.starts_with("key.") => failure.ends(Exit::KeyInvalid),
            _ => failure,
        }
    }

    pub(super) fn clock_skew(here: Timestamp, control: Timestamp, max: Duration) -> Self {
        let direction = if here > control { "ahead of" } else { "behind" };
        let message = format!(
            "this machine's clock is {} {direction} the control plane's (here {here}, there {control}); at most {} is \
             possible",
            span(here.since(control).max(control.since(here))),
            span(max),
        );
        Self::new(refusal::CLOCK_SKEW, message, CLOCK_NEXT).ends(Exit::ClockSkew)
    }

    /// Our side or theirs ended the TLS handshake with this alert; `not_now` if ours did because of a date.
    pub(super) fn alert(alert: u8, ours: bool, not_now: Option<NotNow>, now: Timestamp) -> Self {
        let Sentence { code, what, next, suspects_clock } =
            if ours { own_error_sentence(alert) } else { peer_error_sentence(alert) };
        let what = what.trim_end_matches('.');
        if suspects_clock {
            let date = not_now.map_or_else(String::new, |not_now| format!(": {not_now}"));
            let message = format!("{what}{date}; this machine's clock says {now}");
            return Self::new(code, message, CLOCK_NEXT).ends(Exit::ClockSkew);
        }
        Self::new(code, what, next)
    }

    pub(super) fn unreachable(why: String) -> Self {
        Self::new(
            "control.unreachable",
            why,
            "check that this machine reaches that host and port, over UDP or TCP, and that the platform runs",
        )
    }

    pub(super) fn of_proxy(why: ProxyFailure) -> Self {
        Self::new(why.code, why.message, why.next)
    }

    pub(super) fn slow() -> Self {
        Self::unreachable(format!("no answer within {} s", ENROLL_EXCHANGE_MAX.as_secs()))
    }

    /// The service was looked for through this many edges too.
    pub(super) fn after_detours(self, edges: usize) -> Self {
        let through =
            if edges == 1 { "the known edge".to_owned() } else { format!("any of {edges} known edges") };
        Self { message: format!("{}; nor through {through}", self.message), ..self }
    }

    pub(super) fn bad_answer(why: &str) -> Self {
        Self::new(
            "control.bad_answer",
            format!("the answer cannot be used: {why}"),
            "if it persists, tell the operator, or upgrade the older of platform and warpgate",
        )
    }

    /// Control's certificate was good, its bundle was not.
    pub(crate) fn unusable_bundle(why: &Rejected) -> Self {
        Self::bad_answer(&why.to_string())
    }

    pub(super) fn fault(why: String) -> Self {
        Self::new("warpgate.internal", why, "this is a fault of warpgate; please report it")
            .ends(Exit::Failed)
    }
}

const CLOCK_NEXT: &str = "set the clock (timedatectl set-ntp true), then connect again";

/// A duration in its largest fitting unit.
fn span(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3600),
        _ => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_ends_the_program_in_its_own_way_or_not_at_all() {
        let rows = [
            (refusal::KEY_UNKNOWN, Exit::KeyInvalid, true),
            (refusal::KEY_SCOPE, Exit::KeyInvalid, true),
            (refusal::ENVIRONMENT_UNKNOWN, Exit::KeyInvalid, true),
            (refusal::KEY_REVOKED, Exit::KeyRevoked, true),
            (refusal::KEY_EXPIRED, Exit::KeyRevoked, true),
            (refusal::WARPGATE_EVICTED, Exit::KeyRevoked, true),
            (refusal::CLOCK_SKEW, Exit::ClockSkew, true),
            (refusal::AGENT_TOO_OLD, Exit::TooOld, true),
            ("key.some_newer_word", Exit::KeyInvalid, true),
            (refusal::CONTROL_AWAY, Exit::ControlUnreachable, false),
            (refusal::INTERNAL, Exit::ControlUnreachable, false),
            ("some.newer_word", Exit::ControlUnreachable, false),
        ];
        for (code, exit, is_final) in rows {
            let refusal = Refusal { code: code.into(), message: "No.".into(), next: "Ask.".into() };
            let failure = ConnectFailure::refused(&refusal);
            assert_eq!((failure.exit, failure.is_final), (exit, is_final), "{code}");
            assert!(failure.by_control && !ConnectFailure::slow().by_control);
            assert_eq!((failure.message.as_str(), failure.next.as_str()), ("No", "Ask."));
        }
    }

    #[test]
    fn a_wrong_clock_is_named_with_its_direction() {
        let (here, there) = (Timestamp::from_seconds(26 * 3600), Timestamp::from_seconds(0));
        let day_ahead = ConnectFailure::clock_skew(here, there, Duration::from_mins(5));
        assert_eq!(
            day_ahead.message,
            "this machine's clock is 26 h ahead of the control plane's (here 1970-01-02T02:00:00Z, there \
             1970-01-01T00:00:00Z); at most 5 min is possible"
        );
        assert_eq!(day_ahead.exit, Exit::ClockSkew);
        let behind = ConnectFailure::clock_skew(there, Timestamp::from_seconds(400), Duration::from_mins(5));
        assert!(behind.message.contains("6 min behind"), "{}", behind.message);
        let expired = ConnectFailure::alert(45, true, Some(NotNow::Begins(here)), there);
        let text = &expired.message;
        assert!(text.contains("good only from 1970-01-02T02:00:00Z"), "{text}");
        assert!(text.contains("clock says 1970-01-01T00:00:00Z"), "{text}");
        assert_eq!(expired.exit, Exit::ClockSkew);
    }
}
