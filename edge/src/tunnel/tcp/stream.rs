//! One stream of a tunnel over TCP. Its two halves share the HTTP/2 stream, because a reset ends both.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use ::http::StatusCode;
use bytes::{Buf as _, Bytes};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use tunnel_proto::codes::ResetCode;

use crate::tunnel::stream::{RecvEnd, SendEnd, Written};

/// Octets asked of flow control at once: what one turn writes at most.
const WRITE_LEN_MAX: usize = 64 * 1024;

/// The sending side, which also resets.
#[derive(Clone)]
struct Stream(Arc<Mutex<SendStream<Bytes>>>);

impl Stream {
    /// Held for one call at a time, never over an await.
    fn lock(&self) -> MutexGuard<'_, SendStream<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self, code: ResetCode) {
        self.lock().send_reset(Reason::from(code.http2()));
    }
}

/// The two halves of a stream that was just opened.
pub(super) fn halves(response: ResponseFuture, send: SendStream<Bytes>) -> (TcpSend, TcpRecv) {
    let stream = Stream(Arc::new(Mutex::new(send)));
    (TcpSend(stream.clone()), TcpRecv { stream, state: State::Awaiting(response) })
}

/// What is said on a stream.
pub(crate) struct TcpSend(Stream);

impl TcpSend {
    pub(in crate::tunnel) fn poll_write_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<Written, SendEnd>> {
        let mut stream = self.0.lock();
        let len: usize = chunks.iter().map(Bytes::len).sum();
        stream.reserve_capacity(len.min(WRITE_LEN_MAX));
        while stream.capacity() == 0 && len > 0 {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(ended(&mut stream, cx, Some(&error)))),
                None => return Poll::Ready(Err(ended(&mut stream, cx, None))),
            }
        }
        let mut written = Written { bytes: 0, chunks: 0 };
        let mut room = stream.capacity();
        for chunk in chunks {
            let len = chunk.len().min(room);
            if len > 0 {
                match stream.send_data(chunk.slice(..len), false) {
                    Ok(()) => chunk.advance(len),
                    // What was taken before counts: it may have reached the warpgate. The end is told at the next call.
                    Err(_) if written.bytes > 0 => break,
                    Err(error) => return Poll::Ready(Err(ended(&mut stream, cx, Some(&error)))),
                }
            }
            room -= len;
            written.bytes += len;
            if !chunk.is_empty() {
                break;
            }
            written.chunks += 1;
        }
        Poll::Ready(Ok(written))
    }

    pub(in crate::tunnel) fn finish(&mut self) {
        // Fails if the stream has been reset: then its end is known.
        drop(self.0.lock().send_data(Bytes::new(), true));
    }

    pub(in crate::tunnel) fn reset(&mut self, code: ResetCode) {
        self.0.reset(code);
    }
}

/// What is heard on a stream.
pub(crate) struct TcpRecv {
    stream: Stream,
    state: State,
}

enum State {
    /// The warpgate has not answered yet.
    Awaiting(ResponseFuture),
    /// It has, as it must.
    Open(RecvStream),
    /// Nothing more is wanted.
    Over,
}

impl TcpRecv {
    pub(in crate::tunnel) fn poll_read_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<Option<usize>, RecvEnd>> {
        loop {
            match &mut self.state {
                State::Awaiting(response) => {
                    // There is nothing to be informed of: what is said of a response travels in its body.
                    let informed = matches!(response.poll_informational(cx), Poll::Ready(Some(Ok(_))));
                    let answer = if informed { None } else { Some(ready!(Pin::new(response).poll(cx))) };
                    match answer {
                        Some(Ok(response)) if response.status() == StatusCode::OK => {
                            self.state = State::Open(response.into_body());
                        }
                        Some(Err(error)) => {
                            self.state = State::Over;
                            return Poll::Ready(Err(why(&error).into()));
                        }
                        None | Some(Ok(_)) => {
                            self.stop(ResetCode::Protocol);
                            return Poll::Ready(Err(RecvEnd::Reset(ResetCode::Protocol)));
                        }
                    }
                }
                State::Open(recv) => return poll_body(recv, cx, chunks),
                State::Over => return Poll::Ready(Err(RecvEnd::Lost)),
            }
        }
    }

