//! What a warpgate hears that may not have a tunnel, or may not keep it: code, sentence, and when to come back.

use tunnel_proto::codes::{CloseCode, RefusalCode};
use tunnel_proto::control::Refused;

use super::registry::Full;
use super::standing::Lost;

/// When a warpgate that met a full edge, or an evicted one, may come back, in ms: room comes with the end of other
/// tunnels, and thousands that ask every few seconds would cost an edge that is full already their handshakes.
const BUSY_RETRY_MS: u64 = 30_000;

/// When a warpgate that met an edge about to stop may come back, in ms: one that restarts is back in seconds, and until
/// then a dial costs nobody anything.
const DRAINING_RETRY_MS: u64 = 5_000;

fn refused(code: RefusalCode, message: &str, retry_after_ms: Option<u64>) -> Refused {
    Refused { code, message: message.to_owned(), retry_after_ms, do_not_retry: code.is_final() }
}

/// Its certificate names another.
pub(super) fn other_instance() -> Refused {
    refused(RefusalCode::BadHello, "the certificate is another instance's", None)
}

/// This edge drains.
pub(super) fn stopping() -> Refused {
    refused(RefusalCode::Draining, "this edge is about to stop", Some(DRAINING_RETRY_MS))
}

/// There is no room.
pub(super) fn of_full(full: Full) -> Refused {
    match full {
        Full::Environment => {
            let message = "this environment has as many warpgates here as it may";
            refused(RefusalCode::Quota, message, Some(BUSY_RETRY_MS))
        }
        Full::Edge => {
            refused(RefusalCode::Busy, "this edge has no room for more tunnels", Some(BUSY_RETRY_MS))
        }
    }
}

/// One side may not go on; and what the connection is closed with. `None` where the close says all there is to say.
pub(super) fn of_lost(lost: Lost) -> Option<(Refused, CloseCode)> {
    match lost {
        Lost::Ended | Lost::Retired | Lost::Untrusted => None,
        Lost::Evicted => {
            let message = "the warpgate was evicted, or its key revoked";
            Some((refused(RefusalCode::KeyRevoked, message, None), CloseCode::Evicted))
        }
        Lost::EdgeEvicted => {
            let message = "this edge was evicted; use another";
            Some((refused(RefusalCode::Draining, message, Some(BUSY_RETRY_MS)), CloseCode::Done))
        }
    }
}
