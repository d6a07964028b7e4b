//! One upstream: a connection for an exchange, one request on it, and what went wrong in stable codes.
//!
//! What may be sent twice is decided here and nowhere else: a request of which nothing was sent, or of which the
//! upstream says that it did nothing with it, while its body is still untouched; and, once, one without a body whose
//! method is idempotent, when a kept HTTP/1.1 connection closed before the response's head, because the upstream may
//! have been closing it at that very moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use http::header::{HOST, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tunnel_proto::exchange::{Failure, FailureCode};

use super::answer::{AnswerBody, H2Body};
use super::body::RequestBody;
use super::dial::{Dialled, Offer, dial};
use super::h1;
use super::h2::{self, SendError, Shared};
use super::informational::Informational;
use super::pool::{self, Pool};
use super::validate::Validated;
use crate::limits::{POOL_FRESH_FOR, POOL_IDLE_FOR};
use crate::upstream::{Declaration, Protocol, Scheme, Target};

/// One declared upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    declaration: Declaration,
    pool: Pool,
    shared: Shared,
    /// Which of the two an https upstream chose last.
    spoken: AtomicU8,
    /// Why it cannot be reached just now, if it cannot.
    trouble: watch::Sender<Option<Trouble>>,
    /// The last answer that no client may see, and how many there were.
    complaint: watch::Sender<(u64, Option<Trouble>)>,
}

/// What is wrong with an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) code: FailureCode,
    pub(crate) detail: String,
    /// No exchange met it: it was found by looking, and whoever looked says so.
    pub(crate) is_quiet: bool,
}

/// What serves one exchange. Dropped, its request is cancelled at once: the connection is closed, or the stream reset.
pub(super) enum Lease {
    H1(pool::Lease),
    H2(h2::Lease),
}

/// Values of [`Upstream::spoken`].
const UNKNOWN: u8 = 0;
const H1: u8 = 1;
const H2: u8 = 2;

impl Upstream {
    pub(crate) fn new(declaration: Declaration) -> Self {
        let spoken = match (declaration.target().scheme(), declaration.settings().protocol) {
            (Scheme::H2c, _) | (Scheme::Https, Some(Protocol::H2)) => H2,
            (Scheme::Http | Scheme::Unix, _) | (Scheme::Https, Some(Protocol::H1)) => H1,
            (Scheme::Https, _) => UNKNOWN,
        };
        Self {
            declaration,
            pool: Pool::default(),
            shared: Shared::default(),
            spoken: AtomicU8::new(spoken),
            trouble: watch::Sender::new(None),
            complaint: watch::Sender::new((0, None)),
        }
    }

    /// Where it is, and what was said of it.
    pub(crate) fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// Where it is.
    pub(crate) fn target(&self) -> &Target {
        self.declaration.target()
    }

    /// Wakes when it can no longer be reached, and when it can again.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    /// Wakes when it gave an answer that no client may see.
    pub(crate) fn complaints(&self) -> watch::Receiver<(u64, Option<Trouble>)> {
        self.complaint.subscribe()
    }

    /// Notes an answer that could not be passed on.
    pub(super) fn complain(&self, failure: &Failure) {
        let trouble = Trouble { code: failure.code, detail: failure.detail.clone(), is_quiet: false };
        self.complaint.send_modify(|(count, last)| {
            *count += 1;
            *last = Some(trouble);
        });
    }

