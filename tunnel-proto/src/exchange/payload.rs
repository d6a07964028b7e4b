//! Reads the payload of one whole frame: heads, trailers, failures.
//!
//! Header values share the payload's bytes; every length is checked against its limit before it is used.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mezusphere_model::id::{RequestId, RouteId};

use super::encode::METHODS;
use super::head::{Failure, FailureCode, IdentityRef, RequestHead, ResponseHead, Scheme};
use super::{FIELD_UPGRADE, FLAG_END, FLAG_STARTED, fields};
use crate::limits::{
    ASSERTION_LEN_MAX, AUTHORITY_LEN_MAX, DETAIL_LEN_MAX, METHOD_LEN_MAX, UPGRADE_LEN_MAX, URI_LEN_MAX,
};
use crate::wire::{Malformed, Reader};

pub(super) fn request(reader: &mut Reader<'_>, payload: &Bytes) -> Result<(RequestHead, bool), Malformed> {
    let flags = reader.byte()?;
    let request = RequestId::from_bits(reader.u128()?);
    let route = RouteId::from_bits(reader.u128()?);
    let revision = reader.varint()?;
    let client = match reader.byte()? {
        4 => reader.array::<4>()?.into(),
        6 => reader.array::<16>()?.into(),
        _ => return Err(Malformed),
    };
    let scheme = match reader.byte()? {
        0 => Scheme::Http,
        1 => Scheme::Https,
        _ => return Err(Malformed),
    };
    let method = match reader.byte()?.checked_sub(1) {
        Some(place) => METHODS.get(usize::from(place)).ok_or(Malformed)?.clone(),
        None => Method::from_bytes(reader.bytes(METHOD_LEN_MAX)?).map_err(|_| Malformed)?,
    };
    let authority = line(reader.text(AUTHORITY_LEN_MAX)?)?;
    let target = line(reader.text(URI_LEN_MAX)?)?;
    let identity = match reader.byte()? {
        0 => IdentityRef::None,
        1 => IdentityRef::Known(reader.varint()?),
        2 => {
            let slot = reader.varint()?;
            IdentityRef::Full { slot, assertion: payload.slice_ref(reader.bytes(ASSERTION_LEN_MAX)?) }
        }
        _ => return Err(Malformed),
    };
    let headers = fields::read(reader, payload)?;
    let mut upgrade = None;
    while let Some((number, mut value)) = reader.field()? {
        if number == FIELD_UPGRADE {
            let protocol = value.remainder();
            if protocol.len() > UPGRADE_LEN_MAX {
                return Err(Malformed);
            }
            upgrade = Some(line(std::str::from_utf8(protocol).map_err(|_| Malformed)?)?);
        }
    }
    let head = RequestHead {
        request,
        route,
        revision,
        client,
        scheme,
        authority,
        method,
        target,
        headers,
        identity,
        upgrade,
    };
    Ok((head, flags & FLAG_END != 0))
}

/// A text that becomes part of a request line or of one field: not empty, no spaces, no control characters.
fn line(text: &str) -> Result<String, Malformed> {
    let fits = !text.is_empty() && text.bytes().all(|octet| octet > b' ' && octet != 0x7f);
    if fits { Ok(text.to_owned()) } else { Err(Malformed) }
}

pub(super) fn response(reader: &mut Reader<'_>, payload: &Bytes) -> Result<(ResponseHead, bool), Malformed> {
    let flags = reader.byte()?;
    let status = StatusCode::from_u16(reader.u16()?).map_err(|_| Malformed)?;
    let headers = fields::read(reader, payload)?;
    skip_fields(reader)?;
    Ok((ResponseHead { status, headers }, flags & FLAG_END != 0))
}

pub(super) fn trailers(reader: &mut Reader<'_>, payload: &Bytes) -> Result<HeaderMap, Malformed> {
    let trailers = fields::read(reader, payload)?;
    skip_fields(reader)?;
    Ok(trailers)
}

pub(super) fn failure(reader: &mut Reader<'_>) -> Result<Failure, Malformed> {
    let flags = reader.byte()?;
    let code = FailureCode::from_number(u64::from(reader.u16()?));
    let detail = reader.text(DETAIL_LEN_MAX)?.to_owned();
    skip_fields(reader)?;
    Ok(Failure { code, detail, started: flags & FLAG_STARTED != 0 })
}

/// Passes over extension fields of a newer peer; they must read as such.
fn skip_fields(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    while reader.field()?.is_some() {}
    Ok(())
}