    pub(in crate::tunnel) fn stop(&mut self, code: ResetCode) {
        // A reset would end what is still being sent. HTTP/2 itself drops what comes for a stream that nobody reads.
        if code != ResetCode::NotNeeded {
            self.stream.reset(code);
        }
        self.state = State::Over;
    }
}

fn poll_body(
    recv: &mut RecvStream,
    cx: &mut Context<'_>,
    chunks: &mut [Bytes],
) -> Poll<Result<Option<usize>, RecvEnd>> {
    let mut filled = 0;
    while let Some(place) = chunks.get_mut(filled) {
        let polled = recv.poll_data(cx);
        if filled > 0 && !matches!(polled, Poll::Ready(Some(Ok(_)))) {
            // What ended the stream is told again at the next call.
            break;
        }
        match ready!(polled) {
            Some(Ok(data)) => {
                // Fails if the stream is over: then nobody counts any more.
                drop(recv.flow_control().release_capacity(data.len()));
                if !data.is_empty() {
                    *place = data;
                    filled += 1;
                }
            }
            Some(Err(error)) => return Poll::Ready(Err(why(&error).into())),
            None => return Poll::Ready(Ok(None)),
        }
    }
    Poll::Ready(Ok(Some(filled)))
}

/// Why a stream can be written no more. That it cannot is all that an attempt to write says; the reset that ended it knows
/// more: a warpgate that has answered and needs no more of the request is no lost tunnel.
fn ended(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>, error: Option<&h2::Error>) -> SendEnd {
    match stream.poll_reset(cx) {
        Poll::Ready(Ok(reason)) => SendEnd::Stopped(ResetCode::from_http2(reason.into())),
        Poll::Ready(Err(_)) | Poll::Pending => error.map_or(SendEnd::Lost, why),
    }
}

/// What an error of a stream says.
fn why(error: &h2::Error) -> SendEnd {
    match error.reason() {
        Some(reason) if error.is_reset() => SendEnd::Stopped(ResetCode::from_http2(reason.into())),
        _ => SendEnd::Lost,
    }
}

impl From<SendEnd> for RecvEnd {
    fn from(end: SendEnd) -> Self {
        match end {
            SendEnd::Stopped(code) => Self::Reset(code),
            SendEnd::Lost => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use ::http::{Request, Response};

    use super::*;

    #[tokio::test]
    async fn a_stream_whose_answer_came_before_the_request_was_over_was_stopped_and_not_lost() {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (warpgate, edge) = tokio::join!(h2::server::handshake(theirs), h2::client::handshake(ours));
        let (mut warpgate, (mut requests, connection)) = (warpgate.unwrap(), edge.unwrap());
        let driver = tokio::spawn(connection);
        let (response, send) = requests.send_request(Request::post("/").body(()).unwrap(), false).unwrap();
        let (mut send, _recv) = halves(response, send);
        let mut head = [Bytes::from_static(b"head")];
        let written = poll_fn(|cx| send.poll_write_chunks(cx, &mut head)).await.unwrap();
        assert_eq!((written.bytes, written.chunks), (4, 1));
        let (request, mut respond) = warpgate.accept().await.unwrap().unwrap();
        respond.send_response(Response::new(()), true).unwrap();
        drop((request, respond));
        let served = tokio::spawn(async move { while warpgate.accept().await.is_some() {} });
        poll_fn(|cx| send.0.lock().poll_reset(cx)).await.unwrap();
        let mut rest = [Bytes::from_static(b"the"), Bytes::from_static(b"rest")];
        let end = poll_fn(|cx| send.poll_write_chunks(cx, &mut rest)).await.map(|_| ());
        assert!(matches!(end, Err(SendEnd::Stopped(ResetCode::NotNeeded))), "{end:?}");
        driver.abort();
        served.abort();
    }
}
