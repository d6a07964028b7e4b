//! What h3 needs of QUIC, on quinn. Takes the place of h3-quinn 0.0.10 for three reasons: a client's
//! `STOP_SENDING` must end a request that is still being worked on; a stream dropped half-way must be reset and
//! never look finished; and every stream passes a [`Gate`].

mod stream;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use futures_util::stream::{Stream, unfold};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming};
use quinn::{ConnectionError, VarInt};

use super::gate::Gate;
use crate::http::flood::Flood;

pub(super) use stream::{BidiStream, RecvStream, SendStream};

type Streams<T> = Pin<Box<dyn Stream<Item = Result<T, ConnectionError>> + Send + Sync>>;

/// A connection, as h3 sees it.
pub(super) struct Connection {
    inner: quinn::Connection,
    bidirectional: Streams<(quinn::SendStream, quinn::RecvStream)>,
    unidirectional: Streams<quinn::RecvStream>,
    accepted: Accepted,
    opener: Opener,
    flood: Arc<Flood>,
}

/// Where the handle of the request stream accepted last is found.
#[derive(Clone, Default)]
pub(super) struct Accepted(Arc<Mutex<Option<Handle>>>);

impl Accepted {
    /// Takes it, once.
    pub(super) fn take(&self) -> Option<Handle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, handle: Handle) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }
}

/// What can be known of a request stream beside h3.
pub(super) struct Handle {
    stopped: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    is_guarded: Arc<AtomicBool>,
}

impl Handle {
    /// From now on a response that is dropped before its end is reset. (What h3 says by itself, when it refuses a
    /// field section, it never finishes.)
    pub(super) fn guard(&self) {
        self.is_guarded.store(true, Ordering::Relaxed);
    }

    /// Ready when the client wants no response any more, has all of it, or is gone.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(stopped) = &mut self.stopped {
            ready!(stopped.as_mut().poll(cx));
            self.stopped = None;
        }
        Poll::Ready(())
    }
}

impl Connection {
    pub(super) fn new(connection: quinn::Connection, flood: Arc<Flood>) -> (Self, Accepted) {
        let bidirectional = unfold(connection.clone(), |connection| async {
            Some((connection.accept_bi().await, connection))
        });
        let unidirectional = unfold(connection.clone(), |connection| async {
            Some((connection.accept_uni().await, connection))
        });
        let accepted = Accepted::default();
        let this = Self {
            opener: Opener { connection: connection.clone(), opening: None },
            inner: connection,
            bidirectional: Box::pin(bidirectional),
            unidirectional: Box::pin(unidirectional),
            accepted: accepted.clone(),
            flood,
        };
        (this, accepted)
    }
}

fn next<T>(streams: &mut Streams<T>, cx: &mut Context<'_>) -> Poll<Result<T, ConnectionErrorIncoming>> {
    // `unfold` without an end: `None` cannot come, and would be the end of the connection.
    let next = ready!(streams.as_mut().poll_next(cx)).unwrap_or(Err(ConnectionError::LocallyClosed));
    Poll::Ready(next.map_err(connection_error))
}

impl<B: Buf> quic::Connection<B> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        next(&mut self.unidirectional, cx)
            .map_ok(|stream| RecvStream::new(stream, Gate::unidirectional(), &self.inner, &self.flood))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::BidiStream, ConnectionErrorIncoming>> {
        let (send, recv) = ready!(next(&mut self.bidirectional, cx))?;
        let stopped = send.stopped();
        let is_guarded = Arc::new(AtomicBool::new(false));
        self.accepted.put(Handle {
            stopped: Some(Box::pin(async move { drop(stopped.await) })),
            is_guarded: Arc::clone(&is_guarded),
        });
        Poll::Ready(Ok(BidiStream {
            send: SendStream::new(send, Some(is_guarded)),
            recv: RecvStream::new(recv, Gate::request(), &self.inner, &self.flood),
        }))
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.inner.clone(), opening: None }
    }
}

/// Opens the edge's own streams: control and QPACK. A server opens no others.
pub(super) struct Opener {
    connection: quinn::Connection,
    opening: Option<Streams<quinn::SendStream>>,
}

impl Opener {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<quinn::SendStream, StreamErrorIncoming>> {
        let opening = self.opening.get_or_insert_with(|| {
            Box::pin(unfold(self.connection.clone(), |connection| async {
                Some((connection.open_uni().await, connection))
            }))
        });
        next(opening, cx)
            .map_err(|connection_error| StreamErrorIncoming::ConnectionErrorIncoming { connection_error })
    }
}

impl<B: Buf> quic::OpenStreams<B> for Opener {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("an HTTP/3 server opens no requests".into())))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        self.poll_open(cx).map_ok(|stream| SendStream::new(stream, None))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(varint(code.value()), reason);
    }
}

impl<B: Buf> quic::OpenStreams<B> for Connection {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<B>::close(&mut self.opener, code, reason);
    }
}

fn varint(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

fn connection_error(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}
