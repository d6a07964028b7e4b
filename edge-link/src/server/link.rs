//! One link: the HTTP/2 connection of an edge, its questions, and the wake.
//!
//! Each question runs inside the connection's own task, so whatever is left of it ends with the connection. An edge that
//! stops reading costs the windows and one batch; after [`NodeLimits::stall`](crate::limits::NodeLimits::stall) its connection is closed.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::server::SendResponse;
use h2::{Ping, PingPong, RecvStream, SendStream};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use mezusphere_model::id::EdgeId;
use mezusphere_model::link::LinkError;
use mezusphere_store::feed::Woken;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::accept::Accept;
use super::answer::{Asker, wake_line};
use super::reply::Failure;
use crate::body::{self, BodyError, Encoded, End, SendError};
use crate::limits::{CONNECTION_WINDOW, FIELDS_LEN_MAX, NodeLimits, SEND_BUFFER_LEN_MAX, STREAM_WINDOW};
use crate::wire::{DEFLATE, Endpoint, JSON, WakeLine, Word};

/// Batches a link holds in memory at a time.
const BATCHES: usize = 1;

/// One connection.
struct Link<'a> {
    port: &'a Accept,
    asker: Asker,
    batches: Semaphore,
    /// Reports and connect messages in memory.
    long_questions: Semaphore,
    /// The wake ends when the port leaves, so that the edge looks for another control node.
    stop: CancellationToken,
}

/// Serves a link until it ends or is dropped.
pub(super) async fn serve(port: &Accept, io: TlsStream<TcpStream>, edge: EdgeId, stop: CancellationToken) {
    let limits = &port.limits;
    let begun = timeout(limits.handshake, builder(limits).handshake::<_, Bytes>(io));
    let mut connection = match begun.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(why)) => return debug!(%edge, %why, "A link did not begin"),
        Err(_) => return debug!(%edge, "A link sent no preface in time"),
    };
    let asker = Asker { edge, link: port.edges.link(edge), feed: port.edges.feed(edge) };
    let link = Link {
        port,
        asker,
        batches: Semaphore::new(BATCHES),
        long_questions: Semaphore::new(limits.long_questions_per_link),
        stop: stop.clone(),
    };
    let mut alive = pin!(link.alive(connection.ping_pong()));
    let mut questions = FuturesUnordered::new();
    let mut is_leaving = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    questions.push(AssertUnwindSafe(link.question(request, respond)).catch_unwind());
                }
                Some(Err(why)) => return debug!(%edge, %why, "A link broke"),
                None => return,
            },
            Some(end) = questions.next() => match end {
                Ok(Ok(())) => {}
                Ok(Err(SendError::Broken(why))) => debug!(%edge, %why, "An answer was not taken"),
                Ok(Err(SendError::Stalled)) => return link.stalled(),
                Err(_) => error!(%edge, "A question's task panicked"),
            },
            () = &mut alive => return link.stalled(),
            () = stop.cancelled(), if !is_leaving => {
                is_leaving = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// Answers whatever is asked on a link that is not let in with the reason, until the edge has left: it has the time of a
/// handshake for that.
pub(super) async fn refuse(port: &Accept, io: TlsStream<TcpStream>, edge: EdgeId, why: LinkError) {
    let refusing = async {
        let mut connection = builder(&port.limits).handshake::<_, Bytes>(io).await?;
        while let Some(asked) = connection.accept().await {
            let (_, mut respond) = asked?;
            let failure = Failure::from(why.clone());
            let status = failure.status();
            let Ok(answer) = failure.encoded().await else { continue };
            // A sentence is shorter than any window.
            respond.send_response(head(status, answer.is_deflated), false)?.send_data(answer.bytes, true)?;
        }
        Ok::<_, h2::Error>(())
    };
    match timeout(port.limits.handshake, refusing).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => debug!(%edge, %why, "A link that was not let in broke"),
        Err(_) => debug!(%edge, "A link that was not let in is dropped"),
    }
}

fn builder(limits: &NodeLimits) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(FIELDS_LEN_MAX)
        .max_concurrent_streams(limits.streams_per_link)
        .max_send_buffer_size(SEND_BUFFER_LEN_MAX);
    builder
}

