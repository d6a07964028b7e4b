//! Control messages as bytes: every message is a frame of extension fields, so that each can grow.

use bytes::{Bytes, BytesMut};
use mezusphere_model::slug::Slug;

use super::message::Message;
use super::{UPSTREAM, kind, len_max};
use crate::limits::{BUNDLE_LEN_MAX, DETAIL_LEN_MAX, HEALTH_REASON_LEN_MAX, LABEL_LEN_MAX, UPSTREAMS_MAX};
use crate::wire::{self, Malformed};

/// Why a message cannot be written. Nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a control message passes a limit of the protocol")]
pub struct EncodeError;

/// Gathers messages until [`Encoder::take`].
#[derive(Debug, Default)]
pub struct Encoder {
    out: BytesMut,
}

impl Encoder {
    /// An encoder with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything written since the last call. Empty if nothing was.
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Octets waiting for [`Encoder::take`].
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing waits for [`Encoder::take`].
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Writes a message. Texts for people that are too long are cut.
    pub fn message(&mut self, message: &Message) -> Result<(), EncodeError> {
        let before = self.out.len();
        let start = wire::begin_frame(&mut self.out, kind_of(message));
        let len_max = len_max(kind_of(message));
        let written =
            put(&mut self.out, message).and_then(|()| wire::end_frame(&mut self.out, start, len_max));
        if written.is_err() {
            self.out.truncate(before);
        }
        written.map_err(|Malformed| EncodeError)
    }
}

const fn kind_of(message: &Message) -> u64 {
    match message {
        Message::Hello(_) => kind::HELLO,
        Message::Welcome(_) => kind::WELCOME,
        Message::Refused(_) => kind::REFUSED,
        Message::Ping { .. } => kind::PING,
        Message::Pong { .. } => kind::PONG,
        Message::Offer { .. } => kind::OFFER,
        Message::Withdraw { .. } => kind::WITHDRAW,
        Message::Bundle(_) => kind::BUNDLE,
        Message::Drain { .. } => kind::DRAIN,
        Message::PrincipalKnown { .. } => kind::PRINCIPAL_KNOWN,
        Message::ProbeRequest { .. } => kind::PROBE_REQUEST,
        Message::ProbeDone { .. } => kind::PROBE_DONE,
        Message::UpstreamHealth(_) => kind::UPSTREAM_HEALTH,
        Message::Close { .. } => kind::CLOSE,
    }
}

fn put(out: &mut BytesMut, message: &Message) -> Result<(), Malformed> {
    match message {
        Message::Hello(hello) => {
            wire::put_number_field(out, 1, hello.versions.min.into());
            wire::put_number_field(out, 2, hello.versions.max.into());
            wire::put_field(out, 3, cut(&hello.agent, LABEL_LEN_MAX));
            wire::put_field(out, 4, &hello.instance.bits().to_be_bytes());
            wire::put_number_field(out, 5, hello.index.into());
            wire::put_number_field(out, 6, hello.count.into());
            put_upstreams(out, &hello.upstreams)?;
            wire::put_number_field(out, 8, hello.bundle_revision);
            wire::put_number_field(out, 9, hello.features);
        }
        Message::Welcome(welcome) => {
            wire::put_number_field(out, 1, welcome.version.into());
            wire::put_field(out, 2, &welcome.edge.bits().to_be_bytes());
            wire::put_field(out, 3, cut(&welcome.region, LABEL_LEN_MAX));
            wire::put_number_field(out, 4, welcome.limits.exchanges_first.into());
            wire::put_number_field(out, 5, welcome.limits.exchanges_max.into());
            wire::put_number_field(out, 6, welcome.features);
        }
        Message::Refused(refused) => {
            wire::put_number_field(out, 1, refused.code.number().into());
            wire::put_field(out, 2, cut(&refused.message, DETAIL_LEN_MAX));
            if let Some(after) = refused.retry_after_ms {
                wire::put_number_field(out, 3, after);
            }
            if refused.do_not_retry {
                wire::put_field(out, 4, &[]);
            }
        }
        Message::Ping { n } | Message::Pong { n } => wire::put_number_field(out, 1, *n),
        Message::Offer { upstreams } | Message::Withdraw { upstreams } => put_upstreams(out, upstreams)?,
        Message::Bundle(bundle) => {
            if bundle.jws.len() > BUNDLE_LEN_MAX {
                return Err(Malformed);
            }
            wire::put_field(out, 1, &bundle.environment.bits().to_be_bytes());
            wire::put_number_field(out, 2, bundle.revision);
            wire::put_field(out, 3, bundle.jws.as_bytes());
        }
        Message::Drain { grace_ms } => wire::put_number_field(out, 1, *grace_ms),
        Message::PrincipalKnown { slot } => wire::put_number_field(out, 1, *slot),
        Message::ProbeRequest { nonce } => wire::put_field(out, 1, &nonce.to_be_bytes()),
        Message::ProbeDone { nonce, rtt_us } => {
            wire::put_field(out, 1, &nonce.to_be_bytes());
            wire::put_number_field(out, 2, *rtt_us);
        }
        Message::UpstreamHealth(health) => {
            wire::put_number_field(out, 1, health.state.number().into());
            if !health.reason.is_empty() {
                wire::put_field(out, 2, cut(&health.reason, HEALTH_REASON_LEN_MAX));
            }
            put_upstreams(out, std::slice::from_ref(&health.upstream))?;
        }
        Message::Close { code } => wire::put_number_field(out, 1, code.number().into()),
    }
    Ok(())
}

fn put_upstreams(out: &mut BytesMut, upstreams: &[Slug]) -> Result<(), Malformed> {
    if upstreams.len() > UPSTREAMS_MAX {
        return Err(Malformed);
    }
    for upstream in upstreams {
        wire::put_field(out, UPSTREAM, upstream.as_str().as_bytes());
    }
    Ok(())
}

/// The front of `text` that fits.
fn cut(text: &str, len_max: usize) -> &[u8] {
    text.get(..text.floor_char_boundary(len_max)).unwrap_or_default().as_bytes()
}
