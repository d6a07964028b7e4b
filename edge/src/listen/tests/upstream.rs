//! The stand-in for the request path: answers by path, and counts what reached it.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use ::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::Notify;

use super::SOON;
use crate::http::{Body, BodyError, BoxError, ConnectionInfo, Handle, Interim, Upgrade, no_body};

/// The stand-in for the request path.
#[derive(Default)]
pub(super) struct Upstream {
    /// Requests that reached it.
    pub(super) requests: AtomicUsize,
    /// Requests whose future was dropped before it answered, and endless bodies that were.
    pub(super) dropped: AtomicUsize,
    /// Lets `/wait` answer.
    pub(super) release: Notify,
    /// Told when a request arrives, and when one is dropped.
    pub(super) changed: Notify,
    /// What request bodies ended with.
    pub(super) ends: std::sync::Mutex<Vec<Option<BodyError>>>,
}

impl Upstream {
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits until `is_so`, which is asked whenever something changes.
    pub(super) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if is_so(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(SOON, wait).await.expect("it never came to be");
    }

    async fn answer(self: &Arc<Self>, request: Request<Body>, connection: &ConnectionInfo) -> Response<Body> {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            // The request's body and trailers come back.
            "/echo" => {
                let (mut data, mut trailers) = (BytesMut::new(), None);
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    match frame.map(Frame::into_data) {
                        Ok(Ok(bytes)) => data.extend_from_slice(&bytes),
                        Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
                        Err(error) => return self.broken(&error),
                    }
                }
                self.end(None);
                let mut response = Response::new(parts(data.freeze(), trailers));
                // On h1, hyper sends only trailers that the head announced.
                response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
                response
            }
            // What arrived, as text.
            "/seen" => {
                let mut text = format!(
                    "{} {} {} {:?}\n",
                    request.method(),
                    request.uri(),
                    connection.protocol,
                    connection.sni
                );
                for (name, value) in request.headers() {
                    writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes())).unwrap();
                }
                Response::new(parts(text.into(), None))
            }
            // From where it came.
            "/client" => Response::new(parts(connection.client.to_string().into(), None)),
            "/wait" => {
                self.release.notified().await;
                Response::new(parts("waited".into(), None))
            }
            // Answers without looking at the body.
            "/early" => Response::new(parts("early".into(), None)),
            "/endless" => Response::new(Body::new(Endless(Arc::clone(self)))),
            "/broken" => Response::new(Body::new(Breaks(Some(Bytes::from_static(b"half"))))),
            "/empty" => {
                let mut response = Response::new(no_body());
                *response.status_mut() = ::http::StatusCode::NO_CONTENT;
                response
            }
            "/panic" => panic!("a request that panics, for a test"),
            _ => self.converse(request).await,
        }
    }

    /// What takes more than a request and a response.
    async fn converse(self: &Arc<Self>, request: Request<Body>) -> Response<Body> {
        match request.uri().path() {
            // Two early hints, and the second more once it is released.
            "/hints" => {
                let interim = request.extensions().get::<Interim>().cloned();
                let hint = |link: &'static str| {
                    let mut headers = HeaderMap::new();
                    headers.insert("link", HeaderValue::from_static(link));
                    if let Some(interim) = &interim {
                        interim.send(StatusCode::EARLY_HINTS, headers);
                    }
                };
                hint("</a.css>");
                self.release.notified().await;
                hint("</b.css>");
                Response::new(parts("hinted".into(), None))
            }
            // Wants the body of a client that waits only once it is released.
            "/expect" => {
                self.release.notified().await;
                let interim =
                    request.extensions().get::<Interim>().expect("the way for interim heads").clone();
                assert!(interim.expects_continue());
                interim.go_on();
                let data = request.into_body().collect().await.expect("the whole body").to_bytes();
                Response::new(parts(data, None))
            }
            // Refuses the body of a client that waits.
            "/decline" => {
                let mut response = Response::new(parts("declined".into(), None));
                *response.status_mut() = StatusCode::EXPECTATION_FAILED;
                response
            }
            // Switches protocols once it is released, and sends back what the client says.
            "/socket" => {
                let upgrade = request.extensions().get::<Upgrade>().expect("a wish to switch").clone();
                self.release.notified().await;
                let mut response =
                    Response::new(Body::new(Echo { client: request.into_body(), is_over: false }));
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response.headers_mut().insert("x-protocol", upgrade.protocol().parse().unwrap());
                response
            }
            // Switches, says one word, ends, and counts what the client says after it.
            "/parting" => {
                let body = Parting {
                    said: false,
                    ended: false,
                    client: request.into_body(),
                    upstream: Arc::clone(self),
                };
                let mut response = Response::new(Body::new(body));
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response
            }
            // Switches and breaks off.
            "/breaking" => {
                let mut response = Response::new(Body::new(Breaks(Some(Bytes::from_static(b"half")))));
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response
            }
            // Says a word each time it is released.
            "/words" => {
                let upstream = Arc::clone(self);
                let words = futures_util::stream::unfold(upstream, |upstream| async move {
                    upstream.release.notified().await;
                    Some((Ok(Frame::data(Bytes::from_static(b"word"))), upstream))
                });
                Response::new(Body::new(http_body_util::StreamBody::new(words)))
            }
            // Trailers and nothing else.
            "/trailers" => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("12"));
                let mut response = Response::new(Body::new(Frames([Frame::trailers(trailers)].into())));
                response.headers_mut().insert("trailer", HeaderValue::from_static("grpc-status"));
                response
            }
            _ => Response::new(parts("hello".into(), None)),
        }
    }

    fn broken(&self, error: &BoxError) -> Response<Body> {
        self.end(Some(*error.downcast_ref::<BodyError>().expect("a request body breaks with a BodyError")));
        let mut response = Response::new(no_body());
        *response.status_mut() = ::http::StatusCode::BAD_REQUEST;
        response
    }

    fn end(&self, end: Option<BodyError>) {
        self.ends.lock().unwrap().push(end);
        self.changed.notify_waiters();
    }
}

