//! What each failure that a warpgate reports says.

use ::http::StatusCode;
use tunnel_proto::codes::FailureCode;

use super::{ASK_AGAIN, CHECK_ADDRESS, TELL_OWNER, Told};
use crate::page::Hop;

/// What a warpgate's failure says.
pub(super) fn tell(code: FailureCode) -> Told<'static> {
    let (status, title, detail, next, hop) = match code {
        FailureCode::UpstreamRefused | FailureCode::UpstreamUnresolved => (
            StatusCode::BAD_GATEWAY,
            "Application not running",
            "The application cannot be reached from its warpgate.",
            TELL_OWNER,
            Hop::Upstream,
        ),
        FailureCode::UpstreamConnectTimeout => (
            StatusCode::GATEWAY_TIMEOUT,
            "Application not reachable",
            "The application could not be reached in time.",
            TELL_OWNER,
            Hop::Upstream,
        ),
        FailureCode::UpstreamTimeout => (
            StatusCode::GATEWAY_TIMEOUT,
            "No answer in time",
            "The application did not answer in time.",
            "The request may have been carried out. Check before you send it again.",
            Hop::Upstream,
        ),
        FailureCode::UpstreamUpgradeRefused => (
            StatusCode::BAD_GATEWAY,
            "Cannot switch protocols",
            "The application does not take connections that switch to another protocol.",
            TELL_OWNER,
            Hop::Upstream,
        ),
        FailureCode::UpstreamClosed | FailureCode::UpstreamMalformed | FailureCode::UpstreamTls => (
            StatusCode::BAD_GATEWAY,
            "Bad answer",
            "The application broke off, or answered something that makes no sense.",
            TELL_OWNER,
            Hop::Upstream,
        ),
        FailureCode::Denied => (
            StatusCode::FORBIDDEN,
            "No access",
            "The application’s warpgate does not let this request through.",
            "Ask whoever runs this application for access.",
            Hop::Warpgate,
        ),
        FailureCode::RequestMalformed => (
            StatusCode::BAD_REQUEST,
            "Bad request",
            "The application’s warpgate does not pass on requests like this one.",
            CHECK_ADDRESS,
            Hop::Warpgate,
        ),
        FailureCode::Draining | FailureCode::Overloaded => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too busy",
            "The application’s warpgate takes no more requests just now.",
            ASK_AGAIN,
            Hop::Warpgate,
        ),
        FailureCode::Internal
        | FailureCode::UnknownUpstream
        | FailureCode::UnknownRoute
        | FailureCode::UnknownRevision
        | FailureCode::UnknownPrincipal
        | FailureCode::AssertionInvalid => (
            StatusCode::BAD_GATEWAY,
            "Not passed on",
            "The edge and the application’s warpgate do not agree on this request.",
            "Try again in a moment; they may be about to agree.",
            Hop::Warpgate,
        ),
    };
    Told { status, title, detail: detail.into(), next, hop }
}
