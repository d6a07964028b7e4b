//! Heads that come before the final one (1xx, RFC 9110 §15.2), on their way from the request path to the client.
//!
//! The request path holds [`Interim`], found in a request's extensions, and says them; the connection holds
//! [`Interims`] and writes them in its protocol's own way, always before the final head. A head that passes a bound
//! is dropped: interim heads are hints, and no response depends on them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ::http::header::{CONTENT_LENGTH, EXPECT, HeaderMap};
use ::http::{StatusCode, Version, request};
use tunnel_proto::limits::INFORMATIONAL_MAX;

/// Most octets of fields in all interim heads of one response together: a page's early hints take a few KiB.
pub const INTERIM_LEN_MAX: usize = 32 * 1024;

/// Octets counted for a field beside its name and value, as HPACK and QPACK count (RFC 7541 §4.1).
const FIELD_OVERHEAD: usize = 32;

/// Says interim heads to the client of one request. Cheap to clone.
///
/// Works from any task, and does nothing once the final head is being written or the client is gone.
#[derive(Clone, Debug)]
pub struct Interim {
    shared: Arc<Mutex<Queue>>,
    expects_continue: bool,
}

/// The connection's end of an [`Interim`]: what is to be written before the final head. Dropping it turns every
/// further head into nothing.
#[derive(Debug)]
pub struct Interims(Arc<Mutex<Queue>>);

/// One interim head.
#[derive(Debug)]
pub struct InterimHead {
    /// 100 or 102–199.
    pub status: StatusCode,
    /// Its end-to-end fields, already stripped.
    pub headers: HeaderMap,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<InterimHead>,
    /// Heads taken so far.
    count: u32,
    /// Octets taken so far.
    len: usize,
    has_continued: bool,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Interim {
    /// Both ends. `expects_continue`: the client sends its body when it is told to.
    pub fn pair(expects_continue: bool) -> (Self, Interims) {
        let shared = Arc::new(Mutex::new(Queue::default()));
        (Self { shared: Arc::clone(&shared), expects_continue }, Interims(shared))
    }

    /// Lets whoever gets the request say interim heads, and gives the connection's end. HTTP/1.0 clients know none
    /// (RFC 9110 §15.2), so nothing comes out for them.
    pub(super) fn attach(head: &mut request::Parts, has_body: bool) -> Interims {
        let (interim, interims) = Self::pair(has_body && expects_continue(&head.headers));
        if head.version >= Version::HTTP_11 {
            head.extensions.insert(interim);
        }
        interims
    }

    /// Whether the client waits for 100 (or a final head) before it sends its body. Pulling the body tells it to.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Says `status` with `headers`. 101 and everything that is no 1xx is not said here, and 100 only to a client that
    /// waits for it, once.
    pub fn send(&self, status: StatusCode, mut headers: HeaderMap) {
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let mut queue = lock(&self.shared);
        if queue.is_closed {
            return;
        }
        if status == StatusCode::CONTINUE {
            if !self.expects_continue || std::mem::replace(&mut queue.has_continued, true) {
                return;
            }
            headers.clear();
        }
        // No content follows an interim head, so a length would mislead (RFC 9110 §8.6).
        headers.remove(CONTENT_LENGTH);
        let len: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum();
        if queue.count >= INFORMATIONAL_MAX || queue.len.saturating_add(len) > INTERIM_LEN_MAX {
            return;
        }
        queue.count += 1;
        queue.len += len;
        queue.waiting.push_back(InterimHead { status, headers });
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }

    /// Tells a client that waits to send its body.
    pub fn go_on(&self) {
        self.send(StatusCode::CONTINUE, HeaderMap::new());
    }
}

impl Interims {
    /// The next head to write. Pending while there is none; never ends by itself.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<InterimHead> {
        let mut queue = lock(&self.0);
        if let Some(head) = queue.waiting.pop_front() {
            return Poll::Ready(head);
        }
        if !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            queue.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Interims {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.is_closed = true;
        queue.waiting.clear();
        queue.waker = None;
    }
}

fn lock(shared: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a request says `expect: 100-continue` (RFC 9110 §10.1.1) and nothing else of the kind.
fn expects_continue(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(EXPECT).iter();
    let is_continue =
        fields.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    is_continue && fields.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use ::http::HeaderValue;
    use futures_util::FutureExt as _;

    use super::*;

    fn taken(interims: &mut Interims) -> Vec<u16> {
        std::iter::from_fn(|| poll_fn(|cx| interims.poll_next(cx)).now_or_never())
            .map(|head| head.status.as_u16())
            .collect()
    }

    #[test]
    fn only_a_client_that_waits_is_told_to_go_on_and_only_once() {
        for (expects, told) in [(true, vec![100, 103]), (false, vec![103])] {
            let (interim, mut interims) = Interim::pair(expects);
            interim.send(StatusCode::CONTINUE, HeaderMap::new());
            interim.go_on();
            interim.send(StatusCode::EARLY_HINTS, HeaderMap::new());
            interim.send(StatusCode::SWITCHING_PROTOCOLS, HeaderMap::new());
            interim.send(StatusCode::OK, HeaderMap::new());
            assert_eq!(taken(&mut interims), told, "expects: {expects}");
        }
    }

    #[test]
    fn r23_interim_heads_are_bounded_in_number_and_size() {
        let (interim, mut interims) = Interim::pair(false);
        for _ in 0..1000 {
            interim.send(StatusCode::PROCESSING, HeaderMap::new());
        }
        assert_eq!(taken(&mut interims).len(), usize::try_from(INFORMATIONAL_MAX).unwrap());

        let (interim, mut interims) = Interim::pair(false);
        let mut large = HeaderMap::new();
        large.insert(
            "link",
            HeaderValue::from_maybe_shared(
                vec![b'x'; INTERIM_LEN_MAX / 2].into_iter().collect::<bytes::Bytes>(),
            )
            .unwrap(),
        );
        for _ in 0..4 {
            interim.send(StatusCode::EARLY_HINTS, large.clone());
        }
        assert_eq!(taken(&mut interims).len(), 1);
    }

    #[test]
    fn nobody_is_told_anything_once_the_connection_has_gone_on() {
        let (interim, interims) = Interim::pair(false);
        drop(interims);
        interim.send(StatusCode::EARLY_HINTS, HeaderMap::new());
        assert!(lock(&interim.shared).waiting.is_empty());
    }

    #[test]
    fn an_expectation_is_one_field_with_one_meaning() {
        let rows: [(&[&'static str], bool); 5] = [
            (&["100-continue"], true),
            (&["100-Continue"], true),
            (&[], false),
            (&["100-continue", "100-continue"], false),
            (&["200-ok"], false),
        ];
        for (values, expected) in rows {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(EXPECT, HeaderValue::from_static(value));
            }
            assert_eq!(expects_continue(&headers), expected, "{values:?}");
        }
    }
}
