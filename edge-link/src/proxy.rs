//! PROXY protocol version 2: where a spliced connection really came from.
//!
//! ```text
//! 0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a | version and command u8 | family u8 | length u16 | addresses | TLVs
//! ```
//! Written and read only on connections that a certificate has authenticated as an edge's (R10), so there is no list of
//! trusted addresses. Of the commands PROXY and LOCAL are known, of the families TCP over IPv4 and IPv6; TLVs are
//! skipped. What else the specification allows (UDP, Unix sockets) no edge sends, and it is refused.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longest header read, in octets: what fits the smallest IPv4 datagram, far more than an edge sends.
pub const HEADER_LEN_MAX: usize = 536;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const FRONT_LEN: usize = 16;

const VERSION: u8 = 0x20;
const COMMAND_LOCAL: u8 = 0;
const COMMAND_PROXY: u8 = 1;

const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The connection is the sender's own; its addresses are those of the socket.
    Local,
    /// The connection is a client's.
    Proxied {
        /// Where the client is.
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
}

/// Why octets are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// They do not begin like one.
    #[error("not a PROXY protocol header of version 2")]
    Signature,
    /// A version or command this end does not know.
    #[error("version and command {0:#04x} of a PROXY header are not known")]
    Command(u8),
    /// A family of addresses no edge sends.
    #[error("family {0:#04x} of a PROXY header is not TCP over IPv4 or IPv6")]
    Family(u8),
    /// Longer than [`HEADER_LEN_MAX`].
    #[error("a PROXY header has {0} octets; at most {HEADER_LEN_MAX} are read")]
    TooLong(usize),
    /// Its length leaves no room for the addresses of its family.
    #[error("a PROXY header ends within its addresses")]
    Short,
}

/// Writes the header for a client at `source` that connected to `destination`.
///
/// If one address is IPv4 and the other IPv6, both are written as IPv6 (mapped, RFC 4291 §2.5.5.2).
pub fn encode(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRONT_LEN + 36);
    out.extend(SIGNATURE);
    out.push(VERSION | COMMAND_PROXY);
    if let (SocketAddr::V4(from), SocketAddr::V4(to)) = (source, destination) {
        out.push(TCP4);
        out.extend(12_u16.to_be_bytes());
        out.extend(from.ip().octets());
        out.extend(to.ip().octets());
    } else {
        out.push(TCP6);
        out.extend(36_u16.to_be_bytes());
        out.extend(mapped(source).octets());
        out.extend(mapped(destination).octets());
    }
    out.extend(source.port().to_be_bytes());
    out.extend(destination.port().to_be_bytes());
    out
}

fn mapped(address: SocketAddr) -> Ipv6Addr {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    }
}

/// The octets that follow the first 16 of a header.
fn rest_len(front: &[u8; FRONT_LEN]) -> Result<usize, ProxyError> {
    if !front.starts_with(&SIGNATURE) {
        return Err(ProxyError::Signature);
    }
    let &[.., high, low] = front;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if FRONT_LEN + len > HEADER_LEN_MAX { Err(ProxyError::TooLong(FRONT_LEN + len)) } else { Ok(len) }
}

fn read_addresses(front: &[u8; FRONT_LEN], rest: &[u8]) -> Result<ProxyHeader, ProxyError> {
    let [.., command, family, _, _] = *front;
    match command {
        // The family and what follows mean nothing then.
        _ if command == VERSION | COMMAND_LOCAL => return Ok(ProxyHeader::Local),
        _ if command == VERSION | COMMAND_PROXY => {}
        other => return Err(ProxyError::Command(other)),
    }
    let (source, destination, ports) = match family {
        TCP4 => {
            let (from, rest) = rest.split_first_chunk::<4>().ok_or(ProxyError::Short)?;
            let (to, rest) = rest.split_first_chunk::<4>().ok_or(ProxyError::Short)?;
            (Ipv4Addr::from(*from).into(), Ipv4Addr::from(*to).into(), rest)
        }
        TCP6 => {
            let (from, rest) = rest.split_first_chunk::<16>().ok_or(ProxyError::Short)?;
            let (to, rest) = rest.split_first_chunk::<16>().ok_or(ProxyError::Short)?;
            // A mapped address is the IPv4 client it stands for, so that limits per address count it once.
            (Ipv6Addr::from(*from).to_canonical(), Ipv6Addr::from(*to).to_canonical(), rest)
        }
        other => return Err(ProxyError::Family(other)),
    };
    let (from, rest) = ports.split_first_chunk::<2>().ok_or(ProxyError::Short)?;
    let (to, _tlvs) = rest.split_first_chunk::<2>().ok_or(ProxyError::Short)?;
    Ok(ProxyHeader::Proxied {
        source: SocketAddr::new(source, u16::from_be_bytes(*from)),
        destination: SocketAddr::new(destination, u16::from_be_bytes(*to)),
    })
}

/// Reads a header from the front of `bytes`: the header and its length in octets, or `None` while it is not whole.
///
/// # Errors
/// As soon as the octets cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let Some((front, rest)) = bytes.split_first_chunk::<FRONT_LEN>() else {
        let begun = bytes.iter().zip(SIGNATURE).all(|(byte, expected)| *byte == expected);
        return if begun { Ok(None) } else { Err(ProxyError::Signature) };
    };
    let len = rest_len(front)?;
    let Some(rest) = rest.get(..len) else { return Ok(None) };
    read_addresses(front, rest).map(|header| Some((header, FRONT_LEN + len)))
}

