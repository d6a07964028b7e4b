//! Codes that outlive a version: why a stream was reset, why a connection was closed, why a warpgate was refused.
//!
//! Numbers are never given a second meaning. A number this side does not know reads as the vaguest of its
//! kind, so that a newer peer may be more exact.

use std::fmt;

macro_rules! codes {
    (
        $(#[$doc:meta])* $name:ident: $number:ty, otherwise $unknown:ident;
        $($(#[$item_doc:meta])* $item:ident = $value:literal, $text:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$item_doc])* $item,)*
        }

        impl $name {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$item,)*];

            /// The number on the wire.
            pub const fn number(self) -> $number {
                match self { $(Self::$item => $value,)* }
            }

            /// The code with this number; one that is not known reads as the vaguest.
            pub const fn from_number(number: u64) -> Self {
                match number { $($value => Self::$item,)* _ => Self::$unknown }
            }

            /// Its stable name, for logs and pages.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$item => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

codes! {
    /// Why a stream ended early; the application code of `RESET_STREAM` and `STOP_SENDING` (RFC 9000 §19.4, §19.5).
    ///
    /// On `RESET_STREAM`: what was sent so far is not the whole. On `STOP_SENDING`: the rest is not wanted.
    ResetCode: u32, otherwise Internal;
    /// A fault of the sender, or a code this side does not know.
    Internal = 0x00, "internal";
    /// The rest of the body is not needed; the exchange itself is fine.
    NotNeeded = 0x01, "not_needed";
    /// The client went away; the upstream request is to be cancelled.
    ClientGone = 0x02, "client_gone";
    /// The client's body broke off or was malformed.
    ClientCut = 0x03, "client_cut";
    /// The upstream's response broke off or was malformed.
    UpstreamCut = 0x04, "upstream_cut";
    /// A time-out of the route or of a stalled reader passed.
    Timeout = 0x05, "timeout";
    /// The session behind the exchange was ended (sign-out, suspension, role change).
    Denied = 0x06, "denied";
    /// The node stops and its grace is over.
    Draining = 0x07, "draining";
    /// Nothing of the exchange was acted on; sending it elsewhere is safe.
    Rejected = 0x08, "rejected";
    /// The peer broke the protocol on this stream.
    Protocol = 0x09, "protocol";
    /// A size, count or memory limit was passed.
    Limit = 0x0a, "limit";
}

codes! {
    /// Why a tunnel's connection was closed; the application code of `CONNECTION_CLOSE` (RFC 9000 §19.19).
    CloseCode: u32, otherwise Internal;
    /// A fault of the sender, or a code this side does not know.
    Internal = 0x00, "internal";
    /// The sender is done: drained, or told to stop.
    Done = 0x01, "done";
    /// The peer was refused; the control stream said why.
    Refused = 0x02, "refused";
    /// The peer broke the protocol.
    Protocol = 0x03, "protocol";
    /// The handshake took too long.
    HandshakeTimeout = 0x04, "handshake_timeout";
    /// Nothing was heard from the peer for too long.
    Silent = 0x05, "silent";
    /// The certificate of one side has ended; dial again with the renewed one.
    CertificateEnded = 0x06, "certificate_ended";
    /// The peer's certificate was evicted or its key revoked; do not dial again.
    Evicted = 0x07, "evicted";
    /// A newer connection of the same instance took its place.
    Replaced = 0x08, "replaced";
    /// The negotiated protocol has no meaning here.
    WrongProtocol = 0x09, "wrong_protocol";
}

codes! {
    /// Why an edge sends a warpgate away instead of welcoming it.
    RefusalCode: u16, otherwise Internal;
    /// A fault of the edge, or a code this side does not know.
    Internal = 0x00, "tunnel.internal";
    /// The two sides share no protocol version; update the older one.
    Version = 0x01, "tunnel.version";
    /// Too many tunnels here for now; another edge may have room.
    Busy = 0x02, "tunnel.busy";
    /// The edge is about to stop.
    Draining = 0x03, "tunnel.draining";
    /// The environment does not exist (any more).
    EnvironmentUnknown = 0x04, "tunnel.environment_unknown";
    /// The key behind the warpgate was revoked or has expired.
    KeyRevoked = 0x05, "tunnel.key_revoked";
    /// The first message was not a usable Hello.
    BadHello = 0x06, "tunnel.bad_hello";
    /// The project has as many warpgates as it may.
    Quota = 0x07, "tunnel.quota";
}

codes! {
    /// Why a warpgate has no response for an exchange. An edge turns it into a status and a page.
    FailureCode: u16, otherwise Internal;
    /// A fault of the warpgate, or a code this side does not know.
    Internal = 0x00, "warpgate.internal";
    /// Nothing listens at the upstream's address, or it refused the connection.
    UpstreamRefused = 0x01, "warpgate.upstream_refused";
    /// The upstream could not be reached in time.
    UpstreamConnectTimeout = 0x02, "warpgate.upstream_connect_timeout";
    /// The upstream sent no response head in time.
    UpstreamTimeout = 0x03, "warpgate.upstream_timeout";
    /// The upstream closed the connection before a response head.
    UpstreamClosed = 0x04, "warpgate.upstream_closed";
    /// The upstream's answer was not HTTP, or passed a limit.
    UpstreamMalformed = 0x05, "warpgate.upstream_malformed";
    /// The upstream's name did not resolve.
    UpstreamUnresolved = 0x06, "warpgate.upstream_unresolved";
    /// The upstream's TLS certificate was not accepted, or it does not speak TLS.
    UpstreamTls = 0x07, "warpgate.upstream_tls";
    /// The upstream's version of HTTP does not let the request switch to another protocol.
    UpstreamUpgradeRefused = 0x08, "warpgate.upstream_upgrade_refused";
    /// The route's upstream is not one this warpgate declared.
    UnknownUpstream = 0x10, "warpgate.unknown_upstream";
    /// The route is not in the bundle, or does not match the request.
    UnknownRoute = 0x11, "warpgate.unknown_route";
    /// The exchange names a bundle revision that did not arrive in time.
    UnknownRevision = 0x12, "warpgate.unknown_revision";
    /// The slot is not known (any more); send the assertion in full.
    UnknownPrincipal = 0x13, "warpgate.unknown_principal";
    /// The assertion does not verify, or has expired.
    AssertionInvalid = 0x14, "warpgate.assertion_invalid";
    /// The policy, decided again at the warpgate, says no.
    Denied = 0x15, "warpgate.denied";
    /// The request is not one this warpgate forwards.
    RequestMalformed = 0x16, "warpgate.request_malformed";
    /// The warpgate is about to stop; another one may answer.
    Draining = 0x20, "warpgate.draining";
    /// The warpgate has as many exchanges as it takes.
    Overloaded = 0x21, "warpgate.overloaded";
}

/// What a [`ResetCode`] is added to on HTTP/2: outside the registered codes, so that "unknown or unsupported error codes
/// must not trigger any special behavior" (RFC 9113 §7) covers it. The letters MZ.
const HTTP2_BASE: u32 = 0x4d5a_0000;

/// Bits of an HTTP/2 code that are the [`ResetCode`].
const HTTP2_MASK: u32 = 0xffff;

impl ResetCode {
    /// The error code of `RST_STREAM` that carries it on a tunnel over TCP.
    pub const fn http2(self) -> u32 {
        HTTP2_BASE | self.number()
    }

    /// What an `RST_STREAM` with this error code means. One of HTTP/2's own codes is the word of the peer's HTTP/2 layer,
    /// and reads as what comes nearest.
    pub const fn from_http2(code: u32) -> Self {
        if code & !HTTP2_MASK == HTTP2_BASE {
            return Self::from_number((code & HTTP2_MASK) as u64);
        }
        match code {
            // NO_ERROR: a whole answer was sent and the rest of the request is not needed (RFC 9113 §8.1).
            0x0 => Self::NotNeeded,
            // PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR.
            0x1 | 0x3 | 0x5 | 0x6 => Self::Protocol,
            // REFUSED_STREAM: nothing was processed (§8.7).
            0x7 => Self::Rejected,
            // CANCEL: whoever wanted it is gone.
            0x8 => Self::ClientGone,
            // ENHANCE_YOUR_CALM.
            0xb => Self::Limit,
            _ => Self::Internal,
        }
    }
}

impl RefusalCode {
    /// Whether dialling the same edge again soon cannot help.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Version | Self::EnvironmentUnknown | Self::KeyRevoked | Self::BadHello)
    }
}

impl FailureCode {
    /// Whether it says that this warpgate, or its way to the upstream, is not well; the others say something of the
    /// request, or that it is about to leave.
    pub const fn speaks_against_the_warpgate(self) -> bool {
        matches!(
            self,
            Self::Internal
                | Self::UpstreamRefused
                | Self::UpstreamConnectTimeout
                | Self::UpstreamTimeout
                | Self::UpstreamClosed
                | Self::UpstreamMalformed
                | Self::UpstreamUnresolved
                | Self::UpstreamTls
                | Self::UnknownUpstream
                | Self::UnknownRevision
                | Self::Overloaded
        )
    }

    /// Whether another warpgate of the environment may well do better, provided that nothing was started.
    pub const fn may_try_elsewhere(self) -> bool {
        matches!(
            self,
            Self::UpstreamRefused
                | Self::UpstreamConnectTimeout
                | Self::UpstreamUnresolved
                | Self::UnknownUpstream
                | Self::UnknownRevision
                | Self::Draining
                | Self::Overloaded
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_its_number() {
        for code in ResetCode::ALL {
            assert_eq!(ResetCode::from_number(code.number().into()), *code);
            assert_eq!(ResetCode::from_http2(code.http2()), *code);
        }
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_number(code.number().into()), *code);
        }
        for code in RefusalCode::ALL {
            assert_eq!(RefusalCode::from_number(code.number().into()), *code);
        }
        for code in FailureCode::ALL {
            assert_eq!(FailureCode::from_number(code.number().into()), *code);
        }
    }

    #[test]
    fn an_unknown_number_reads_as_the_vaguest_code() {
        assert_eq!(ResetCode::from_number(u64::MAX), ResetCode::Internal);
        assert_eq!(FailureCode::from_number(9999), FailureCode::Internal);
    }

    #[test]
    fn only_a_stream_that_provably_did_nothing_reads_as_rejected_on_http2() {
        assert_eq!(ResetCode::from_http2(0x7), ResetCode::Rejected);
        for code in (0..0x20_u32).chain([u32::MAX, HTTP2_BASE - 1, HTTP2_BASE | 0xffff]) {
            assert!(code == 0x7 || ResetCode::from_http2(code) != ResetCode::Rejected, "{code:#x}");
        }
        assert_eq!(ResetCode::from_http2(HTTP2_BASE | 0xffff), ResetCode::Internal, "of a newer peer");
    }
}
