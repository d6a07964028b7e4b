//! Control messages as bytes: every message is a frame of extension fields, so that each can grow.
//!
//! A field that is not known is skipped, a message type that is not known too. A field that occurs twice
//! and is no list, or is missing and has no default, makes the message malformed.

use bytes::{Buf as _, Bytes, BytesMut};
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::id::{EdgeId, EnvironmentId, WarpgateId};
use mezusphere_model::slug::Slug;

use super::message::{Hello, Message, RefusalCode, Refused, SessionLimits, VersionRange, Welcome};
use crate::limits::{
    BUNDLE_LEN_MAX, BUNDLE_MESSAGE_LEN_MAX, CONTROL_MESSAGE_LEN_MAX, DETAIL_LEN_MAX, LABEL_LEN_MAX,
    UPSTREAMS_MAX,
};
use crate::wire::{self, Malformed, Reader};

/// Message types. Never given a second meaning.
mod kind {
    pub(super) const HELLO: u64 = 0x01;
    pub(super) const WELCOME: u64 = 0x02;
    pub(super) const REFUSED: u64 = 0x03;
    pub(super) const PING: u64 = 0x04;
    pub(super) const PONG: u64 = 0x05;
    pub(super) const OFFER: u64 = 0x06;
    pub(super) const WITHDRAW: u64 = 0x07;
    pub(super) const BUNDLE: u64 = 0x08;
    pub(super) const DRAIN: u64 = 0x09;
    pub(super) const PRINCIPAL_KNOWN: u64 = 0x0a;
    pub(super) const PROBE_REQUEST: u64 = 0x0b;
    pub(super) const PROBE_DONE: u64 = 0x0c;
}

/// Why a message cannot be written. Nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a control message passes a limit of the protocol")]
pub struct EncodeError;

/// Why the control stream cannot be read any further. The peer is at fault; close the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A message's fields do not read as its type asks.
    #[error("control message {0:#04x} is malformed")]
    Malformed(u64),
    /// A message longer than its type may be.
    #[error("control message {0:#04x} is too long")]
    TooLong(u64),
    /// A message only the other side may send.
    #[error("control message {0:#04x} came from the wrong side")]
    WrongSide(u64),
}

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
    }
}

const fn len_max(kind: u64) -> usize {
    if kind == kind::BUNDLE { BUNDLE_MESSAGE_LEN_MAX } else { CONTROL_MESSAGE_LEN_MAX }
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
    }
    Ok(())
}

/// Field number of an upstream's name, in every message that lists some.
const UPSTREAM: u64 = 7;

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

/// Which messages may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Warpgate,
    Edge,
}

/// Reads messages, however the bytes are cut. Push a chunk, poll until `None`, push the next.
///
/// Holds at most one incomplete message: 1 MiB for a bundle, [`CONTROL_MESSAGE_LEN_MAX`] otherwise.
#[derive(Debug)]
pub struct Decoder {
    from: From,
    chunk: Bytes,
    /// The start of a message the chunks so far did not hold whole.
    partial: BytesMut,
    /// Octets of an unknown message still to skip.
    skip: u64,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// Reads what a warpgate says: for an edge.
    pub fn from_warpgate() -> Self {
        Self::new(From::Warpgate)
    }

    /// Reads what an edge says: for a warpgate.
    pub fn from_edge() -> Self {
        Self::new(From::Edge)
    }

    fn new(from: From) -> Self {
        Self { from, chunk: Bytes::new(), partial: BytesMut::new(), skip: 0, failed: None }
    }

