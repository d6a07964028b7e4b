//! Header fields on the wire: common names as one octet, values as they are.
//!
//! The table of names is part of the protocol: entries are only ever added at its end.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::encode::EncodeError;
use crate::limits::FIELDS_MAX;
use crate::wire::{self, Malformed, Reader};

/// Names with a code of their own; a code is the place here plus one, 0 says that the text follows.
static NAMES: [HeaderName; 64] = [
    header::ACCEPT,                                // 1
    header::ACCEPT_ENCODING,                       // 2
    header::ACCEPT_LANGUAGE,                       // 3
    header::ACCEPT_RANGES,                         // 4
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,      // 5
    header::ACCESS_CONTROL_ALLOW_HEADERS,          // 6
    header::ACCESS_CONTROL_ALLOW_METHODS,          // 7
    header::ACCESS_CONTROL_ALLOW_ORIGIN,           // 8
    header::ACCESS_CONTROL_EXPOSE_HEADERS,         // 9
    header::ACCESS_CONTROL_MAX_AGE,                // 10
    header::ACCESS_CONTROL_REQUEST_HEADERS,        // 11
    header::ACCESS_CONTROL_REQUEST_METHOD,         // 12
    header::AGE,                                   // 13
    header::ALLOW,                                 // 14
    header::AUTHORIZATION,                         // 15
    header::CACHE_CONTROL,                         // 16
    header::CONTENT_DISPOSITION,                   // 17
    header::CONTENT_ENCODING,                      // 18
    header::CONTENT_LANGUAGE,                      // 19
    header::CONTENT_LENGTH,                        // 20
    header::CONTENT_RANGE,                         // 21
    header::CONTENT_SECURITY_POLICY,               // 22
    header::CONTENT_TYPE,                          // 23
    header::COOKIE,                                // 24
    header::DATE,                                  // 25
    header::ETAG,                                  // 26
    header::EXPECT,                                // 27
    header::EXPIRES,                               // 28
    header::FORWARDED,                             // 29
    header::HOST,                                  // 30
    header::IF_MATCH,                              // 31
    header::IF_MODIFIED_SINCE,                     // 32
    header::IF_NONE_MATCH,                         // 33
    header::IF_RANGE,                              // 34
    header::IF_UNMODIFIED_SINCE,                   // 35
    header::LAST_MODIFIED,                         // 36
    header::LINK,                                  // 37
    header::LOCATION,                              // 38
    header::ORIGIN,                                // 39
    header::PRAGMA,                                // 40
    header::RANGE,                                 // 41
    header::REFERER,                               // 42
    header::REFERRER_POLICY,                       // 43
    header::RETRY_AFTER,                           // 44
    header::SERVER,                                // 45
    header::SET_COOKIE,                            // 46
    header::STRICT_TRANSPORT_SECURITY,             // 47
    header::TRAILER,                               // 48
    header::UPGRADE_INSECURE_REQUESTS,             // 49
    header::USER_AGENT,                            // 50
    header::VARY,                                  // 51
    header::VIA,                                   // 52
    header::WWW_AUTHENTICATE,                      // 53
    header::X_CONTENT_TYPE_OPTIONS,                // 54
    header::X_FRAME_OPTIONS,                       // 55
    HeaderName::from_static("priority"),           // 56
    HeaderName::from_static("sec-ch-ua"),          // 57
    HeaderName::from_static("sec-ch-ua-mobile"),   // 58
    HeaderName::from_static("sec-ch-ua-platform"), // 59
    HeaderName::from_static("sec-fetch-dest"),     // 60
    HeaderName::from_static("sec-fetch-mode"),     // 61
    HeaderName::from_static("sec-fetch-site"),     // 62
    HeaderName::from_static("sec-fetch-user"),     // 63
    HeaderName::from_static("x-requested-with"),   // 64
];

