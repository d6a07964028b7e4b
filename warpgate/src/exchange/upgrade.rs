//! Exchanges that switch to another protocol: the handshake with the upstream, then raw bytes both ways.
//!
//! An HTTP/1.1 upstream gets `connection: upgrade` (RFC 9110 §7.8), one that speaks only HTTP/2 an extended CONNECT
//! (RFC 8441). Towards the edge both look alike: status 101, then raw bytes. Whichever side of a WebSocket's handshake
//! is missing, because client and upstream speak different versions of HTTP, is made here, and what an upstream
//! answers to it is checked (RFC 6455 §4.1).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use mezusphere_model::Entropy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::{Event, Failure, FailureCode};

use super::answer::{AnswerBody, H2Body};
use super::body::RequestBody;
use super::forward::{Ended, timed_out};
use super::h2::{SendError, send_all};
use super::informational::Informational;
use super::respond::{interim_until, pass_response, switched_head};
use super::stream::{FromEdge, StreamEnd, ToEdge};
use super::upload::Activity;
use super::upstream::{Lease, Upstream, h2_failure, malformed};
use super::validate::Validated;
use super::{NOTHING, h1};
use crate::limits::{RAW_LINGER, RAW_READ_LEN};

/// The protocol of RFC 6455, as it stands in `upgrade` and `:protocol`.
const WEBSOCKET: &str = "websocket";

/// What a key is joined with before it is hashed (RFC 6455 §1.3).
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What an upstream answered.
enum Answered {
    /// It switches; its bytes and ours.
    Switched(http::response::Parts, FromUpstream, ToUpstream, Lease),
    /// It does not.
    Declined(Response<AnswerBody>, Lease),
}

/// Raw bytes that the upstream sends.
enum FromUpstream {
    H1(ReadHalf<TokioIo<Upgraded>>, BytesMut),
    H2(h2::RecvStream),
}

/// Raw bytes that the upstream gets.
enum ToUpstream {
    H1(WriteHalf<TokioIo<Upgraded>>),
    H2(h2::SendStream<Bytes>),
}

/// Forwards an exchange that asks for `protocol`, and what follows if it gets it.
pub(super) async fn forward(
    mut validated: Validated,
    protocol: &str,
    entropy: &Entropy,
    from: &mut FromEdge,
    to: &mut ToEdge,
) -> Result<(), Ended> {
    let activity = Activity::new();
    let timeouts = validated.timeouts();
    let head_max = Duration::from_millis(timeouts.head_ms.into());
    let idle_max = Duration::from_millis(timeouts.idle_ms.into());
    let total_max = super::forward::total(timeouts);
    let is_websocket = protocol.eq_ignore_ascii_case(WEBSOCKET);
    // There is no body, so the head's time begins now.
    activity.uploaded();
    let mut stopped = std::pin::pin!(to.stopped());
    let opening = async {
        let informational = Arc::new(Informational::default());
        let asking = ask(&mut validated, protocol, entropy, &informational);
        let answered = interim_until(asking, &informational, to, &activity).await?;
        activity.has_head();
        match answered {
            Answered::Declined(response, lease) => {
                pass_response(response, &validated, to, &activity).await?;
                Ok(Err(lease))
            }
            Answered::Switched(parts, from_upstream, to_upstream, lease) => {
                let head = switched_head(parts, &validated);
                to.encoder.response(&head, false).map_err(|why| malformed(why.to_string()))?;
                to.encoder.raw();
                to.flush(NOTHING).await.map_err(Ended::Edge)?;
                Ok(Ok((from_upstream, to_upstream, lease)))
            }
        }
    };
    let opened: Result<Result<_, Lease>, Ended> = tokio::select! {
        biased;
        opened = opening => opened,
        why = gone(from) => return Err(Ended::Edge(why)),
        () = activity.timed_out(head_max, idle_max, total_max) => return Err(timed_out(&activity, timeouts)),
        why = &mut stopped => return Err(Ended::Edge(why)),
    };
    let (mut from_upstream, mut to_upstream, _lease) = match opened? {
        Ok(switched) => switched,
        Err(lease) => {
            from.stop(ResetCode::NotNeeded);
            drop(lease);
            return Ok(());
        }
    };
    let linger = if is_websocket { RAW_LINGER.min(idle_max) } else { idle_max };
    let mut down = std::pin::pin!(download(&mut from_upstream, to, &activity));
    let mut up = std::pin::pin!(upload(from, &mut to_upstream, &activity));
    tokio::select! {
        biased;
        ended = &mut down => {
            ended?;
            // The upstream has said all it will; the client may still have something to say to it.
            tokio::select! {
                ended = &mut up => ended,
                () = activity.idle_for(linger) => Ok(()),
            }
        }
        ended = &mut up => {
            ended?;
            tokio::select! {
                ended = &mut down => ended,
                () = activity.idle_for(linger) => Err(Ended::Cut(ResetCode::Timeout)),
                why = &mut stopped => Err(Ended::Edge(why)),
            }
        }
        () = activity.idle_for(idle_max) => Err(Ended::Cut(ResetCode::Timeout)),
        why = &mut stopped => Err(Ended::Edge(why)),
    }
}