    /// Gives it the stream's next bytes. Poll until `None` first: what is left of the chunk before is
    /// joined to this one by copying both.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else if !chunk.is_empty() {
            self.chunk = [self.chunk.as_ref(), chunk.as_ref()].concat().into();
        }
    }

    /// The next message; `None`: push more.
    ///
    /// # Errors
    /// [`DecodeError`], and the same one at every later call.
    pub fn poll(&mut self) -> Result<Option<Message>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let polled = self.advance();
        if let Err(error) = &polled {
            self.failed = Some(*error);
            self.chunk = Bytes::new();
            self.partial = BytesMut::new();
        }
        polled
    }

    fn advance(&mut self) -> Result<Option<Message>, DecodeError> {
        loop {
            let here = usize::try_from(self.skip).unwrap_or(usize::MAX).min(self.chunk.len());
            self.chunk.advance(here);
            self.skip -= u64::try_from(here).unwrap_or(self.skip);
            if self.skip != 0 || (self.chunk.is_empty() && self.partial.is_empty()) {
                return Ok(None);
            }
            let Some((kind, len, size)) = self.header() else { return Ok(None) };
            if !known(kind) {
                self.partial.clear();
                self.chunk.advance(size);
                self.skip = len;
                continue;
            }
            if self.from != side(kind, self.from) {
                return Err(DecodeError::WrongSide(kind));
            }
            let len = usize::try_from(len).ok().filter(|len| *len <= len_max(kind));
            let whole = size + len.ok_or(DecodeError::TooLong(kind))?;
            let message = if self.partial.is_empty() && self.chunk.len() >= whole {
                self.chunk.split_to(whole)
            } else {
                let missing = whole.saturating_sub(self.partial.len()).min(self.chunk.len());
                self.partial.extend_from_slice(&self.chunk.split_to(missing));
                if self.partial.len() < whole {
                    return Ok(None);
                }
                std::mem::take(&mut self.partial).freeze()
            };
            let payload = message.get(size..).unwrap_or_default();
            return read(kind, Reader::new(payload))
                .map(Some)
                .map_err(|Malformed| DecodeError::Malformed(kind));
        }
    }

    /// Type, length and own size of the frame header at the front of `partial` and `chunk`. For an
    /// unknown type the size counts what of it lies in `chunk`.
    fn header(&mut self) -> Option<(u64, u64, usize)> {
        if self.partial.is_empty()
            && let Some(found) = header(&self.chunk)
        {
            return Some(found);
        }
        // Put together octet by octet; it has 16 at most.
        loop {
            if let Some((kind, len, size)) = header(&self.partial) {
                return Some((kind, len, if known(kind) { size } else { 0 }));
            }
            if self.chunk.is_empty() {
                return None;
            }
            self.partial.extend_from_slice(&self.chunk.split_to(1));
        }
    }
}

fn header(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (kind, kind_size) = wire::varint(bytes)?;
    let (len, len_size) = wire::varint(bytes.get(kind_size..)?)?;
    Some((kind, len, kind_size + len_size))
}

const fn known(kind: u64) -> bool {
    matches!(kind, kind::HELLO..=kind::PROBE_DONE)
}

/// Who may send it; for what both may send, whoever did.
const fn side(kind: u64, either: From) -> From {
    match kind {
        kind::HELLO | kind::OFFER | kind::WITHDRAW | kind::PRINCIPAL_KNOWN | kind::PROBE_REQUEST => {
            From::Warpgate
        }
        kind::WELCOME | kind::REFUSED | kind::BUNDLE | kind::PROBE_DONE => From::Edge,
        _ => either,
    }
}