/// Reads the header a stream begins with, and not an octet more. The caller bounds the time.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<ProxyHeader> {
    let invalid = |why: ProxyError| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut front = [0; FRONT_LEN];
    stream.read_exact(&mut front).await?;
    let mut rest = vec![0; rest_len(&front).map_err(invalid)?];
    stream.read_exact(&mut rest).await?;
    read_addresses(&front, &rest).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A header as the specification draws it (§2.2), byte by byte, not as `encode` makes it.
    fn drawn(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut out =
            vec![0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, command, family];
        out.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        out.extend(rest);
        out
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x1f, 0x90, 0x01, 0xbb];

    #[test]
    fn what_is_written_is_what_the_specification_draws() {
        assert_eq!(encode(at("192.0.2.1:8080"), at("198.51.100.2:443")), drawn(0x21, 0x11, &V4));
    }

    #[test]
    fn addresses_survive_a_header() {
        let rows = [
            ("192.0.2.1:8080", "198.51.100.2:443"),
            ("[2001:db8::1]:8080", "[2001:db8::2]:443"),
            ("192.0.2.1:8080", "[2001:db8::2]:443"),
        ];
        for (source, destination) in rows.map(|(a, b)| (at(a), at(b))) {
            let bytes = encode(source, destination);
            let header = ProxyHeader::Proxied { source, destination };
            assert_eq!(parse(&bytes), Ok(Some((header, bytes.len()))));
        }
    }

    #[test]
    fn tlvs_are_skipped_and_what_follows_is_left() {
        let mut rest = V4.to_vec();
        rest.extend([0x04, 0, 3, 0, 0, 0]); // PP2_TYPE_NOOP
        let mut bytes = drawn(0x21, 0x11, &rest);
        let len = bytes.len();
        bytes.extend(b"\x16\x03\x01");
        let header =
            ProxyHeader::Proxied { source: at("192.0.2.1:8080"), destination: at("198.51.100.2:443") };
        assert_eq!(parse(&bytes), Ok(Some((header, len))));
    }

    #[test]
    fn a_local_header_means_the_socket_whatever_its_family() {
        for family in [0x00, 0x11, 0x31] {
            assert_eq!(parse(&drawn(0x20, family, &[1, 2, 3])), Ok(Some((ProxyHeader::Local, 19))));
        }
    }

    #[test]
    fn r24_each_bad_header_gets_its_own_reason() {
        let rows = [
            (b"GET / HTTP/1.1\r\n".to_vec(), ProxyError::Signature),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n".to_vec(), ProxyError::Signature),
            (drawn(0x11, 0x11, &V4), ProxyError::Command(0x11)),
            (drawn(0x22, 0x11, &V4), ProxyError::Command(0x22)),
            (drawn(0x21, 0x00, &V4), ProxyError::Family(0x00)),
            (drawn(0x21, 0x12, &V4), ProxyError::Family(0x12)),
            (drawn(0x21, 0x31, &[0; 216]), ProxyError::Family(0x31)),
            (drawn(0x21, 0x11, &V4[..11]), ProxyError::Short),
            (drawn(0x21, 0x21, &V4), ProxyError::Short),
            (drawn(0x21, 0x11, &[0; 521]), ProxyError::TooLong(537)),
        ];
        for (bytes, why) in rows {
            assert_eq!(parse(&bytes), Err(why));
        }
    }

    #[tokio::test]
    async fn r24_a_header_read_in_pieces_is_the_same_and_takes_no_octet_more() {
        let mut rest = V4.to_vec();
        rest.extend([0; 508]); // 536 octets in all
        let bytes = drawn(0x21, 0x11, &rest);
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut}");
        }
        let mut stream = tokio_test_pieces(&bytes, b"hello");
        let header = read(&mut stream).await.unwrap();
        assert_eq!(parse(&bytes), Ok(Some((header, bytes.len()))));
        let mut after = Vec::new();
        stream.read_to_end(&mut after).await.unwrap();
        assert_eq!(after, b"hello");
    }

    /// A stream that gives one octet at a time.
    fn tokio_test_pieces(first: &[u8], then: &[u8]) -> impl AsyncRead + Unpin {
        struct Pieces(std::collections::VecDeque<u8>);
        impl AsyncRead for Pieces {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _cx: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                if let Some(byte) = self.0.pop_front() {
                    buf.put_slice(&[byte]);
                }
                std::task::Poll::Ready(Ok(()))
            }
        }
        Pieces(first.iter().chain(then).copied().collect())
    }

    proptest! {
        #[test]
        fn r24_no_octets_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(Some((_, len))) = parse(&bytes) {
                prop_assert!(len <= bytes.len());
            }
        }

        #[test]
        fn r24_no_octets_behind_a_signature_make_the_parser_panic_or_take_more_than_there_is(
            rest in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut bytes = SIGNATURE.to_vec();
            bytes.extend(rest);
            if let Ok(Some((_, len))) = parse(&bytes) {
                prop_assert!(len <= bytes.len() && len <= HEADER_LEN_MAX);
            }
        }

        #[test]
        fn every_pair_of_addresses_survives(a in any::<(u32, u16)>(), b in any::<(u128, u16)>()) {
            let four = SocketAddr::new(Ipv4Addr::from(a.0).into(), a.1);
            let six = SocketAddr::new(Ipv6Addr::from(b.0).to_canonical(), b.1);
            for (source, destination) in [(four, four), (four, six), (six, four), (six, six)] {
                let bytes = encode(source, destination);
                let header = ProxyHeader::Proxied { source, destination };
                prop_assert_eq!(parse(&bytes), Ok(Some((header, bytes.len()))));
            }
        }
    }
}