/// Where a name's code may be: slots by [`slot`], 0 for none. Built from [`NAMES`] at first use.
struct Codes([u8; SLOTS]);

const SLOTS: usize = 512;

static CODES: std::sync::LazyLock<Codes> = std::sync::LazyLock::new(|| {
    let mut codes = [0; SLOTS];
    for (code, name) in (1_u8..).zip(&NAMES) {
        // A name whose slots are taken just has no code for the writer; a test says that there is none.
        for place in probes(name.as_str().as_bytes()) {
            match codes.get_mut(place) {
                Some(free) if *free == 0 => {
                    *free = code;
                    break;
                }
                _ => {}
            }
        }
    }
    Codes(codes)
});

/// The slots a name may be in: its own and the next one.
fn probes(name: &[u8]) -> [usize; 2] {
    let octet = |at: Option<&u8>| at.map_or(0, |octet| usize::from(*octet));
    let (first, last) = (octet(name.first()), octet(name.last()));
    let middle = octet(name.get(name.len() / 2));
    let mixed =
        name.len().wrapping_mul(67) ^ first.wrapping_mul(7) ^ last.wrapping_mul(31) ^ middle.wrapping_mul(13);
    [mixed % SLOTS, (mixed + 1) % SLOTS]
}

fn code(name: &HeaderName) -> Option<u8> {
    probes(name.as_str().as_bytes()).into_iter().find_map(|place| {
        let code = *CODES.0.get(place)?;
        let known = NAMES.get(usize::from(code).checked_sub(1)?)?;
        (known == name).then_some(code)
    })
}

/// Appends a field section: the number of fields, then each one's name and value.
pub(super) fn put(out: &mut BytesMut, fields: &HeaderMap) -> Result<(), EncodeError> {
    if fields.len() > FIELDS_MAX {
        return Err(EncodeError::TooManyFields);
    }
    wire::put_len(out, fields.len());
    for (name, value) in fields {
        if let Some(code) = code(name) {
            out.put_u8(code);
        } else {
            out.put_u8(0);
            wire::put_bytes(out, name.as_str().as_bytes());
        }
        wire::put_bytes(out, value.as_bytes());
    }
    Ok(())
}

/// Reads a field section; values share `payload`, which `reader` reads.
pub(super) fn read(reader: &mut Reader<'_>, payload: &Bytes) -> Result<HeaderMap, Malformed> {
    let count: usize = reader.number()?;
    // A field has at least two octets, so a count alone cannot make us reserve room.
    if count > FIELDS_MAX || count > reader.len() / 2 {
        return Err(Malformed);
    }
    let mut fields = HeaderMap::with_capacity(count);
    for _ in 0..count {
        let name = match reader.byte()?.checked_sub(1) {
            Some(place) => NAMES.get(usize::from(place)).ok_or(Malformed)?.clone(),
            None => HeaderName::from_lowercase(reader.bytes(NAME_LEN_MAX)?).map_err(|_| Malformed)?,
        };
        let value = reader.bytes(usize::MAX)?;
        let value = HeaderValue::from_maybe_shared(payload.slice_ref(value)).map_err(|_| Malformed)?;
        fields.append(name, value);
    }
    Ok(fields)
}

/// Longest field name, in octets; the head's own bound would allow one that fills it.
const NAME_LEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_docs_list_the_table_of_names() {
        let docs = include_str!("../lib.rs").replace("\n//! ", " ");
        for (code, name) in (1..).zip(&NAMES) {
            let row = format!(" {code} {name}");
            assert!(docs.contains(&format!("{row},")) || docs.contains(&format!("{row}.")), "{row}");
        }
    }

    #[test]
    fn every_name_of_the_table_is_written_as_its_code() {
        for (expected, name) in (1..).zip(&NAMES) {
            assert_eq!(code(name), Some(expected), "{name}");
        }
        assert_eq!(code(&HeaderName::from_static("x-other")), None);
    }
}
