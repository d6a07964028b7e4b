//! What the guard of a connection and the service that answers its requests tell one another.
//!
//! The guard sees octets and no exchanges, the service sees exchanges and no octets, and hyper stands between them:
//! why a request was refused, whether one waits for a switch of protocols, how far answers have come, whether one must
//! end, and the interim heads that hyper's server cannot write, go past it here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::head::Violation;
use crate::http::InterimHead;
use crate::http::leash::{self, Leash};

/// What both ends of one connection know. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire(Arc<State>);

#[derive(Debug, Default)]
struct State {
    violation: OnceLock<Violation>,
    /// Which request, counted from one, waits for a switch of protocols; 0: none.
    held: AtomicU64,
    answers: AtomicU64,
    has_said: AtomicBool,
    said: Mutex<Said>,
    /// Whether the response that is being written must end.
    leash: Mutex<Option<Leash>>,
}

#[derive(Debug, Default)]
struct Said {
    octets: BytesMut,
    /// Who waits for all of it to be written.
    waiter: Option<Waker>,
}

impl Wire {
    /// The connection's last request is refused. Only the first counts: nothing is read after it.
    pub(super) fn refuse(&self, violation: Violation) {
        self.0.violation.get_or_init(|| violation);
    }

    /// Why the last request was refused, if one was.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.0.violation.get().copied()
    }

    /// The request whose head went through as the `nth`, counted from one, waits for a switch of protocols. It is the
    /// connection's last.
    pub(super) fn hold(&self, nth: u64) {
        self.0.held.store(nth, Ordering::Release);
    }

    /// Whether the request that is being answered waits for a switch of protocols.
    pub(super) fn is_held(&self) -> bool {
        self.0.held.load(Ordering::Acquire) == self.answers() + 1
    }

    /// The response that is written next ends when `leash` says so.
    pub(super) fn answer_on(&self, leash: Option<Leash>) {
        *self.0.leash.lock().unwrap_or_else(PoisonError::into_inner) = leash;
    }

    /// Whether the response that is being written must end: to be asked while the client does not take it.
    pub(super) fn is_over(&self, cx: &mut Context<'_>) -> bool {
        leash::is_over(self.0.leash.lock().unwrap_or_else(PoisonError::into_inner).as_ref(), cx)
    }

    /// A request was answered, as far as its head.
    pub(super) fn answered(&self) {
        self.0.answers.fetch_add(1, Ordering::AcqRel);
    }

    /// How many requests were.
    pub(super) fn answers(&self) -> u64 {
        self.0.answers.load(Ordering::Acquire)
    }

    /// Says an interim head. 100 is not said here: hyper says it when the body is asked for.
    pub(super) fn say(&self, head: &InterimHead) {
        if head.status == ::http::StatusCode::CONTINUE {
            return;
        }
        let phrase = head.status.canonical_reason().unwrap_or_default();
        let mut said = self.lock();
        let octets = &mut said.octets;
        octets.extend_from_slice(b"HTTP/1.1 ");
        octets.extend_from_slice(head.status.as_str().as_bytes());
        octets.extend_from_slice(b" ");
        octets.extend_from_slice(phrase.as_bytes());
        octets.extend_from_slice(b"\r\n");
        for (name, value) in &head.headers {
            octets.extend_from_slice(name.as_str().as_bytes());
            octets.extend_from_slice(b": ");
            octets.extend_from_slice(value.as_bytes());
            octets.extend_from_slice(b"\r\n");
        }
        octets.extend_from_slice(b"\r\n");
        self.0.has_said.store(true, Ordering::Release);
    }

    /// Ready when everything said is written. A final head must wait for it, because hyper's octets and these share no
    /// order but the one kept here.
    pub(super) fn poll_written(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.0.has_said.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.lock().waiter = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What is to be written now, if anything; to be asked when hyper has nothing left to write.
    pub(super) fn take_said(&self) -> Option<Bytes> {
        if !self.0.has_said.load(Ordering::Acquire) {
            return None;
        }
        Some(self.lock().octets.split().freeze())
    }

    /// What was taken is written.
    pub(super) fn written(&self) {
        let mut said = self.lock();
        if said.octets.is_empty() {
            self.0.has_said.store(false, Ordering::Release);
        }
        if let Some(waiter) = said.waiter.take() {
            waiter.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
