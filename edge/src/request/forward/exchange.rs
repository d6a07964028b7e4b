//! One attempt at one exchange: opens a stream, writes the request, waits for the response's head.
//!
//! Request and response are driven by the same future, so a request without a body costs no task. Heads that come
//! before the final one are said to the client as they come. What failed says whether sending it again is safe;
//! whether to do so is [`super`]'s to decide.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use mezusphere_model::route::RouteTimeouts;
use tokio::time::{Instant, Sleep};
use tunnel_proto::codes::{FailureCode, ResetCode};
use tunnel_proto::exchange::{Event, Failure, ResponseHead};

use ::http::StatusCode;
use mezusphere_model::Platform;

use super::guard::Guard;
use super::reader::{Reader, ReaderError};
use super::source::Source;
use super::source::SourceError;
use super::upload::{Upload, UploadError};
use crate::http::Interim;
use crate::request::refusal::Refusal;
use crate::tunnel::Tunnel;

/// How long to wait for a stream while the tunnel is at its limit of exchanges.
const OPEN_MAX: Duration = Duration::from_secs(2);

/// How long a client that waits for 100 waits at most: an upstream that knows no 100 says nothing until it has the body
/// (RFC 9110 §10.1.1). Clients themselves wait about as long.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// What holds for each attempt at one request.
pub(super) struct Terms<'a> {
    /// The route's time-outs.
    pub(super) timeouts: &'a RouteTimeouts,
    /// When the whole exchange must have ended.
    pub(super) until: Option<Instant>,
    /// Says whether the caller may still have it.
    pub(super) guard: &'a mut Guard,
    /// Where to say 1xx heads.
    pub(super) interim: Option<&'a Interim>,
    /// Whether the head asks to switch protocols.
    pub(super) upgrade: bool,
    /// The installation's hosts, for whom no workload may speak.
    pub(super) hosts: &'a Platform,
}

/// A response whose head has come.
pub(super) struct Answered {
    /// Its head.
    pub(super) head: ResponseHead,
    /// Whether nothing follows it.
    pub(super) end: bool,
    /// The rest.
    pub(super) reader: Box<Reader>,
    /// The request, perhaps still being written.
    pub(super) upload: Box<Upload>,
}

/// Why an attempt brought no response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Nothing was acted on: sending it elsewhere is safe.
    NotStarted(Refusal),
    /// Nothing was acted on, because the warpgate does not know whose it is: sending it once more, in full, is safe.
    Identity(FailureCode),
    /// It may have been acted on, and no byte came back: safe to send again only if the method is idempotent.
    Unknown(Refusal),
    /// Sending it again is not safe, or useless.
    Final(Refusal),
}

impl Failed {
    /// Whether it speaks against tunnel, warpgate or upstream, so that the next exchange is better sent elsewhere.
    pub(super) fn blames_the_way(&self) -> bool {
        let (Self::NotStarted(refusal) | Self::Unknown(refusal) | Self::Final(refusal)) = self else {
            return false;
        };
        match refusal {
            Refusal::NoTunnel
            | Refusal::TunnelBusy
            | Refusal::TunnelLost
            | Refusal::TunnelProtocol
            | Refusal::HeadTimeout => true,
            Refusal::Warpgate(code) => code.speaks_against_the_warpgate(),
            _ => false,
        }
    }
}

/// Tries once. On failure the body comes back, so far as it was not let go of.
pub(super) async fn attempt(
    tunnel: &Tunnel,
    head: Bytes,
    source: Option<Box<Source>>,
    terms: Terms<'_>,
) -> Result<Answered, (Failed, Option<Box<Source>>)> {
    let (send, recv) = match tokio::time::timeout(OPEN_MAX, tunnel.open()).await {
        Ok(Ok(streams)) => streams,
        Ok(Err(_)) => return Err((Failed::NotStarted(Refusal::NoTunnel), source)),
        Err(_) => return Err((Failed::NotStarted(Refusal::TunnelBusy), source)),
    };
    let has_body = source.is_some();
    // Boxed, because they travel on: into the response's body, and perhaps into a task.
    let mut upload = Box::new(Upload::new(send, head, source));
    if terms.upgrade {
        upload.hold();
    }
    let mut reader = Box::new(Reader::new(recv));
    let waited = {
        let mut wait = Wait::new(terms, has_body);
        let timer = pin!(tokio::time::sleep_until(wait.next_look()));
        let mut race = Race { upload: &mut upload, reader: &mut reader, timer, wait: &mut wait };
        poll_fn(|cx| race.poll(cx)).await
    };
    match waited {
        Ok((head, end)) => Ok(Answered { head, end, reader, upload }),
        Err(failed) => Err((failed, upload.abandon())),
    }
}

