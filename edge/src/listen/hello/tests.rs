//! The parser against rustls' own, on real hellos and on mutations of them.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;

use super::*;

/// A ClientHello as rustls sends it, without the record layer.
fn real_hello(name: &str, alpn: &[&[u8]]) -> Vec<u8> {
    let roots = rustls::RootCertStore::empty();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut records = Vec::new();
    client.write_tls(&mut records).unwrap();
    let mut hello = Vec::new();
    let mut rest = &records[..];
    while let [_, _, _, high, low, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        hello.extend_from_slice(&tail[..len]);
        rest = &tail[len..];
    }
    hello
}

/// What rustls' acceptor reads from the same handshake message; `None`: it refuses or waits for more.
fn as_rustls_reads(hello: &[u8]) -> Option<Hello> {
    let mut acceptor = rustls::server::Acceptor::default();
    for chunk in hello.chunks(16_000) {
        let mut record = vec![0x16, 3, 3];
        record.extend_from_slice(&u16::try_from(chunk.len()).unwrap().to_be_bytes());
        record.extend_from_slice(chunk);
        acceptor.read_tls(&mut &record[..]).unwrap();
    }
    let accepted = acceptor.accept().ok()??;
    let hello = accepted.client_hello();
    Some(Hello {
        server_name: hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase()),
        alpn: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
    })
}

#[test]
fn a_real_hello_gives_its_name_and_protocols() {
    let hello = real_hello("Shop.Example", &[b"h3", b"mezu-tunnel/1"]);
    let parsed = parse(&hello).unwrap().unwrap();
    assert_eq!(parsed.server_name.as_deref(), Some("shop.example"));
    assert_eq!(parsed.alpn, [b"h3".to_vec(), b"mezu-tunnel/1".to_vec()]);
    assert_eq!(as_rustls_reads(&hello), Some(parsed));

    let bare = parse(&real_hello("127.0.0.1", &[])).unwrap().unwrap();
    assert_eq!(bare, Hello::default(), "an address is no name, and no ALPN is an empty list");
}

#[test]
fn every_proper_prefix_needs_more() {
    let hello = real_hello("shop.example", &[b"h3"]);
    for len in 0..hello.len() {
        assert_eq!(parse(&hello[..len]), Ok(None), "{len} of {}", hello.len());
    }
}

#[test]
fn r24_what_cannot_become_a_hello_is_refused_at_once() {
    assert_eq!(parse(&[2]), Err(HelloError::NotHello));
    assert_eq!(parse(&[1, 0, 0x40, 1]), Err(HelloError::TooLong), "16 KiB and one octet");
    assert_eq!(parse(&[1, 0xff, 0xff, 0xff]), Err(HelloError::TooLong));
    assert_eq!(parse(&[1, 0, 0, 1, 0]), Err(HelloError::Malformed));
}

#[test]
fn an_extension_that_comes_twice_is_refused() {
    let alpn = [0, 16, 0, 5, 0, 3, 2, b'h', b'3'];
    let mut body = vec![3, 3];
    body.extend_from_slice(&[0; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    let with = |body: &[u8], count: usize| {
        let mut body = body.to_vec();
        body.extend_from_slice(&u16::try_from(alpn.len() * count).unwrap().to_be_bytes());
        body.extend(std::iter::repeat_n(alpn, count).flatten());
        let mut hello = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
        hello.extend_from_slice(&body);
        hello
    };
    assert_eq!(parse(&with(&body, 1)).unwrap().unwrap().alpn, [b"h3".to_vec()]);
    assert_eq!(parse(&with(&body, 2)), Err(HelloError::Malformed));
}

#[test]
fn r24_a_list_of_names_is_read_as_rustls_reads_it() {
    let hello = real_hello("shop.example", &[b"h3"]);
    let list = [&[0, 15, 0, 0, 12][..], b"shop.example"].concat();
    let at = hello.windows(list.len()).position(|window| window == list).unwrap();
    let with = |list: &[u8]| {
        let mut hello = hello.clone();
        hello[at..at + list.len()].copy_from_slice(list);
        hello
    };
    let rows: [(&[u8], Option<&str>); 5] = [
        (b"\0\x0f\0\0\x0cshop.example", Some("shop.example")),
        // A name, and one of an unknown kind.
        (b"\0\x0f\0\0\x04shop.example", Some("shop")),
        // Two names.
        (b"\0\x0f\0\0\x04shop\0\0\x05other", None),
        // Only one of an unknown kind.
        (b"\0\x0f\x04\0\x0cshop.example", None),
        (b"\0\x0f\0\0\x0cshop..exampl", None),
    ];
    for (list, name) in rows {
        let hello = with(list);
        let ours = parse(&hello).ok().flatten().map(|hello| hello.server_name.unwrap());
        assert_eq!(ours.as_deref(), name, "{list:?}");
        let theirs = as_rustls_reads(&hello).map(|hello| hello.server_name.unwrap());
        assert_eq!(theirs, ours, "{list:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn r24_no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        drop(parse(&bytes));
    }

    #[test]
    fn r24_a_mutated_hello_is_read_as_rustls_reads_it(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut hello = real_hello("shop.example", &[b"h3", b"h2"]);
        for (at, byte) in edits {
            let at = at.index(hello.len());
            hello[at] = byte;
        }
        if let Some(theirs) = as_rustls_reads(&hello) {
            prop_assert_eq!(parse(&hello), Ok(Some(theirs)));
        }
    }
}
