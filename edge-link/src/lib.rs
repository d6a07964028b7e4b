//! The edge link: what edges and control nodes say to each other over the network, both ends of it.
//!
//! A control node runs a [`server::NodePort`]; an edge that is a process of its own runs a [`client::LinkClient`],
//! which is at once its [`ControlLink`](mezusphere_model::link::ControlLink) and its
//! [`FeedSource`](mezusphere_store::feed::FeedSource). Both ends live in one crate so that they are tested as a pair over
//! real TLS. Leaves to others: what the answers are (control), what is done with the feed (the store's follower),
//! what happens to the bytes of a splice (the edge and control's front).
//!
//! # One port
//!
//! TCP, TLS 1.3, the internal CA. What was *negotiated* decides, and the certificate's role; the hello only chooses
//! which configuration answers.
//!
//! | ALPN | client certificate | what follows |
//! |---|---|---|
//! | [`ALPN_LINK`] | an edge's | HTTP/2: the endpoints below |
//! | [`ALPN_SPLICE`] | an edge's | one PROXY protocol v2 header; control answers one octet `1`; then the client's own TLS, both ways |
//! | [`ALPN_JOIN`] | none; the joiner checks the server's root against its token | one message each way, `u32 length big-endian \| JSON` ([`join`]) |
//! | [`ALPN_REJOIN`] | none: the edge's has ended, or its CA was retired; it proves the key of it in the message | the same |
//!
//! Whose certificate is on the deny list is refused in the handshake (alert 44) and, if it is connected, closed within
//! a second. A connection ends with the certificate it was made with, on either side.
//!
//! # Endpoints of the link
//!
//! All are `POST`, JSON in and out (`content-type: application/json`). Who asks is the edge in the certificate; no message
//! names it. Ids, hosts and times are as in `model`; binary values base64url without padding; an `at` is
//! `{"epoch": 32 hex digits, "revision": u64, "digest": base64url}`. Unknown fields are skipped.
//!
//! | path | in | out | at most |
//! |---|---|---|---|
//! | `/v1/feed/heads` | `{}` | `{"heads": [{"partition", "at"}]}` | 100 000 partitions; z |
//! | `/v1/feed/snapshot` | `{"partition", "after"?, "max"}` | `{"at", "documents": [{"key", "body"}], "more"}` | 1000 documents, 4 MiB and one document; z |
//! | `/v1/feed/changes` | `{"partition", "since", "max"}` | `{"entries": [{"revision", "key", "body"?, "digest"}], "more"}` or `{"start_over": true}` | the same; z |
//! | `/v1/feed/applied` | `{"reports": [{"partition", "at", "time"}]}` | `{}` | 1000 reports; z |
//! | `/v1/feed/wake` | `{}` | lines of JSON for ever: `{"changed": [partition…]}`, `{"anything": true}`, `{}` | a line at once and every 5 s, 64 KiB each |
//! | `/v1/session/find` | `{"token"}` | `{"found": null or session and principal}` | |
//! | `/v1/session/redeem` | `RedeemCode` | `Redeemed` | asked once |
//! | `/v1/session/sign-out` | `{"token"}` | `{}` | |
//! | `/v1/session/activity` | `{"batch": [Activity]}` | `{}` | 1000; z |
//! | `/v1/assertion` | `{"session"` or `"api_key", "environment"}` | `IssuedAssertion` | |
//! | `/v1/denials` | `{"batch": [DenialCount]}` | `{}` | 1000; z; asked once |
//! | `/v1/tunnel` | `TunnelReport`; its `edge` is overwritten | `{}` | |
//! | `/v1/tunnels` | `{"held": [TunnelReport], "at"}`; their `edge` is overwritten | `{}` | 10 000, 8 MiB; z |
//! | `/v1/node/certify` | `{"csr_der"}` | `{"chain_der": [leaf first]}` | 4 KiB; asked once |
//! | `/v1/node/about` | `AboutEdge` | `{}` | |
//! | `/v1/connect` | `{"message", "from"}` | `{"message"}` | 2 MiB; asked once |
//!
//! Where nothing is said, a question has at most 64 KiB, an answer 3 MiB; a question waits 5 s for its answer at the edge
//! (batches, `certify` and `connect` 10 s), and 10 s at control. All bounds: [`limits`].
//!
//! `z`: bodies above 1 KiB travel with `content-encoding: deflate` (zlib, RFC 1950), and inflate to the same bounds. The
//! others never do, nor does the platform's partition: what a stranger may choose and a secret must not meet in one
//! compressed body. *Asked once*: never sent to a second control node after a first one may have read it.
//!
//! What is no answer is `{"error": word, "message": text}`:
//!
//! | status | `error` | the caller hears |
//! |---|---|---|
//! | 400 | `malformed` | refused: the two ends disagree on the message |
//! | 404 | `unknown` | refused: control is older than this edge |
//! | 409 | `refused` | refused, with control's words |
//! | 500 | `damaged` | the feed is damaged |
//! | 503 | `away`, `busy` | away; may be asked again |
//!
//! `Partition::Control` is never in an answer, whatever the source holds: asking for it is `malformed`.

pub mod client;
pub mod join;
pub mod limits;
pub mod proxy;
pub mod server;

mod body;
mod frame;
mod stream;
mod wire;

pub use stream::{Duplex, SpliceStream};

/// The edge link: HTTP/2.
pub const ALPN_LINK: &[u8] = b"mezu-link/1";

/// A client's connection to a platform host, passed on unopened.
pub const ALPN_SPLICE: &[u8] = b"mezu-splice/1";

/// How a new edge gets its first certificate.
pub const ALPN_JOIN: &[u8] = b"mezu-join/1";

/// How an edge whose certificate opens no link any more gets its next one.
pub const ALPN_REJOIN: &[u8] = b"mezu-rejoin/1";