    /// Sends the request and waits for the head of the final response.
    ///
    /// Cancel safe in the sense that the upstream sees that nobody waits.
    pub(super) async fn send(
        &self,
        validated: &mut Validated,
        mut body: RequestBody,
        informational: &Arc<Informational>,
    ) -> Result<(Response<AnswerBody>, Lease), Failure> {
        let may_repeat = validated.method().is_idempotent() && body.is_empty();
        let mut fresh = if may_repeat { POOL_IDLE_FOR } else { POOL_FRESH_FOR };
        let connect_max = Duration::from_millis(validated.timeouts().connect_ms.into());
        let mut headers = validated.take_headers();
        let mut refusals = 0;
        loop {
            let lease = match self.kept(fresh) {
                Some(lease) => lease,
                None => self.connect(connect_max).await?,
            };
            match lease {
                Lease::H1(mut lease) => {
                    let repeatable = (lease.reused && may_repeat).then(|| headers.clone());
                    let request = validated.request(headers, body);
                    match h1::send(&mut lease, request, informational).await {
                        Ok(response) => return Ok((response.map(AnswerBody::H1), Lease::H1(lease))),
                        // A new connection that takes nothing is no stale one: do not dial for ever.
                        Err(h1::SendError::Unsent(why, _)) if !lease.reused => {
                            return Err(h1::failure(&why, false));
                        }
                        Err(h1::SendError::Unsent(_, unsent)) => {
                            let (parts, unsent_body) = unsent.into_parts();
                            (headers, body) = (parts.headers, unsent_body);
                        }
                        Err(h1::SendError::Failed(why)) => match repeatable {
                            Some(again) if h1::is_close(&why) => {
                                (headers, body) = (again, RequestBody::Empty);
                                fresh = Duration::ZERO; // on a new connection
                            }
                            _ => return Err(h1::failure(&why, true)),
                        },
                    }
                }
                Lease::H2(mut lease) => {
                    let repeatable = body.is_empty().then(|| headers.clone());
                    let had_upload = !body.is_empty();
                    let request = self.h2_request(validated, headers)?;
                    match lease.send(request, body, informational).await {
                        Ok(response) => {
                            let (parts, stream) = response.into_parts();
                            let body = AnswerBody::H2(H2Body::new(stream, &parts.headers, had_upload));
                            return Ok((Response::from_parts(parts, body), Lease::H2(lease)));
                        }
                        Err(SendError::Unprocessed(why)) => match repeatable {
                            Some(again) if refusals < REFUSALS_MAX => {
                                refusals += 1;
                                (headers, body) = (again, RequestBody::Empty);
                            }
                            _ => return Err(h2_failure(&why, false)),
                        },
                        Err(SendError::Failed(why)) => return Err(h2_failure(&why, true)),
                    }
                }
            }
        }
    }

    /// Takes back a connection whose response is complete.
    pub(super) async fn give_back(&self, lease: Lease) {
        match lease {
            Lease::H1(lease) => self.pool.give_back(lease).await,
            Lease::H2(lease) => drop(lease),
        }
    }

    pub(super) fn sweep(&self) {
        self.pool.sweep();
        self.shared.sweep();
    }

    /// A place on a connection that is open already.
    fn kept(&self, fresh: Duration) -> Option<Lease> {
        match self.spoken.load(Ordering::Relaxed) {
            H1 => self.pool.take(fresh).map(Lease::H1),
            H2 => self.shared.take().map(Lease::H2),
            _ => None,
        }
    }

    /// A place on a new connection, or on one that another exchange has made meanwhile.
    async fn connect(&self, within: Duration) -> Result<Lease, Failure> {
        if self.spoken.load(Ordering::Relaxed) == H1 {
            return self.open(Offer::Usual, within).await;
        }
        let deadline = Instant::now() + within;
        let Ok(_making) = timeout_at(deadline, self.shared.making.lock()).await else {
            let detail = format!("{}: no connection within {} ms", self.target(), within.as_millis());
            return Err(Failure { code: FailureCode::UpstreamConnectTimeout, detail, started: false });
        };
        if let Some(lease) = self.shared.take() {
            return Ok(Lease::H2(lease));
        }
        self.open(Offer::Usual, deadline.saturating_duration_since(Instant::now())).await
    }

    /// A connection that can be upgraded: a new one that speaks HTTP/1.1, or a place on one that speaks HTTP/2 where
    /// that is all the upstream speaks.
    pub(super) async fn connect_to_upgrade(&self, within: Duration) -> Result<Lease, Failure> {
        if self.spoken.load(Ordering::Relaxed) == H2 {
            // Where the two are on one port, a shared connection that allows it saves a handshake.
            if let Some(lease) = self.shared.take()
                && (self.speaks_only_h2() || lease.allows_upgrades().await)
            {
                return Ok(Lease::H2(lease));
            }
            if self.speaks_only_h2() {
                return self.connect(within).await;
            }
        }
        self.open(Offer::H1, within).await
    }

    fn speaks_only_h2(&self) -> bool {
        match self.declaration.tls() {
            Some(tls) => tls.h1.is_none(),
            None => self.target().scheme() == Scheme::H2c,
        }
    }

