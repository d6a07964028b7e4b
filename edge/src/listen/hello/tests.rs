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
    let mut octets = Vec::new();
    client.write_tls(&mut octets).unwrap();
    let mut hello = Vec::new();
    let mut rest = &octets[..];
    while let [_, _, _, high, low, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        hello.extend_from_slice(&tail[..len]);
        rest = &tail[len..];
    }
    hello
}

/// A message in records of at most `size` octets.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    for fragment in message.chunks(size) {
        octets.extend_from_slice(&[0x16, 3, 3]);
        octets.extend_from_slice(&u16::try_from(fragment.len()).unwrap().to_be_bytes());
        octets.extend_from_slice(fragment);
    }
    octets
}

/// Whether rustls finds a hello in the octets of a connection; `None`: it waits for more.
fn found_by_rustls(octets: &[u8]) -> Option<bool> {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = octets;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).unwrap();
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(_)) => return Some(true),
            Err(_) => return Some(false),
        }
    }
    None
}

/// What rustls' acceptor reads from the same handshake message; `None`: it refuses or waits for more.
fn as_rustls_reads(hello: &[u8]) -> Option<Hello> {
    let mut acceptor = rustls::server::Acceptor::default();
    let octets = records(hello, 16_000);
    let mut rest = &octets[..];
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).unwrap();
    }
    let accepted = acceptor.accept().ok()??;
    let hello = accepted.client_hello();
    Some(Hello {
        server_name: hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase()),
        alpn: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
        cipher_suites: hello.cipher_suites().iter().copied().take(CIPHER_SUITES_MAX).collect(),
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
    assert_eq!(bare.server_name, None, "an address is no name");
    assert!(bare.alpn.is_empty());
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
fn a_hello_is_whole_with_its_last_octet_however_its_records_are_cut() {
    let hello = real_hello("shop.example", &[b"h3"]);
    for size in [1, 3, 100, 16_000] {
        let octets = records(&hello, size);
        for len in (0..octets.len()).step_by(7) {
            assert_eq!(is_whole(&octets[..len]), Ok(false), "{len} of {} in records of {size}", octets.len());
        }
        assert_eq!(is_whole(&octets[..octets.len() - 1]), Ok(false), "records of {size}");
        assert_eq!(is_whole(&octets), Ok(true), "records of {size}");
        assert_eq!(is_whole(&[&octets[..], b"and more"].concat()), Ok(true), "records of {size}");
    }
}

#[test]
fn r24_what_cannot_become_a_whole_hello_is_known_by_its_first_octets() {
    let rows: [(&[u8], HelloError); 7] = [
        (b"GET", HelloError::NotHello),
        (&[0x80, 0x2e, 1], HelloError::NotHello),
        (&[21, 3, 3, 0, 2], HelloError::NotHello),
        (&[22, 3, 1, 0, 4, 2], HelloError::NotHello),
        (&[22, 3, 1, 0, 0], HelloError::Malformed),
        (&[22, 3, 1, 0x40, 1], HelloError::Malformed),
        (&[22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 9, 0, 0x40, 1], HelloError::TooLong),
    ];
    for (octets, error) in rows {
        assert_eq!(is_whole(octets), Err(error), "{octets:02x?}");
    }
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
        drop((parse(&bytes), is_whole(&bytes)));
    }

    #[test]
    fn r24_rustls_waits_for_nothing_once_a_hello_is_whole_and_finds_none_before(
        size in 1_usize..700,
        cut in any::<prop::sample::Index>(),
        edit in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut octets = records(&real_hello("shop.example", &[b"h3", b"h2"]), size);
        octets.truncate(cut.index(octets.len()) + 1);
        if let Some((at, byte)) = edit {
            let at = at.index(octets.len());
            octets[at] = byte;
        }
        match found_by_rustls(&octets) {
            None => prop_assert_ne!(is_whole(&octets), Ok(true)),
            Some(true) => prop_assert_eq!(is_whole(&octets), Ok(true)),
            Some(false) => {}
        }
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