/// Resolves when the edge no longer wants the exchange. Nothing but an end may come before the switch.
async fn gone(from: &mut FromEdge) -> StreamEnd {
    match from.next().await {
        Ok(None | Some(Event::End)) => std::future::pending().await,
        Ok(Some(_)) => StreamEnd::Truncated,
        Err(why) => why,
    }
}

/// Sends the request, and says what the upstream makes of it.
async fn ask(
    validated: &mut Validated,
    protocol: &str,
    entropy: &Entropy,
    informational: &Arc<Informational>,
) -> Result<Answered, Failure> {
    let upstream = Arc::clone(validated.upstream());
    let connect_max = Duration::from_millis(validated.timeouts().connect_ms.into());
    let mut headers = validated.take_headers();
    let asked_with = headers.get(SEC_WEBSOCKET_KEY).cloned();
    match upstream.connect_to_upgrade(connect_max).await? {
        Lease::H1(mut lease) => {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            let token = HeaderValue::from_str(protocol).map_err(|_| malformed_request())?;
            headers.insert(UPGRADE, token);
            let key = protocol.eq_ignore_ascii_case(WEBSOCKET).then(|| ensure_key(&mut headers, entropy));
            let request = validated.request(headers, RequestBody::Empty);
            let mut response = match h1::send(&mut lease, request, informational).await {
                Ok(response) => response,
                Err(h1::SendError::Unsent(why, _)) => return Err(h1::failure(&why, false)),
                Err(h1::SendError::Failed(why)) => return Err(h1::failure(&why, true)),
            };
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Answered::Declined(response.map(AnswerBody::H1), Lease::H1(lease)));
            }
            check_switch(response.headers(), protocol, key.as_ref())?;
            let upgraded = hyper::upgrade::on(&mut response).await;
            let upgraded = upgraded.map_err(|why| h1::failure(&why, true))?;
            let (mut parts, _) = response.into_parts();
            if asked_with.is_none() {
                // The client sent no key, so the answer to ours means nothing to it.
                parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
            }
            let (read, write) = tokio::io::split(TokioIo::new(upgraded));
            let from_upstream = FromUpstream::H1(read, BytesMut::new());
            Ok(Answered::Switched(parts, from_upstream, ToUpstream::H1(write), Lease::H1(lease)))
        }
        Lease::H2(mut lease) => {
            if !lease.allows_upgrades().await {
                let detail = "the upstream speaks HTTP/2 and does not offer extended CONNECT (RFC 8441)";
                return Err(Failure {
                    code: FailureCode::UpstreamUpgradeRefused,
                    detail: detail.to_owned(),
                    started: false,
                });
            }
            let request = extended_connect(&upstream, validated, headers, protocol)?;
            let (response, stream) = match lease.send_open(request, informational).await {
                Ok(answer) => answer,
                Err(SendError::Unprocessed(why)) => return Err(h2_failure(&why, false)),
                Err(SendError::Failed(why)) => return Err(h2_failure(&why, true)),
            };
            let (mut parts, body) = response.into_parts();
            if !parts.status.is_success() {
                let body = AnswerBody::H2(H2Body::new(body, &parts.headers, true));
                return Ok(Answered::Declined(Response::from_parts(parts, body), Lease::H2(lease)));
            }
            parts.status = StatusCode::SWITCHING_PROTOCOLS;
            if let Some(key) = asked_with {
                parts.headers.insert(SEC_WEBSOCKET_ACCEPT, accept(&key));
            }
            Ok(Answered::Switched(parts, FromUpstream::H2(body), ToUpstream::H2(stream), Lease::H2(lease)))
        }
    }
}

/// The request as an extended CONNECT (RFC 8441 §4, §5).
fn extended_connect(
    upstream: &Upstream,
    validated: &Validated,
    mut headers: HeaderMap,
    protocol: &str,
) -> Result<http::Request<()>, Failure> {
    headers.remove(SEC_WEBSOCKET_KEY);
    if protocol.eq_ignore_ascii_case(WEBSOCKET) {
        headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    }
    let authority = headers.remove(HOST);
    let mut request = validated.request(headers, ());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = upstream.absolute(authority.as_ref(), validated.uri())?;
    request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    Ok(request)
}

/// The key of the handshake; made here if the client, which spoke HTTP/2, sent none.
fn ensure_key(headers: &mut HeaderMap, entropy: &Entropy) -> HeaderValue {
    headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    let made = || {
        let key: [u8; 16] = entropy.bytes();
        HeaderValue::try_from(BASE64.encode(key)).unwrap_or_else(|_| HeaderValue::from_static(""))
    };
    headers.entry(SEC_WEBSOCKET_KEY).or_insert_with(made).clone()
}

/// What answers `key` (RFC 6455 §4.2.2).
fn accept(key: &HeaderValue) -> HeaderValue {
    let joined = [key.as_bytes(), WEBSOCKET_GUID].concat();
    let answer = BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &joined));
    HeaderValue::try_from(answer).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether a 101 is the one that was asked for: another protocol, or another's handshake, reaches no client.