    async fn open(&self, offer: Offer, within: Duration) -> Result<Lease, Failure> {
        let dialled = self.note(dial(&self.declaration, offer, within).await)?;
        let speaks_h2 = match offer {
            Offer::H1 => dialled.agreed_on_h2() || self.speaks_only_h2(),
            Offer::Usual if self.speaks_only_h2() => true,
            Offer::Usual => {
                let agreed = dialled.agreed_on_h2();
                if self.declaration.tls().is_some() {
                    self.spoken.store(if agreed { H2 } else { H1 }, Ordering::Relaxed);
                }
                agreed
            }
        };
        if speaks_h2 {
            let connection = match dialled {
                Dialled::Tcp(stream) => h2::Connection::start(stream).await,
                Dialled::Unix(stream) => h2::Connection::start(stream).await,
                Dialled::Tls(stream) => h2::Connection::start(stream).await,
            };
            return self.shared.add(&connection?).map(Lease::H2);
        }
        let for_upgrade = offer == Offer::H1;
        let lease = match dialled {
            Dialled::Tcp(stream) => h1::start(stream, for_upgrade).await,
            Dialled::Unix(stream) => h1::start(stream, for_upgrade).await,
            Dialled::Tls(stream) => h1::start(stream, for_upgrade).await,
        };
        lease.map(Lease::H1)
    }

    /// Dials once and lets go again: whether it can be reached. Trouble that is found by this alone is quiet.
    pub(crate) async fn reach(&self, within: Duration) -> Result<(), Failure> {
        self.note_as(true, dial(&self.declaration, Offer::Usual, within).await).map(drop)
    }

    /// A connection of its own, which no exchange shares.
    pub(super) async fn connect_apart(&self, within: Duration) -> Result<Lease, Failure> {
        let apart = Self::new(self.declaration.clone());
        let opened = apart.open(Offer::Usual, within).await;
        self.note(opened)
    }

    /// Notes whether an exchange could reach it.
    fn note<T>(&self, dialled: Result<T, Failure>) -> Result<T, Failure> {
        self.note_as(false, dialled)
    }

    /// Notes whether it could be reached; the same trouble in other words is no news, but that an exchange has met what was
    /// quiet so far.
    fn note_as<T>(&self, is_quiet: bool, dialled: Result<T, Failure>) -> Result<T, Failure> {
        let trouble = match &dialled {
            Ok(_) => None,
            Err(failure) => match failure.code {
                FailureCode::UpstreamRefused
                | FailureCode::UpstreamUnresolved
                | FailureCode::UpstreamTls
                | FailureCode::UpstreamConnectTimeout => {
                    Some(Trouble { code: failure.code, detail: failure.detail.clone(), is_quiet })
                }
                _ => return dialled,
            },
        };
        self.trouble.send_if_modified(|known| {
            let was_quiet = known.as_ref().is_some_and(|known| known.is_quiet);
            let is_news = known.is_some() != trouble.is_some() || (was_quiet && !is_quiet);
            if is_news {
                *known = trouble;
            }
            is_news
        });
        dialled
    }

    /// The request as HTTP/2 has it: with scheme and authority, without what frames or routes in HTTP/1.1.
    fn h2_request(&self, validated: &Validated, mut headers: HeaderMap) -> Result<Request<()>, Failure> {
        headers.remove(TRANSFER_ENCODING);
        // True of this hop, and what gRPC servers ask for.
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let authority = headers.remove(HOST);
        let mut request = validated.request(headers, ());
        *request.uri_mut() = self.absolute(authority.as_ref(), validated.uri())?;
        Ok(request)
    }

    /// The target of an HTTP/2 request.
    pub(super) fn absolute(&self, authority: Option<&HeaderValue>, uri: &Uri) -> Result<Uri, Failure> {
        let scheme = if self.declaration.tls().is_some() { "https" } else { "http" };
        let authority = authority.map(HeaderValue::as_bytes).unwrap_or_default();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().map_err(|why| {
            Failure { code: FailureCode::RequestMalformed, detail: why.to_string(), started: false }
        })
    }
}

/// How often a request may be sent again that the upstream says it did nothing with.
const REFUSALS_MAX: u32 = 2;

/// What became of an HTTP/2 request, in a stable code.
pub(super) fn h2_failure(error: &::h2::Error, started: bool) -> Failure {
    // What the upstream's own bytes broke; the rest is an end that it, or the network, chose.
    let broke_the_protocol = error.is_library() && !error.is_io();
    let code = if broke_the_protocol { FailureCode::UpstreamMalformed } else { FailureCode::UpstreamClosed };
    Failure { code, detail: error.to_string(), started }
}

/// An answer that no client may see.
pub(super) fn malformed(detail: impl Into<String>) -> Failure {
    Failure { code: FailureCode::UpstreamMalformed, detail: detail.into(), started: true }
}

/// An informational head, or any other, that nobody asked for.
pub(super) fn flooded() -> Failure {
    malformed("more 1xx heads came than anybody needs, and no response")
}