impl Link<'_> {
    fn stalled(&self) {
        self.port.tally.stalled.fetch_add(1, Ordering::Relaxed);
        warn!(edge = %self.asker.edge, "A link is dropped: its edge does not read any more");
    }

    /// Ends when the edge has not answered a PING within the stall limit.
    async fn alive(&self, ping_pong: Option<PingPong>) {
        let Some(mut ping_pong) = ping_pong else { return std::future::pending().await };
        let part = self.port.limits.stall / 3;
        loop {
            sleep(part).await;
            // An error is the connection's, which then ends by itself.
            match timeout(part * 2, ping_pong.ping(Ping::opaque())).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => return,
            }
        }
    }

    async fn question(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) -> Result<(), SendError> {
        if Endpoint::of_path(request.uri().path()) == Some(Endpoint::Wake) && request.method() == Method::POST
        {
            return self.wake(respond).await;
        }
        // Held until the answer is sent.
        let turn = self.port.questions.try_acquire();
        let answer = async {
            match &turn {
                Ok(_) => self.answer(request).await,
                Err(_) => Err(Failure::new(Word::Busy, "control is asked too much at once")),
            }
        };
        let answer = tokio::select! {
            answer = answer => answer,
            // Nobody waits for it any more.
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return Ok(()),
        };
        let (status, answered) = match answer {
            Ok((answer, batch)) => (StatusCode::OK, Ok((answer, batch))),
            Err(why) => {
                if why.word == Word::Busy {
                    self.port.tally.busy.fetch_add(1, Ordering::Relaxed);
                }
                (why.status(), why.encoded().await.map(|answer| (answer, None)))
            }
        };
        let Ok((answer, _batch)) = answered else {
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
            return Ok(());
        };
        let mut stream = respond.send_response(head(status, answer.is_deflated), false)?;
        body::send(&mut stream, answer.bytes, End::Closes, self.port.limits.stall).await
    }

    /// The answer, and the memory it takes up if it is a batch.
    async fn answer(
        &self,
        request: Request<RecvStream>,
    ) -> Result<(Encoded, Option<tokio::sync::SemaphorePermit<'_>>), Failure> {
        let (head, mut body) = request.into_parts();
        let endpoint = Endpoint::of_path(head.uri.path()).filter(|_| head.method == Method::POST);
        let Some(endpoint) = endpoint else {
            return Err(Failure::new(Word::Unknown, "this control node does not know this question"));
        };
        let is_deflated = body::is_deflated(&head.headers)?;
        let limits = &self.port.limits;
        let read = async {
            // Kept until control has answered: so long is the question in memory.
            let place =
                if endpoint.is_long_question() { self.long_questions.acquire().await.ok() } else { None };
            let question = body::read(&mut body, is_deflated, endpoint.question_len_max()).await?;
            Ok::<_, BodyError>((question, place))
        };
        let slow = |_| Failure::new(Word::Away, "the question came too slowly, or there were too many");
        let (question, _place) = timeout(limits.question, read).await.map_err(slow)??;
        let answer = async {
            let batch = if endpoint.is_batch() { self.batches.acquire().await.ok() } else { None };
            Ok((self.asker.answer(endpoint, &question).await?, batch))
        };
        let late = |_| Failure::new(Word::Away, "control did not answer in time");
        timeout(limits.answer, answer).await.map_err(late)?
    }

    /// Tells what changed, as it changes; ends when the port leaves or the source is gone.
    async fn wake(&self, mut respond: SendResponse<Bytes>) -> Result<(), SendError> {
        let mut wake = self.asker.feed.wake();
        let mut stream = respond.send_response(head(StatusCode::OK, false), false)?;
        // The first tick is at once: the edge then knows that it was let in.
        let mut heartbeat = interval(self.port.limits.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let line = tokio::select! {
                _ = heartbeat.tick() => WakeLine::default(),
                woken = wake.woken() => match woken {
                    Woken::Closed => break,
                    woken => match wake_line(&woken) {
                        Some(line) => line,
                        None => continue,
                    },
                },
                () = self.stop.cancelled() => break,
                reset = poll_fn(|cx| stream.poll_reset(cx)) => {
                    drop(reset);
                    return Ok(());
                }
            };
            self.tell(&mut stream, &line).await?;
        }
        stream.send_data(Bytes::new(), true)?;
        Ok(())
    }

    async fn tell(&self, stream: &mut SendStream<Bytes>, line: &WakeLine) -> Result<(), SendError> {
        let mut json = match serde_json::to_vec(line).map_err(|why| BodyError::Malformed(why.to_string())) {
            Ok(json) => json,
            Err(why) => {
                error!(%why, "A line of the wake could not be written");
                return Ok(());
            }
        };
        json.push(b'\n');
        body::send(stream, json.into(), End::Open, self.port.limits.stall).await
    }
}

fn head(status: StatusCode, is_deflated: bool) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    head.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(JSON));
    if is_deflated {
        head.headers_mut().insert(CONTENT_ENCODING, http::HeaderValue::from_static(DEFLATE));
    }
    head
}