fn check_switch(headers: &HeaderMap, protocol: &str, key: Option<&HeaderValue>) -> Result<(), Failure> {
    let mut named = headers.get_all(UPGRADE).iter();
    let is_asked =
        |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(protocol.as_bytes());
    if !named.next().is_some_and(is_asked) || named.next().is_some() {
        return Err(malformed("the upstream switches to a protocol that was not asked for"));
    }
    let Some(key) = key else { return Ok(()) };
    let mut answers = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    if answers.next() == Some(&accept(key)) && answers.next().is_none() {
        return Ok(());
    }
    Err(malformed("the upstream's sec-websocket-accept does not answer the request"))
}

fn malformed_request() -> Failure {
    Failure {
        code: FailureCode::RequestMalformed,
        detail: "the protocol to switch to is no token".to_owned(),
        started: false,
    }
}

/// Passes raw bytes on as they come; ends well with the upstream's own end.
async fn download(from: &mut FromUpstream, to: &mut ToEdge, activity: &Activity) -> Result<(), Ended> {
    loop {
        let Some(piece) = from.next().await? else { break };
        activity.touch();
        to.flush(piece).await.map_err(Ended::Edge)?;
        activity.touch();
    }
    to.finish().await.map_err(Ended::Edge)
}

/// Passes raw bytes on as they come; the end of the edge's is an end to the upstream too, and nothing more.
async fn upload(from: &mut FromEdge, to: &mut ToUpstream, activity: &Activity) -> Result<(), Ended> {
    loop {
        match from.next().await.map_err(Ended::Edge)? {
            Some(Event::Raw) => {}
            Some(Event::Data(piece)) => {
                activity.touch();
                if !to.send(piece).await {
                    return Err(Ended::Cut(ResetCode::UpstreamCut));
                }
                activity.touch();
            }
            None => return if to.finish().await { Ok(()) } else { Err(Ended::Cut(ResetCode::UpstreamCut)) },
            Some(_) => return Err(Ended::Edge(StreamEnd::Truncated)),
        }
    }
}

impl FromUpstream {
    async fn next(&mut self) -> Result<Option<Bytes>, Ended> {
        match self {
            Self::H1(stream, buffer) => {
                // What an idle stream holds is one buffer of the smallest size.
                buffer.reserve(RAW_READ_LEN);
                match stream.read_buf(buffer).await {
                    Ok(0) => Ok(None),
                    Ok(_) => Ok(Some(buffer.split().freeze())),
                    // TLS that ends without a word. These protocols have ends of their own, and a reset would throw
                    // away what is still on its way to the client.
                    Err(why) if why.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
                    Err(_) => Err(Ended::Cut(ResetCode::UpstreamCut)),
                }
            }
            Self::H2(stream) => match stream.data().await {
                None => Ok(None),
                Some(Ok(piece)) => {
                    // The window of the connection is wide, and the piece is passed on before the next is read.
                    drop(stream.flow_control().release_capacity(piece.len()));
                    Ok(Some(piece))
                }
                Some(Err(_)) => Err(Ended::Cut(ResetCode::UpstreamCut)),
            },
        }
    }
}

impl ToUpstream {
    /// Whether it was taken.
    async fn send(&mut self, piece: Bytes) -> bool {
        match self {
            Self::H1(stream) => stream.write_all(&piece).await.is_ok() && stream.flush().await.is_ok(),
            Self::H2(stream) => send_all(stream, piece).await,
        }
    }

    async fn finish(&mut self) -> bool {
        match self {
            Self::H1(stream) => stream.shutdown().await.is_ok(),
            Self::H2(stream) => stream.send_data(Bytes::new(), true).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_rfc_says() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_made_only_where_the_client_sent_none() {
        let entropy = Entropy::counting();
        let mut headers = HeaderMap::new();
        let made = ensure_key(&mut headers, &entropy);
        assert_eq!(BASE64.decode(made.as_bytes()).unwrap().len(), 16);
        assert_eq!(headers[SEC_WEBSOCKET_VERSION], "13");
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("theirs"));
        assert_eq!(ensure_key(&mut headers, &entropy), "theirs");
    }

    #[test]
    fn only_the_switch_that_was_asked_for_counts() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let right = accept(&key);
        let head = |fields: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        let right = right.to_str().unwrap();
        let rows = [
            (head(&[("upgrade", "WebSocket"), ("sec-websocket-accept", right)]), true),
            (head(&[("upgrade", "websocket")]), false),
            (head(&[("upgrade", "websocket"), ("sec-websocket-accept", "c2FtcGxl")]), false),
            (head(&[("upgrade", "h2c"), ("sec-websocket-accept", right)]), false),
            (head(&[("sec-websocket-accept", right)]), false),
            (head(&[("upgrade", "websocket"), ("upgrade", "x"), ("sec-websocket-accept", right)]), false),
        ];
        for (headers, good) in rows {
            assert_eq!(check_switch(&headers, "websocket", Some(&key)).is_ok(), good, "{headers:?}");
        }
        assert!(check_switch(&head(&[("upgrade", "tcp")]), "tcp", None).is_ok());
    }
}