/// How long an attempt may take, and what it is looked at for meanwhile.
struct Wait<'a> {
    terms: Terms<'a>,
    idle: Duration,
    head: Duration,
    /// When it has taken too long.
    deadline: Instant,
    uploading: bool,
    /// When a client that waits for 100 has waited long enough.
    go_on: Option<Instant>,
}

impl<'a> Wait<'a> {
    fn new(terms: Terms<'a>, uploading: bool) -> Self {
        let idle = Duration::from_millis(terms.timeouts.idle_ms.into());
        let head = Duration::from_millis(terms.timeouts.head_ms.into());
        let now = Instant::now();
        let waits = uploading && terms.interim.is_some_and(Interim::expects_continue);
        let go_on = waits.then(|| now + CONTINUE_WAIT);
        Self { terms, idle, head, deadline: now + if uploading { idle } else { head }, uploading, go_on }
    }

    fn next_look(&self) -> Instant {
        let soonest = self.deadline.min(self.terms.guard.look_at());
        [self.terms.until, self.go_on].into_iter().flatten().fold(soonest, Instant::min)
    }
}

/// The request going out, the response coming in, and the clock.
struct Race<'a, 'g> {
    upload: &'a mut Upload,
    reader: &'a mut Reader,
    timer: Pin<&'a mut Sleep>,
    wait: &'a mut Wait<'g>,
}

type Head = (ResponseHead, bool);

