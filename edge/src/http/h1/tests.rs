//! The scanners, row by row, and against every way of cutting their input.

use proptest::prelude::*;

use super::body::{BodyScan, CHUNK_LINE_LEN_MAX};
use super::head::{Framing, HeadScan, HeadStep, Violation};
use crate::config::{REQUEST_FIELDS_MAX, REQUEST_HEAD_LEN_MAX, REQUEST_TARGET_LEN_MAX};

fn scan(head: &[u8]) -> Result<HeadStep, Violation> {
    let mut scan = HeadScan::START;
    scan.advance(head)
}

#[test]
fn a_head_ends_at_its_empty_line_and_says_how_its_body_is_delimited() {
    let rows: [(&[u8], Framing); 7] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Empty),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Empty),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", Framing::Empty),
        (b"POST / HTTP/1.1\r\ncontent-LENGTH: \t 12 \r\n\r\n", Framing::Length(12)),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding:Chunked\r\n\r\n", Framing::Chunked),
        (b"POST / HTTP/1.0\r\nContent-Length:5\r\n\r\n", Framing::Length(5)),
        (b"OPTIONS * HTTP/1.1\r\nX: \xe9\r\n\r\n", Framing::Empty),
    ];
    for (head, framing) in rows {
        let text = String::from_utf8_lossy(head);
        let done = HeadStep::Done { len: head.len(), framing, upgrade: false };
        assert_eq!(scan(head), Ok(done), "{text:?}");
        for cut in 0..head.len() {
            assert_eq!(scan(&head[..cut]), Ok(HeadStep::More), "{text:?} cut at {cut}");
        }
        let mut drip = HeadScan::START;
        for len in 0..head.len() {
            assert_eq!(drip.advance(&head[..len]), Ok(HeadStep::More), "{text:?} octet by octet");
        }
        assert_eq!(drip.advance(head), Ok(done));
    }
}

#[test]
fn r07_what_two_readers_could_read_in_two_ways_is_refused() {
    let rows: [(&str, Violation); 31] = [
        ("GET / HTTP/1.1\nHost: a\n\n", Violation::LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Violation::LineEnd),
        ("\nGET / HTTP/1.1\r\n\r\n", Violation::LineEnd),
        ("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", Violation::LineEnd),
        ("GET / HTTP/1.1\r\nX: a\r\r\n\r\n", Violation::LineEnd),
        ("GET  / HTTP/1.1\r\n\r\n", Violation::RequestLine),
        ("GET / HTTP/1.1 \r\n\r\n", Violation::RequestLine),
        ("GET /a b HTTP/1.1\r\n\r\n", Violation::RequestLine),
        ("GET /\t HTTP/1.1\r\n\r\n", Violation::RequestLine),
        ("GET\t/ HTTP/1.1\r\n\r\n", Violation::RequestLine),
        (" GET / HTTP/1.1\r\n\r\n", Violation::RequestLine),
        ("G(T / HTTP/1.1\r\n\r\n", Violation::RequestLine),
        ("GET /\r\n\r\n", Violation::RequestLine),
        ("GET / HTTP/2.0\r\n\r\n", Violation::Version),
        ("GET / HTTP/1.10\r\n\r\n", Violation::Version),
        ("PRI * HTTP/2.0\r\n\r\n", Violation::Version),
        ("GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", Violation::Folding),
        ("GET / HTTP/1.1\r\n\tX: a\r\n\r\n", Violation::Folding),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Violation::FieldName),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", Violation::FieldName),
        ("GET / HTTP/1.1\r\nHost\r\n\r\n", Violation::FieldName),
        ("GET / HTTP/1.1\r\nX\0: a\r\n\r\n", Violation::FieldName),
        ("GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", Violation::FieldValue),
        ("POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n", Violation::ContentLength),
        ("POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n", Violation::ContentLength),
        ("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", Violation::ContentLength),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Violation::ContentLengthTwice),
        (
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            Violation::TwoFramings,
        ),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Violation::TransferEncoding),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Violation::TransferEncoding,
        ),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Violation::TransferEncodingIn10),
    ];
    for (head, violation) in rows {
        assert_eq!(scan(head.as_bytes()), Err(violation), "{head:?}");
    }
}

