//! The request body's way from the edge to the upstream's connection, at the upstream's pace.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::Event;
use tunnel_proto::headers;

use super::body::Part;
use super::stream::{FromEdge, StreamEnd};
use super::validate::BodyLength;
use crate::limits::UPLOAD_PIECE_LEN;

/// When something last moved, for the time-outs. Shared by both directions of one exchange.
pub(super) struct Activity {
    start: Instant,
    last_us: AtomicU64,
    uploaded_us: AtomicU64,
    has_head: AtomicBool,
}

/// Shortest pause between two looks at the time, whatever a route's time-outs say.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(10);

/// Not yet.
const NEVER: u64 = u64::MAX;

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            last_us: AtomicU64::new(0),
            uploaded_us: AtomicU64::new(NEVER),
            has_head: AtomicBool::new(false),
        }
    }

    /// A byte moved.
    pub(super) fn touch(&self) {
        self.last_us.store(self.now_us(), Ordering::Relaxed);
    }

    /// The request's last byte has gone.
    pub(super) fn uploaded(&self) {
        self.touch();
        self.uploaded_us.store(self.now_us(), Ordering::Relaxed);
    }

    /// The response's head has come.
    pub(super) fn has_head(&self) {
        self.touch();
        self.has_head.store(true, Ordering::Relaxed);
    }

    /// Whether the response's head has come.
    pub(super) fn is_answered(&self) -> bool {
        self.has_head.load(Ordering::Relaxed)
    }

    /// Since the exchange began.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Resolves when no byte has moved for this long.
    pub(super) async fn idle_for(&self, idle: Duration) {
        loop {
            let last = self.start + Duration::from_micros(self.last_us.load(Ordering::Relaxed));
            if last.elapsed() >= idle {
                return;
            }
            sleep_until(last + idle).await;
        }
    }

    /// Resolves when `head` has passed since the last byte of the request without a response head, or `idle`
    /// without a byte in either direction, or `total` since the beginning.
    pub(super) async fn timed_out(&self, head: Duration, idle: Duration, total: Option<Duration>) {
        // Looks at most `head` ahead, so that a time-out that begins meanwhile is never noticed late.
        loop {
            let uploaded = self.uploaded_us.load(Ordering::Relaxed);
            let last = self.start + Duration::from_micros(self.last_us.load(Ordering::Relaxed));
            let deadline = if uploaded != NEVER && !self.is_answered() {
                self.start + Duration::from_micros(uploaded) + head
            } else {
                last + idle
            };
            let deadline = total.map_or(deadline, |total| deadline.min(self.start + total));
            let now = Instant::now();
            if now >= deadline {
                return;
            }
            let look = now + head.max(LOOK_PAUSE_MIN);
            sleep_until(if self.is_answered() { deadline } else { deadline.min(look) }).await;
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(NEVER - 1)
    }
}

/// Passes the body on until it is whole, then watches for the edge giving up. Resolves only with the reason to
/// give up; dropped when the response is complete.
pub(super) async fn upload(
    from: &mut FromEdge,
    parts: Option<mpsc::Sender<Part>>,
    length: BodyLength,
    activity: &Activity,
) -> StreamEnd {
    if let Some(parts) = parts {
        match pass_on(from, &parts, length, activity).await {
            Ok(Passed::Whole) => {}
            Ok(Passed::NotWanted) => {
                from.stop(ResetCode::NotNeeded);
                // Whether the upstream answers nevertheless is for the response's side to see.
                activity.uploaded();
                return std::future::pending().await;
            }
            Err(why) => return why,
        }
    }
    activity.uploaded();
    match from.next().await {
        // The stream has ended as it should: the edge has nothing more to say here.
        Ok(_) => std::future::pending().await,
        Err(why) => why,
    }
}

enum Passed {
    Whole,
    NotWanted,
}

async fn pass_on(
    from: &mut FromEdge,
    parts: &mpsc::Sender<Part>,
    length: BodyLength,
    activity: &Activity,
) -> Result<Passed, StreamEnd> {
    let mut left = match length {
        BodyLength::None => Some(0),
        BodyLength::Exactly(length) => Some(length),
        BodyLength::Unknown => None,
    };
    let mut ahead = None;
    loop {
        let event = match ahead.take() {
            Some(event) => event,
            None => from.next().await?,
        };
        match event {
            Some(Event::Data(piece)) => {
                let (piece, after) = gather(from, piece)?;
                ahead = after;
                if let Some(left) = &mut left {
                    let octets = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                    *left = left.checked_sub(octets).ok_or(StreamEnd::Truncated)?;
                }
                activity.touch();
                if parts.send(Part::Data(piece)).await.is_err() {
                    return Ok(Passed::NotWanted);
                }
                activity.touch();
            }
            Some(Event::Trailers(mut trailers)) => {
                whole(left)?;
                headers::strip_request_trailers(&mut trailers);
                drop(parts.send(Part::Trailers(Box::new(trailers))).await);
                drop(parts.send(Part::End).await);
                return Ok(Passed::Whole);
            }
            Some(Event::End) => {
                whole(left)?;
                // The connection stops reading by itself after `content-length` octets.
                drop(parts.send(Part::End).await);
                return Ok(Passed::Whole);
            }
            Some(_) | None => return Err(StreamEnd::Truncated),
        }
    }
}

/// Joins `piece` with those right behind it that have arrived: a packet holds little, and the upstream's socket costs
/// a system call for each piece. Gives what came after them, if that was looked at.
#[expect(clippy::option_option, reason = "not looked at, or looked at and the stream had ended")]
fn gather(from: &mut FromEdge, piece: Bytes) -> Result<(Bytes, Option<Option<Event>>), StreamEnd> {
    let mut joined = BytesMut::new();
    if piece.len() >= UPLOAD_PIECE_LEN {
        return Ok((piece, None));
    }
    loop {
        match from.next().now_or_never().transpose()? {
            Some(Some(Event::Data(more))) => {
                if joined.is_empty() {
                    joined.reserve(UPLOAD_PIECE_LEN.max(piece.len() + more.len()));
                    joined.extend_from_slice(&piece);
                }
                joined.extend_from_slice(&more);
                if joined.len() >= UPLOAD_PIECE_LEN {
                    return Ok((joined.freeze(), None));
                }
            }
            after if joined.is_empty() => return Ok((piece, after)),
            after => return Ok((joined.freeze(), after)),
        }
    }
}

/// A body shorter than its `content-length` is not whole, whatever the frames say.
fn whole(left: Option<u64>) -> Result<(), StreamEnd> {
    if left.is_none_or(|left| left == 0) { Ok(()) } else { Err(StreamEnd::Truncated) }
}