fn read(kind: u64, reader: Reader<'_>) -> Result<Message, Malformed> {
    let fields = Fields::read(reader)?;
    Ok(match kind {
        kind::HELLO => Message::Hello(Hello {
            versions: VersionRange { min: fields.number(1)?, max: fields.number(2)? },
            agent: fields.text(3, LABEL_LEN_MAX)?,
            instance: WarpgateId::from_bits(u128::from_be_bytes(fields.array(4)?)),
            index: fields.number(5)?,
            count: fields.number(6)?,
            upstreams: fields.upstreams()?,
            bundle_revision: fields.number_or_zero(8)?,
            features: fields.number_or_zero(9)?,
        }),
        kind::WELCOME => Message::Welcome(Welcome {
            version: fields.number(1)?,
            edge: EdgeId::from_bits(u128::from_be_bytes(fields.array(2)?)),
            region: fields.text(3, LABEL_LEN_MAX)?,
            limits: SessionLimits { exchanges_first: fields.number(4)?, exchanges_max: fields.number(5)? },
            features: fields.number_or_zero(6)?,
        }),
        kind::REFUSED => Message::Refused(Refused {
            code: RefusalCode::from_number(fields.number(1)?),
            message: fields.text(2, DETAIL_LEN_MAX)?,
            retry_after_ms: fields.get(3).map(|_| fields.number(3)).transpose()?,
            do_not_retry: fields.get(4).is_some(),
        }),
        kind::PING => Message::Ping { n: fields.number(1)? },
        kind::PONG => Message::Pong { n: fields.number(1)? },
        kind::OFFER => Message::Offer { upstreams: fields.upstreams()? },
        kind::WITHDRAW => Message::Withdraw { upstreams: fields.upstreams()? },
        kind::BUNDLE => Message::Bundle(SignedBundle {
            environment: EnvironmentId::from_bits(u128::from_be_bytes(fields.array(1)?)),
            revision: fields.number(2)?,
            jws: fields.text(3, BUNDLE_LEN_MAX)?,
        }),
        kind::DRAIN => Message::Drain { grace_ms: fields.number(1)? },
        kind::PRINCIPAL_KNOWN => Message::PrincipalKnown { slot: fields.number(1)? },
        kind::PROBE_REQUEST => Message::ProbeRequest { nonce: u64::from_be_bytes(fields.array(1)?) },
        kind::PROBE_DONE => {
            Message::ProbeDone { nonce: u64::from_be_bytes(fields.array(1)?), rtt_us: fields.number(2)? }
        }
        _ => return Err(Malformed),
    })
}

/// Highest field number in use, over all messages.
const FIELD_MAX: usize = 9;

/// The fields of one message, by number; unknown ones left out.
struct Fields<'a> {
    single: [Option<Reader<'a>>; FIELD_MAX + 1],
    upstreams: Vec<Reader<'a>>,
}

impl<'a> Fields<'a> {
    fn read(mut reader: Reader<'a>) -> Result<Self, Malformed> {
        let mut fields = Self { single: [None; FIELD_MAX + 1], upstreams: Vec::new() };
        while let Some((number, value)) = reader.field()? {
            if number == UPSTREAM {
                if fields.upstreams.len() == UPSTREAMS_MAX {
                    return Err(Malformed);
                }
                fields.upstreams.push(value);
            } else if let Some(place) = usize::try_from(number).ok().and_then(|at| fields.single.get_mut(at))
                && place.replace(value).is_some()
            {
                return Err(Malformed);
            }
        }
        Ok(fields)
    }

    fn get(&self, number: usize) -> Option<Reader<'a>> {
        self.single.get(number).copied().flatten()
    }

    fn must(&self, number: usize) -> Result<Reader<'a>, Malformed> {
        self.get(number).ok_or(Malformed)
    }

    fn number<T: TryFrom<u64>>(&self, number: usize) -> Result<T, Malformed> {
        let mut value = self.must(number)?;
        let read = value.number()?;
        if value.is_empty() { Ok(read) } else { Err(Malformed) }
    }

    fn number_or_zero(&self, number: usize) -> Result<u64, Malformed> {
        if self.get(number).is_none() { Ok(0) } else { self.number(number) }
    }

    fn array<const N: usize>(&self, number: usize) -> Result<[u8; N], Malformed> {
        let mut value = self.must(number)?;
        let read = value.array()?;
        if value.is_empty() { Ok(read) } else { Err(Malformed) }
    }

    fn text(&self, number: usize, len_max: usize) -> Result<String, Malformed> {
        text(self.must(number)?, len_max).map(str::to_owned)
    }

    fn upstreams(&self) -> Result<Vec<Slug>, Malformed> {
        self.upstreams
            .iter()
            .map(|value| Slug::parse(text(*value, LABEL_LEN_MAX)?).map_err(|_| Malformed))
            .collect()
    }
}

fn text(mut value: Reader<'_>, len_max: usize) -> Result<&str, Malformed> {
    let octets = value.remainder();
    if octets.len() > len_max {
        return Err(Malformed);
    }
    std::str::from_utf8(octets).map_err(|_| Malformed)
}
