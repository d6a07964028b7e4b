//! The fields of one control message.
//!
//! A field that is not known is skipped. One that occurs twice and is no list, or is missing and has no default,
//! makes the message malformed.

use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::id::{EdgeId, EnvironmentId, WarpgateId};
use mezusphere_model::slug::Slug;

use super::message::{
    HealthState, Hello, Message, RefusalCode, Refused, SessionLimits, UpstreamHealth, VersionRange, Welcome,
};
use super::{UPSTREAM, kind};
use crate::codes::CloseCode;
use crate::limits::{BUNDLE_LEN_MAX, DETAIL_LEN_MAX, HEALTH_REASON_LEN_MAX, LABEL_LEN_MAX, UPSTREAMS_MAX};
use crate::wire::{Malformed, Reader};

/// The message of type `kind` whose payload `reader` reads.
pub(super) fn read(kind: u64, reader: Reader<'_>) -> Result<Message, Malformed> {
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
        kind::UPSTREAM_HEALTH => Message::UpstreamHealth(UpstreamHealth {
            upstream: fields.upstream()?,
            state: HealthState::from_number(fields.number(1)?),
            reason: fields.text_or_empty(2, HEALTH_REASON_LEN_MAX)?,
        }),
        kind::CLOSE => Message::Close { code: CloseCode::from_number(fields.number(1)?) },
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

    fn text_or_empty(&self, number: usize, len_max: usize) -> Result<String, Malformed> {
        if self.get(number).is_none() { Ok(String::new()) } else { self.text(number, len_max) }
    }

    fn upstream(&self) -> Result<Slug, Malformed> {
        match &*self.upstreams()? {
            [upstream] => Ok(upstream.clone()),
            _ => Err(Malformed),
        }
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