impl Race<'_, '_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Failed>> {
        if !self.upload.is_finished() {
            self.poll_upload(cx)?;
        }
        loop {
            match self.reader.poll_event(cx) {
                Poll::Ready(Ok(Event::Informational(head))) => {
                    if head.status == StatusCode::CONTINUE {
                        self.go_on(cx)?;
                    }
                    self.say(head);
                }
                Poll::Ready(Ok(Event::Response { head, end })) if self.may_be(head.status, end) => {
                    if head.status.is_success() {
                        // An upstream that needs no 100 to begin may still want the body.
                        self.upload.open();
                    }
                    return Poll::Ready(Ok((head, end)));
                }
                Poll::Ready(Ok(Event::Failure(failure))) => {
                    self.reader.end();
                    self.upload.reset_with(ResetCode::NotNeeded);
                    return Poll::Ready(Err(failed(&failure)));
                }
                Poll::Ready(Ok(_)) => {
                    return self.give_up(Failed::Final(Refusal::TunnelProtocol), ResetCode::Protocol);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.broken(error))),
                Poll::Pending => break,
            }
        }
        self.poll_timer(cx)
    }

    /// Whether a final head may have this status: 101 only where a switch was asked for, and something follows.
    fn may_be(&self, status: StatusCode, end: bool) -> bool {
        !status.is_informational()
            || (status == StatusCode::SWITCHING_PROTOCOLS && self.wait.terms.upgrade && !end)
    }

    /// Says a 1xx head to the client, stripped like any other.
    fn say(&self, mut head: ResponseHead) {
        if let Some(interim) = self.wait.terms.interim {
            super::strip(&mut head.headers, self.wait.terms.hosts);
            interim.send(head.status, head.headers);
        }
    }

    /// Tells a client that waits for 100 to send its body.
    fn go_on(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        self.wait.go_on = None;
        self.upload.open();
        if self.upload.is_finished() { Ok(()) } else { self.poll_upload(cx) }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        let mut moved = false;
        let wait = &mut *self.wait;
        match self.upload.poll(cx, &mut moved) {
            Poll::Ready(Ok(()) | Err(UploadError::Stopped(_))) => {
                if wait.uploading {
                    wait.uploading = false;
                    wait.deadline = Instant::now() + wait.head;
                    self.timer.as_mut().reset(wait.next_look());
                }
                Ok(())
            }
            Poll::Ready(Err(UploadError::Lost)) => Err(self.broken(ReaderError::Lost)),
            Poll::Ready(Err(UploadError::Source(why))) => {
                self.reader.stop(ResetCode::ClientCut);
                Err(Failed::Final(match why {
                    SourceError::Cut | SourceError::Length => Refusal::Body,
                    SourceError::Stalled => Refusal::BodyTimeout,
                    SourceError::TooLarge(max) => Refusal::BodyTooLarge(max),
                    SourceError::Shed => Refusal::Overloaded,
                }))
            }
            Poll::Pending if moved => {
                wait.deadline = Instant::now() + wait.idle;
                self.timer.as_mut().reset(wait.next_look());
                Ok(())
            }
            Poll::Pending => Ok(()),
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Failed>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.wait.terms.until.is_some_and(|until| now >= until) {
                return self.give_up(Failed::Final(Refusal::TotalTimeout), ResetCode::Timeout);
            }
            if self.wait.go_on.is_some_and(|at| now >= at) {
                self.go_on(cx)?;
            }
            if now >= self.wait.deadline {
                let refusal = if self.wait.uploading && !self.upload.is_blocked() {
                    Refusal::BodyTimeout
                } else {
                    Refusal::HeadTimeout
                };
                return self.give_up(Failed::Final(refusal), ResetCode::Timeout);
            }
            let guard = &mut *self.wait.terms.guard;
            if let Err(over) = guard.check(now) {
                tracing::debug!(%over, "An exchange was ended before its answer came");
                let refusal = guard.refusal(over);
                return self.give_up(Failed::Final(refusal), ResetCode::Denied);
            }
            self.timer.as_mut().reset(self.wait.next_look());
        }
        Poll::Pending
    }

    fn give_up(&mut self, failed: Failed, code: ResetCode) -> Poll<Result<Head, Failed>> {
        self.reader.stop(code);
        self.upload.cancel(code);
        Poll::Ready(Err(failed))
    }

    fn broken(&mut self, error: ReaderError) -> Failed {
        let refusal = error.refusal();
        match error {
            ReaderError::Protocol | ReaderError::End => return Failed::Final(refusal),
            ReaderError::Reset(ResetCode::Rejected) => return Failed::NotStarted(refusal),
            ReaderError::Reset(_) | ReaderError::Lost => {}
        }
        if !self.upload.has_begun() {
            Failed::NotStarted(Refusal::NoTunnel)
        } else if self.reader.has_heard() {
            Failed::Final(refusal)
        } else {
            Failed::Unknown(refusal)
        }
    }
}

/// What a warpgate's failure allows.
fn failed(failure: &Failure) -> Failed {
    tracing::debug!(
        code = failure.code.name(),
        detail = failure.detail,
        started = failure.started,
        "A warpgate failed"
    );
    let (code, refusal) = (failure.code, Refusal::Warpgate(failure.code));
    match (failure.started, code) {
        (false, FailureCode::UnknownPrincipal | FailureCode::AssertionInvalid) => Failed::Identity(code),
        (false, _) if code.may_try_elsewhere() => Failed::NotStarted(refusal),
        (true, FailureCode::UpstreamClosed) => Failed::Unknown(refusal),
        _ => Failed::Final(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_provably_did_not_start_may_be_sent_elsewhere() {
        for code in FailureCode::ALL {
            let told = |started| failed(&Failure { code: *code, detail: String::new(), started });
            assert!(!matches!(told(true), Failed::NotStarted(_) | Failed::Identity(_)), "{code}");
            if code.may_try_elsewhere() {
                assert!(matches!(told(false), Failed::NotStarted(_)), "{code}");
            }
        }
        let unsafe_to_repeat =
            Failure { code: FailureCode::UpstreamTimeout, detail: String::new(), started: true };
        assert!(matches!(failed(&unsafe_to_repeat), Failed::Final(_)));
    }
}
