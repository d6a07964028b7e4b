//! One attempt at one exchange: opens a stream, writes the request, waits for the response's head.
//!
//! Request and response are driven by the same future, so a request without a body costs no task. What failed says
//! whether sending it again is safe; whether to do so is [`super`]'s to decide.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use mezusphere_model::route::RouteTimeouts;
use tokio::time::{Instant, Sleep};
use tunnel_proto::codes::{FailureCode, ResetCode};
use tunnel_proto::exchange::{Event, Failure, ResponseHead};

use super::guard::{Guard, LOOK_EVERY};
use super::reader::{Reader, ReaderError};
use super::source::Source;
use super::upload::{Upload, UploadError};
use crate::request::refusal::Refusal;
use crate::tunnel::Tunnel;

/// How long to wait for a stream while the tunnel is at its limit of exchanges.
const OPEN_MAX: Duration = Duration::from_secs(2);

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

/// Tries once. On failure the body comes back, so far as it was not let go of.
pub(super) async fn attempt(
    tunnel: &Tunnel,
    head: Bytes,
    source: Option<Box<Source>>,
    timeouts: &RouteTimeouts,
    guard: Option<&mut Guard>,
) -> Result<Answered, (Failed, Option<Box<Source>>)> {
    let (send, recv) = match tokio::time::timeout(OPEN_MAX, tunnel.open()).await {
        Ok(Ok(streams)) => streams,
        Ok(Err(_)) => return Err((Failed::NotStarted(Refusal::NoTunnel), source)),
        Err(_) => return Err((Failed::NotStarted(Refusal::TunnelBusy), source)),
    };
    let has_body = source.is_some();
    // Boxed, because they travel on: into the response's body, and perhaps into a task.
    let mut upload = Box::new(Upload::new(send, head, source));
    let mut reader = Box::new(Reader::new(recv));
    let waited = {
        let mut wait = Wait::new(timeouts, has_body, guard);
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
    idle: Duration,
    head: Duration,
    /// When it has taken too long.
    deadline: Instant,
    uploading: bool,
    guard: Option<&'a mut Guard>,
}

impl<'a> Wait<'a> {
    fn new(timeouts: &RouteTimeouts, uploading: bool, guard: Option<&'a mut Guard>) -> Self {
        let idle = Duration::from_millis(timeouts.idle_ms.into());
        let head = Duration::from_millis(timeouts.head_ms.into());
        Self { idle, head, deadline: Instant::now() + if uploading { idle } else { head }, uploading, guard }
    }

    fn next_look(&self) -> Instant {
        if self.guard.is_some() { self.deadline.min(Instant::now() + LOOK_EVERY) } else { self.deadline }
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
                // Neither hyper nor h3 lets a 1xx through to the client, so it ends here.
                Poll::Ready(Ok(Event::Informational(_))) => {}
                Poll::Ready(Ok(Event::Response { head, end })) if !head.status.is_informational() => {
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
            Poll::Ready(Err(UploadError::Source(_))) => {
                self.reader.stop(ResetCode::ClientCut);
                Err(Failed::Final(Refusal::Body))
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
            if Instant::now() >= self.wait.deadline {
                let refusal = if self.wait.uploading && !self.upload.is_blocked() {
                    Refusal::BodyTimeout
                } else {
                    Refusal::HeadTimeout
                };
                return self.give_up(Failed::Final(refusal), ResetCode::Timeout);
            }
            if let Some(guard) = &mut self.wait.guard
                && !guard.holds_now()
            {
                return self.give_up(Failed::Final(Refusal::ControlRefused), ResetCode::Denied);
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
        let refusal = match error {
            ReaderError::Protocol => return Failed::Final(Refusal::TunnelProtocol),
            ReaderError::Reset(ResetCode::Rejected) => return Failed::NotStarted(Refusal::TunnelBusy),
            ReaderError::Reset(ResetCode::UpstreamCut) => Refusal::Warpgate(FailureCode::UpstreamClosed),
            ReaderError::Reset(ResetCode::Timeout) => Refusal::Warpgate(FailureCode::UpstreamTimeout),
            ReaderError::Reset(_) | ReaderError::Lost => Refusal::TunnelLost,
        };
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
