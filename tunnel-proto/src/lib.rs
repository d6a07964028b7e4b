//! The wire between edge and warpgate, and the assertion that travels on it. No I/O, no clock.
//!
//! A *tunnel* is one QUIC connection that a warpgate has dialled to an edge with ALPN [`ALPN`], both sides
//! authenticated by certificates of the internal CA. Its first bidirectional stream, opened by the warpgate, is the
//! *control stream*; every other one is opened by the edge and carries one *exchange*: a request one way, its
//! response the other. Where UDP does not pass, the same octets travel [over TCP](#tunnels-over-tcp).
//!
//! # Numbers, strings, frames
//!
//! | notation | octets |
//! |---|---|
//! | `u8` `u16` `u64` `u128` | 1, 2, 8, 16; big-endian |
//! | `int` | 1, 2, 4 or 8: a variable-length integer of RFC 9000 §16, at most 2⁶²−1. Writers prefer the shortest form, except where a length is filled in late (4 octets). Readers take every form |
//! | `bytes` | `int` length, then that many octets |
//! | `text` | `bytes` that are UTF-8 |
//! | `ext`* | any number of extension fields until the payload's end: `int` number, `bytes` value |
//!
//! A stream is a sequence of frames: `int` type, `int` length, payload of that length. A reader skips frames of a
//! type it does not know (on an exchange at most [`limits::UNKNOWN_FRAMES_MAX`] of at most
//! [`limits::UNKNOWN_FRAME_LEN_MAX`]) and extension fields of a number it does not know. So versions N−1 and N+1
//! interoperate; what a peer *must* understand needs a feature bit of the Hello or a new version. Types and numbers are
//! never given a second meaning. Every length has a bound in [`limits`], checked before anything is stored.
//!
//! # Control stream
//!
//! Every message is one frame whose payload is `ext`*: a field that may occur once and occurs twice is an error,
//! as is a missing field, except where "default" stands below. Numbers in parentheses are field numbers.
//!
//! | type | message | from | fields |
//! |---|---|---|---|
//! | 01 | Hello | warpgate | (1) oldest version `int`, (2) newest version `int`, (3) agent `text`, (4) instance `u128`, (5) index `int`, (6) count `int`, (7)* upstream name `text`, (8) revision of its bundle `int` default 0, (9) features `int` default 0 |
//! | 02 | Welcome | edge | (1) version `int`, (2) edge `u128`, (3) region `text`, (4) exchanges at first `int`, (5) exchanges at most `int`, (6) features `int` default 0 |
//! | 03 | Refused | edge | (1) code `int` of [`codes::RefusalCode`], (2) message `text`, (3) retry after, ms `int` optional, (4) present: do not retry |
//! | 04 | Ping | both | (1) n `int` |
//! | 05 | Pong | both | (1) n `int` |
//! | 06 | Offer | warpgate | (7)* upstream name `text` |
//! | 07 | Withdraw | warpgate | (7)* upstream name `text` |
//! | 08 | Bundle | edge | (1) environment `u128`, (2) revision `int`, (3) JWS `text` |
//! | 09 | Drain | both | (1) grace, ms `int` |
//! | 0a | `PrincipalKnown` | warpgate | (1) slot `int` |
//! | 0b | `ProbeRequest` | warpgate | (1) nonce `u64` |
//! | 0c | `ProbeDone` | edge | (1) nonce `u64`, (2) round trip, µs `int` |
//! | 0d | `UpstreamHealth` | warpgate | (7) upstream name `text`, (1) state `int`: 0 unknown, 1 good, 2 bad, (2) reason `text` default empty |
//! | 0e | Close | both | (1) code `int` of [`codes::CloseCode`] |
//!
//! ```text
//! warpgate                                edge
//!    │ Hello {1–1, upstreams} ──────────────▶│ version chosen, certificate's name compared
//!    │◀────────────────────────────── Welcome│ (or Refused, then close)
//!    │◀─────────────────────────────── Bundle│ if the edge has a newer one, now and later
//!    │ Ping 1 ───────────────────────────────▶│ every 1.5 s
//!    │◀─────────────────────────────── Pong 1│ 5 s of silence, seen from either side: dead
//!    │ PrincipalKnown 7 ─────────────────────▶│ the assertion sent as slot 7 need not travel again
//!    │ Drain {30 s} ─────────────────────────▶│ no new exchanges; running ones finish
//! ```
//!
//! `UpstreamHealth` is sent for each upstream that has been checked when the tunnel begins, and again when it changes. An
//! edge gives an exchange to a warpgate whose upstream is bad only if there is no better one; a state it does not know
//! reads as unknown. Close is said last, and only where the transport's own close carries no code: over TCP.
//!
//! The warpgate's `connect` succeeds before the edge has judged its certificate (TLS 1.3), so it is connected
//! only after Welcome.
//!
//! # Exchange
//!
//! Edge → warpgate: `REQUEST DATA* (TRAILERS | END)`, or `PROBE`.
//! Warpgate → edge: `INFORMATIONAL* RESPONSE DATA* (TRAILERS | END)`, or `INFORMATIONAL* FAILURE`, or `PROBE_REPLY`.
//!
//! A head whose flags have bit 0 set ends the message by itself: a small GET is one frame each way, with the stream's
//! FIN in the same packet. **A message is whole only if it says so**: a FIN before `END`, `TRAILERS` or a head with the end
//! flag is treated like a reset, so a body that was cut can never look complete. After an upgrade (`upgrade` in the
//! request head, status 101 in the response) either side writes `RAW` and from there on the upgraded protocol's own
//! bytes; their end is the stream's FIN. Before the 101 the edge writes nothing after the head but, should there be no
//! upgrade, `END`.
//!
//! An abort is `RESET_STREAM` (what came is not the whole) or `STOP_SENDING` (the rest is not wanted) with a
//! [`codes::ResetCode`].
//!
//! | type | frame | payload |
//! |---|---|---|
//! | 00 | DATA | octets of the body, at least one |
//! | 01 | REQUEST | below |
//! | 02 | RESPONSE | `u8` flags, `u16` status (101, 200–999), fields, `ext`* |
//! | 03 | INFORMATIONAL | `u8` flags (bit 0 clear), `u16` status (100, 102–199), fields, `ext`* |
//! | 04 | FAILURE | `u8` flags: bit 0 = a byte of the request reached the upstream; `u16` [`codes::FailureCode`]; detail `text`; `ext`* |
//! | 05 | TRAILERS | fields, `ext`* |
//! | 06 | END | `ext`* |
//! | 07 | RAW | `ext`* |
//! | 08 | PROBE | `u64` nonce, `ext`* |
//! | 09 | `PROBE_REPLY` | `u64` nonce, `ext`* |
//!
//! REQUEST:
//!
//! | octets | meaning |
//! |---|---|
//! | `u8` | flags: bit 0 = nothing follows |
//! | `u128` | request id |
//! | `u128` | route id |
//! | `int` | revision of the site the route was chosen from |
//! | `u8` then 4 or 16 | 4 or 6, the client's address |
//! | `u8` | scheme: 0 http, 1 https |
//! | `u8` | method: 1 GET, 2 HEAD, 3 POST, 4 PUT, 5 DELETE, 6 OPTIONS, 7 PATCH, 8 CONNECT, 9 TRACE; 0: `text` follows |
//! | `text` | authority |
//! | `text` | target: path and query as the client sent them |
//! | `u8` | identity: 0 nobody; 1 known, `int` slot follows; 2 in full, `int` slot and `bytes` assertion follow |
//! | fields | end-to-end header fields |
//! | `ext`* | (1) protocol to upgrade to, `text` |
//!
//! Fields: `int` count, then per field a name and `bytes` value. A name is `u8` code of the table below, or 0 and `text`,
//! in lower case. Order among values of one name is kept. The table only ever grows at its end:
//!
//! 1 accept, 2 accept-encoding, 3 accept-language, 4 accept-ranges, 5 access-control-allow-credentials,
//! 6 access-control-allow-headers, 7 access-control-allow-methods, 8 access-control-allow-origin,
//! 9 access-control-expose-headers, 10 access-control-max-age, 11 access-control-request-headers,
//! 12 access-control-request-method, 13 age, 14 allow, 15 authorization, 16 cache-control, 17 content-disposition,
//! 18 content-encoding, 19 content-language, 20 content-length, 21 content-range, 22 content-security-policy,
//! 23 content-type, 24 cookie, 25 date, 26 etag, 27 expect, 28 expires, 29 forwarded, 30 host, 31 if-match,
//! 32 if-modified-since, 33 if-none-match, 34 if-range, 35 if-unmodified-since, 36 last-modified, 37 link, 38 location,
//! 39 origin, 40 pragma, 41 range, 42 referer, 43 referrer-policy, 44 retry-after, 45 server, 46 set-cookie,
//! 47 strict-transport-security, 48 trailer, 49 upgrade-insecure-requests, 50 user-agent, 51 vary, 52 via,
//! 53 www-authenticate, 54 x-content-type-options, 55 x-frame-options, 56 priority, 57 sec-ch-ua, 58 sec-ch-ua-mobile,
//! 59 sec-ch-ua-platform, 60 sec-fetch-dest, 61 sec-fetch-mode, 62 sec-fetch-site, 63 sec-fetch-user,
//! 64 x-requested-with.
//!
//! # Whose request it is
//!
//! A warpgate believes only an [`assertion`] signed by control. The edge sends it in full with a slot number, again and
//! again, until `PrincipalKnown` names the slot; after that the slot stands for it. Tables at both ends are bounded
//! ([`principals`]): a warpgate that has forgotten a slot answers FAILURE `unknown_principal` and the edge sends the
//! assertion again under a new slot. Slots count up and are never reused on a connection, because streams arrive in any
//! order and a reused slot could turn one user into another.
//!
//! # Tunnels over TCP
//!
//! On the TCP port of the same number, with the same ALPN, certificates and checks: TLS 1.3, both sides authenticated, no
//! resumption, no early data. On it runs HTTP/2 (RFC 9113, without Upgrade) **with the roles turned round**: the warpgate
//! dials and is the HTTP/2 *server*, the edge is the *client*, because it is the edge that opens streams.
//!
//! ```text
//! warpgate (dials; HTTP/2 server)          edge (accepts; HTTP/2 client)
//!    │ TCP, TLS 1.3, ALPN mezu-tunnel/1 ───▶│ certificate judged
//!    │◀──── client preface, SETTINGS ────────│
//!    │ SETTINGS ───────────────────────────▶│
//!    │◀──── HEADERS POST /control ───────────│ stream 1, once, first
//!    │ HEADERS 200 ────────────────────────▶│
//!    │ DATA: Hello … ──────────────────────▶│ from here on like a control stream over QUIC
//!    │◀──── HEADERS POST /exchange ──────────│ one for each exchange or probe
//!    │ HEADERS 200 ────────────────────────▶│ at once, whatever becomes of the exchange
//! ```
//!
//! - Requests are `:method POST`, `:scheme https`, `:authority tunnel`, `:path /control` or `/exchange`; responses are
//!   `:status 200`. There are no other fields, and what there is else is ignored. A stream of any other shape, a second
//!   `/control`, or an `/exchange` before the `/control` is reset with `protocol`.
//! - DATA carries exactly the octets that the stream would carry over QUIC: the request's body is edge → warpgate, the
//!   response's warpgate → edge. Frame boundaries mean nothing. `END_STREAM` is the FIN. Trailers are not used.
//! - An abort is `RST_STREAM` with error code `0x4d5a0000 +` [`codes::ResetCode`] ([`codes::ResetCode::http2`]); HTTP/2's own
//!   codes read as in [`codes::ResetCode::from_http2`]. It ends **both** directions: there is no `STOP_SENDING`. A
//!   receiver that does not want the rest, while the other direction is to go on, reads and drops it.
//! - Windows: [`limits::STREAM_WINDOW`] for a stream; [`limits::TCP_WARPGATE_WINDOW`] and [`limits::TCP_EDGE_WINDOW`] for
//!   the connection. The warpgate's `SETTINGS_MAX_CONCURRENT_STREAMS` is [`limits::EXCHANGES_MAX`] and one for the control
//!   stream. `SETTINGS_ENABLE_PUSH` is 0; header lists are at most [`limits::TCP_HEADER_LIST_LEN_MAX`].
//! - Liveness is that of the control stream, as over QUIC: Ping, Pong, [`limits::SILENCE_MAX`]. HTTP/2's PING is answered
//!   and proves nothing. Both sides bound what TCP itself may hold unacknowledged by the same time.
//! - GOAWAY says no reason. Whoever ends the tunnel says `Refused`, `Drain` or Close on the control stream, ends that
//!   direction of it, gives the peer a moment to read, and closes the connection.
//!
//! # Connect protocol
//!
//! Enrollment and bundle polling have an ALPN of their own, [`CONNECT_ALPN`], and JSON messages: see [`connect`].
//!
//! Where to go next: [`exchange`], [`control`], [`limits`].

pub mod assertion;
pub mod bundle;
pub mod codes;
pub mod connect;
pub mod control;
pub mod exchange;
pub mod headers;
pub mod jws;
pub mod limits;
pub mod principals;
mod wire;

/// ALPN of a tunnel (RFC 7301 §3.1).
pub const ALPN: &[u8] = b"mezu-tunnel/1";

/// ALPN of the connect protocol.
pub const CONNECT_ALPN: &[u8] = b"mezu-enroll/1";