#[test]
fn r23_the_limits_of_a_head_are_exact() {
    let with_target = |len: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(len - 1));
    assert!(matches!(scan(with_target(REQUEST_TARGET_LEN_MAX).as_bytes()), Ok(HeadStep::Done { .. })));
    let too_long = with_target(REQUEST_TARGET_LEN_MAX + 1);
    assert_eq!(scan(too_long.as_bytes()), Err(Violation::TargetTooLong));

    let with_fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert!(matches!(scan(with_fields(REQUEST_FIELDS_MAX).as_bytes()), Ok(HeadStep::Done { .. })));
    let too_many = with_fields(REQUEST_FIELDS_MAX + 1);
    assert_eq!(scan(too_many.as_bytes()), Err(Violation::TooManyFields));

    let with_len = |len: usize| {
        let (start, end) = ("GET / HTTP/1.1\r\na: ", "\r\n\r\n");
        format!("{start}{}{end}", "b".repeat(len - start.len() - end.len()))
    };
    assert!(matches!(scan(with_len(REQUEST_HEAD_LEN_MAX).as_bytes()), Ok(HeadStep::Done { .. })));
    assert_eq!(scan(with_len(REQUEST_HEAD_LEN_MAX + 1).as_bytes()), Err(Violation::HeadTooLong));
    let endless = vec![b'a'; REQUEST_HEAD_LEN_MAX + 1];
    assert_eq!(scan(&endless), Err(Violation::HeadTooLong), "without any line end");
}

/// How many octets of `bytes` belong to the body, or at which one it goes wrong; fed in pieces of `piece`.
fn follow(framing: Framing, bytes: &[u8], piece: usize) -> Result<Option<usize>, usize> {
    let mut scan = BodyScan::new(framing).unwrap();
    let mut at = 0;
    for chunk in bytes.chunks(piece) {
        let step = scan.advance(chunk).map_err(|len| at + len)?;
        at += step.len;
        if step.is_end {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

#[test]
fn a_body_ends_where_its_framing_says() {
    let rows: [(Framing, &[u8], usize); 6] = [
        (Framing::Length(3), b"abcGET", 3),
        (Framing::Chunked, b"0\r\n\r\nGET", 5),
        (Framing::Chunked, b"3\r\nabc\r\n0\r\n\r\nGET", 13),
        (Framing::Chunked, b"a;x=\"y\"\r\n0123456789\r\n00\r\n\r\nGET", 27),
        (Framing::Chunked, b"0\r\nx-sum: 1\r\ny:\r\n\r\nGET", 19),
        (Framing::Chunked, b"1\r\n\r\r\n0\r\n\r\n\r\n", 11),
    ];
    for (framing, bytes, len) in rows {
        for piece in 1..=bytes.len() {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(follow(framing, bytes, piece), Ok(Some(len)), "{text:?} in pieces of {piece}");
        }
    }
}

#[test]
fn r07_a_chunk_is_framed_to_the_letter() {
    let long = format!("1;{}\r\n", "x".repeat(CHUNK_LINE_LEN_MAX));
    let rows: [(&[u8], usize); 12] = [
        (b"\r\n", 0),
        (b"3\nabc", 1),
        (b"3\r\nabcd", 6),
        (b"3\r\nabc\n", 6),
        (b"3 \r\n", 1),
        (b"0x3\r\n", 1),
        (b"-1\r\n", 0),
        (b"fffffffffffffffff\r\n", 16),
        (b"0\r\nx: a\nb", 7),
        (b"0\r\n x: a\r\n", 3),
        (b"0\r\nx : a\r\n", 4),
        (long.as_bytes(), CHUNK_LINE_LEN_MAX),
    ];
    for (bytes, at) in rows {
        for piece in 1..=bytes.len() {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(follow(Framing::Chunked, bytes, piece), Err(at), "{text:?} in pieces of {piece}");
        }
    }
}

/// Bytes that often come near to being a request.
fn almost_a_head() -> impl Strategy<Value = Vec<u8>> {
    let words: [&[u8]; 16] = [
        b"GET ",
        b"/ ",
        b"HTTP/1.1",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"Host: a",
        b"Content-Length: ",
        b"5",
        b"chunked",
        b"Transfer-Encoding: ",
        b":",
        b"\t",
        b"\0",
        b"0\r\n",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..24)
        .prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn r24_how_bytes_arrive_changes_nothing(bytes in almost_a_head(), piece in 1_usize..9) {
        let whole = scan(&bytes);
        let mut drip = HeadScan::START;
        let mut last = Ok(HeadStep::More);
        let mut len = 0;
        while len < bytes.len() && last == Ok(HeadStep::More) {
            len = (len + piece).min(bytes.len());
            last = drip.advance(&bytes[..len]);
        }
        prop_assert_eq!(whole, last);
        for framing in [Framing::Chunked, Framing::Length(7)] {
            prop_assert_eq!(follow(framing, &bytes, bytes.len().max(1)), follow(framing, &bytes, piece));
        }
    }

    #[test]
    fn r24_no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
        scan(&bytes).ok();
        follow(Framing::Chunked, &bytes, piece).ok();
    }
}