impl Handle for Arc<Upstream> {
    async fn handle(&self, request: Request<Body>, connection: &ConnectionInfo) -> Response<Body> {
        struct Dropped<'a>(Option<&'a Upstream>);
        impl Drop for Dropped<'_> {
            fn drop(&mut self) {
                if let Some(upstream) = self.0 {
                    upstream.dropped.fetch_add(1, Ordering::SeqCst);
                    upstream.changed.notify_waiters();
                }
            }
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        let mut dropped = Dropped(Some(self));
        let response = self.answer(request, connection).await;
        dropped.0 = None;
        response
    }
}

fn parts(data: Bytes, trailers: Option<HeaderMap>) -> Body {
    match trailers {
        Some(trailers) => Body::new(Frames([Frame::data(data), Frame::trailers(trailers)].into())),
        None => Body::new(http_body_util::Full::new(data).map_err(|never| match never {})),
    }
}

struct Frames(std::collections::VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// Gives 64 KiB whenever it is asked; counted when it is dropped.
struct Endless(Arc<Upstream>);

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        static CHUNK: [u8; 65536] = [b'x'; 65536];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK)))))
    }
}

/// The switched protocol of `/socket`: what comes goes back, and ends when the client has.
struct Echo {
    client: Body,
    is_over: bool,
}

impl http_body::Body for Echo {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(Pin::new(&mut self.client).poll_frame(cx));
        self.is_over = frame.is_none();
        // The end of this direction; the client's has ended before.
        Poll::Ready(Some(frame.unwrap_or_else(|| Ok(Frame::trailers(HeaderMap::new())))))
    }
}

/// The switched protocol of `/parting`; what the client says is counted in `dropped`.
struct Parting {
    said: bool,
    ended: bool,
    client: Body,
    upstream: Arc<Upstream>,
}

impl http_body::Body for Parting {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if !std::mem::replace(&mut this.said, true) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"bye")))));
        }
        if !std::mem::replace(&mut this.ended, true) {
            return Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new()))));
        }
        while let Some(frame) = std::task::ready!(Pin::new(&mut this.client).poll_frame(cx)) {
            let len = frame.unwrap().into_data().map_or(0, |data| data.len());
            this.upstream.dropped.fetch_add(len, Ordering::SeqCst);
            this.upstream.changed.notify_waiters();
        }
        Poll::Ready(None)
    }
}

/// Gives half and breaks off.
struct Breaks(Option<Bytes>);

impl http_body::Body for Breaks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(self.0.take().map(Frame::data).ok_or_else(|| "the upstream broke off".into())))
    }
}
