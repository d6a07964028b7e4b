//! `ClientHello`s that no client of today sends: old, broken, endless. Each is refused with at most an alert, costs
//! nobody else anything, and reaches nothing behind.

use futures_util::future::join_all;
use mezusphere_telemetry::Counter;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use super::*;
use crate::listen::arrival::ARRIVING_LEN;

/// What the edge does with octets after which nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It ends the connection without a word.
    Closed,
    /// With this alert, and nothing else.
    Alert(u8),
    /// It answers the hello.
    Served,
}

async fn outcome(rig: &Rig, octets: &[u8]) -> Outcome {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    // Fails when the edge has had enough.
    drop(stream.write_all(octets).await);
    drop(stream.shutdown().await);
    let mut answer = Vec::new();
    // A reset is an end.
    drop(timeout(SOON, stream.read_to_end(&mut answer)).await.expect("it was kept"));
    match *answer {
        [] => Outcome::Closed,
        [21, _, _, 0, 2, 2, alert] => Outcome::Alert(alert),
        [22, ..] => Outcome::Served,
        _ => panic!("{answer:02x?}"),
    }
}

/// A list with a length of two octets before it.
fn list(items: &[u8]) -> Vec<u8> {
    [&u16::try_from(items.len()).unwrap().to_be_bytes()[..], items].concat()
}

fn numbers(items: &[u16]) -> Vec<u8> {
    list(&items.iter().flat_map(|item| item.to_be_bytes()).collect::<Vec<_>>())
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &list(data)].concat()
}

fn server_name(name: &str) -> Vec<u8> {
    extension(0, &list(&[&[0][..], &list(name.as_bytes())].concat()))
}

/// Groups, point formats and signature algorithms that anybody speaks.
fn ordinary(groups: &[u16]) -> Vec<u8> {
    let signatures = numbers(&[0x0403, 0x0804, 0x0401]);
    [extension(10, &numbers(groups)), extension(11, &[1, 0]), extension(13, &signatures)].concat()
}

/// A hello message with its header.
fn hello(version: u16, suites: &[u16], extensions: &[u8]) -> Vec<u8> {
    let body =
        [&version.to_be_bytes()[..], &[7; 32], &[0], &numbers(suites), &[1, 0], &list(extensions)].concat();
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &len[1..], &body].concat()
}

/// A message in records of at most `size` octets.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &list(part)].concat()).collect()
}

const MODERN: &[u16] = &[0xc02b, 0xc02c, 0xcca9];
const P256: &[u16] = &[23];

#[tokio::test]
async fn r19_what_is_too_old_or_too_weak_is_refused_by_the_alert_that_says_so() {
    let rig = Rig::start();
    let sni = server_name(HOST);
    let with = |more: &[u8]| [sni.as_slice(), more].concat();
    let usual = with(&ordinary(P256));
    let versions = |versions: &[u16]| {
        let octets: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
        extension(43, &[&[u8::try_from(octets.len()).unwrap()][..], &octets].concat())
    };
    let rows: [(&str, Vec<u8>, Outcome); 14] = [
        ("TLS 1.2 as it is spoken", hello(0x0303, MODERN, &usual), Outcome::Served),
        ("TLS 1.1", hello(0x0302, MODERN, &usual), Outcome::Alert(70)),
        ("TLS 1.0", hello(0x0301, MODERN, &usual), Outcome::Alert(70)),
        ("SSL 3", hello(0x0300, MODERN, &usual), Outcome::Alert(70)),
        (
            "1.1 as the newer way says it",
            hello(0x0303, MODERN, &[usual.clone(), versions(&[0x0302, 0x0301])].concat()),
            Outcome::Alert(70),
        ),
        ("no forward secrecy", hello(0x0303, &[0x009c, 0x009d, 0x002f], &usual), Outcome::Alert(40)),
        ("CBC", hello(0x0303, &[0xc009, 0xc00a, 0xc023, 0xc024], &usual), Outcome::Alert(40)),
        ("CCM", hello(0x0303, &[0xc0ac, 0xc0ae], &usual), Outcome::Alert(40)),
        (
            "3DES, RC4, export, NULL",
            hello(0x0303, &[0xc008, 0xc007, 0x0003, 0x0001], &usual),
            Outcome::Alert(40),
        ),
        ("anonymous", hello(0x0303, &[0xc018, 0x0034], &usual), Outcome::Alert(40)),
        ("finite fields", hello(0x0303, &[0x009e, 0x009f, 0xccaa], &usual), Outcome::Alert(40)),
        ("no group we speak", hello(0x0303, MODERN, &with(&ordinary(&[25, 256]))), Outcome::Alert(40)),
        ("no name", hello(0x0303, MODERN, &ordinary(P256)), Outcome::Alert(112)),
        (
            "a name of nobody",
            hello(0x0303, MODERN, &[server_name("other.example"), ordinary(P256)].concat()),
            Outcome::Alert(112),
        ),
    ];
    for (what, message, expected) in rows {
        assert_eq!(outcome(&rig, &records(&message, 16 * 1024)).await, expected, "{what}");
    }
    // SSL 2 had no records, and TLS no alert for it.
    let ssl2 = [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &[1; 0x25]].concat();
    assert_ne!(outcome(&rig, &ssl2).await, Outcome::Served, "SSL 2");
    assert_eq!(rig.upstream.requests(), 0);
    rig.end().await;
}

#[tokio::test]
async fn a_hello_may_come_in_pieces_and_be_larger_than_most() {
    let rig = Rig::start();
    let usual = [server_name(HOST), ordinary(P256)].concat();
    let message = hello(0x0303, MODERN, &usual);
    assert_eq!(outcome(&rig, &records(&message, 1)).await, Outcome::Served, "a record for each octet");
    let padded = |len: usize| hello(0x0303, MODERN, &[usual.clone(), extension(21, &vec![0; len])].concat());
    assert_eq!(outcome(&rig, &records(&padded(15_000), 16_384)).await, Outcome::Served);
    assert_eq!(outcome(&rig, &records(&padded(15_000), 4_096)).await, Outcome::Served);

    // Octet by octet, as the slowest of networks might.
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for octet in records(&message, 16_384) {
        stream.write_all(&[octet]).await.unwrap();
    }
    assert_eq!(timeout(SOON, stream.read_u8()).await.unwrap().unwrap(), 22);
    rig.end().await;
}

#[tokio::test]
async fn r23_a_hello_larger_than_any_is_refused_before_it_is_whole() {
    let rig = Rig::start();
    let usual = [server_name(HOST), ordinary(P256)].concat();
    let huge = hello(0x0303, MODERN, &[usual, extension(21, &vec![0; 40_000])].concat());
    for size in [16_384, 4_096, 256] {
        let whole = records(&huge, size);
        // Less than the whole, so that it is the size that is refused, and not what is in it.
        let part = &whole[..24_000];
        assert_eq!(outcome(&rig, part).await, Outcome::Alert(47), "records of {size}");
    }
    assert_eq!(rig.counters.hello_too_long.get(), 3);
    rig.end().await;
}

/// The hello of a real client, as it is on the wire.
fn real_hello(rig: &Rig) -> Vec<u8> {
    let config = Arc::new(client_tls(&rig.trust, &[ALPN_H2, ALPN_H1]));
    let mut client = rustls::ClientConnection::new(config, ServerName::try_from(HOST).unwrap()).unwrap();
    let mut octets = Vec::new();
    client.write_tls(&mut octets).unwrap();
    octets
}

#[tokio::test]
async fn r24_a_hello_that_breaks_off_anywhere_is_let_go() {
    let rig = Rig::start();
    let hello = real_hello(&rig);
    assert_eq!(outcome(&rig, &hello).await, Outcome::Served);
    let cuts: Vec<usize> = (0..hello.len()).step_by(7).collect();
    for cuts in cuts.chunks(50) {
        let outcomes = join_all(cuts.iter().map(|cut| outcome(&rig, &hello[..*cut]))).await;
        for (cut, outcome) in cuts.iter().zip(outcomes) {
            assert_eq!(outcome, Outcome::Closed, "cut at {cut}");
        }
    }
    rig.end().await;
}

#[tokio::test]
async fn r24_no_octet_of_a_hello_changed_in_any_way_harms_the_edge() {
    let rig = Rig::start();
    let hello = real_hello(&rig);
    // The structure is in the first part and in the extensions around the key share, which is but random octets.
    let changed: Vec<usize> = (0..400.min(hello.len())).chain(400..hello.len()).step_by(3).collect();
    for places in changed.chunks(50) {
        let tries = places.iter().flat_map(|place| [0x01, 0x80, 0xff].map(|bits| (*place, bits)));
        let all = tries.map(|(place, bits)| {
            let mut octets = hello.clone();
            octets[place] ^= bits;
            let rig = &rig;
            async move { outcome(rig, &octets).await }
        });
        // Whatever it is to be, it is no panic, no silence and no page: `outcome` has looked.
        drop(join_all(all).await);
    }
    assert_eq!(outcome(&rig, &hello).await, Outcome::Served, "an honest client");
    assert_eq!(rig.upstream.requests(), 0);
    rig.end().await;
}

#[tokio::test]
async fn r24_what_is_no_tls_at_all_is_let_go() {
    let rig = Rig::start();
    let noise: Vec<u8> =
        (0..40_000_u32).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    let rows: [(&str, Vec<u8>); 7] = [
        ("noise", noise.clone()),
        ("noise in a record", records(&noise[..16_000], 16_000)),
        ("empty records without end", [22, 3, 1, 0, 0].repeat(10_000)),
        ("alerts", [21, 3, 3, 0, 2, 1, 90].repeat(1_000)),
        ("application data", [23, 3, 3, 0, 1, 0].repeat(1_000)),
        ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("nothing but zeros", vec![0; 30_000]),
    ];
    for (what, octets) in rows {
        assert_ne!(outcome(&rig, &octets).await, Outcome::Served, "{what}");
    }
    assert_eq!(outcome(&rig, &real_hello(&rig)).await, Outcome::Served, "an honest client");
    assert_eq!(rig.upstream.requests(), 0);
    rig.end().await;
}

#[tokio::test]
async fn r23_a_connection_that_says_nothing_holds_no_more_than_it_counts_for() {
    /// What comes with any task and socket.
    const BESIDE: usize = 3 * 1024;
    let rig = Rig::start();
    assert!(rig.arriving_len + BESIDE <= ARRIVING_LEN, "{} octets", rig.arriving_len);
    rig.end().await;
}

/// Limits under which nobody is let go for being slow while a test lasts: only for making room.
fn patient() -> Limits {
    let long = Duration::from_mins(10);
    Limits { client_hello: long, handshake: long, ..Limits::default() }
}

async fn connect_from(rig: &Rig, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 2, last], 0))).unwrap();
    socket.connect(rig.address).await.unwrap()
}

/// Waits until `count` have been let go.
async fn let_go(counter: &Counter, count: u64) {
    let enough = async {
        while counter.get() < count {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, enough).await.unwrap_or_else(|_| panic!("{} were let go", counter.get()));
}

#[tokio::test]
async fn r23_silent_addresses_that_fill_all_the_room_keep_no_honest_client_out() {
    const ADDRESSES: u8 = 40;
    const EACH: u64 = 6;
    const ROOM: usize = 200;
    let limits = Limits { arriving: ROOM * ARRIVING_LEN, handshakes: ROOM, connections: ROOM, ..patient() };
    let rig = Rig::with(&limits);
    let mut silent = Vec::new();
    for n in 0..EACH {
        for address in 1..=ADDRESSES {
            let mut stream = connect_from(&rig, address).await;
            // Half of them say half a hello.
            if n % 2 == 0 {
                stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc]).await.unwrap();
            }
            silent.push(stream);
        }
    }
    let_go(&rig.counters.arriving, u64::from(ADDRESSES) * EACH - ROOM as u64).await;
    for _ in 0..3 {
        assert_eq!(outcome(&rig, &real_hello(&rig)).await, Outcome::Served);
        let (mut client, _driver) = h2::connect(&rig).await;
        assert_eq!(h2::fetch(&mut client, rig.get("/")).await.0, 200);
    }
    assert_eq!(rig.upstream.requests(), 3);
    rig.end().await;
}

#[tokio::test]
async fn r23_clients_that_stop_after_their_hello_keep_no_honest_client_out() {
    let limits = Limits { handshakes: 20, ..patient() };
    let rig = Rig::with(&limits);
    let hello = real_hello(&rig);
    let mut stopped = Vec::new();
    for address in (1..=10).cycle().take(30) {
        let mut stream = connect_from(&rig, address).await;
        stream.write_all(&hello).await.unwrap();
        // Its keys are made, and it is its turn now.
        assert_eq!(timeout(SOON, stream.read_u8()).await.unwrap().unwrap(), 22);
        stopped.push(stream);
    }
    assert_eq!(rig.counters.handshakes.get(), 10);
    let (mut client, _driver) = h2::connect(&rig).await;
    assert_eq!(h2::fetch(&mut client, rig.get("/")).await.0, 200);
    assert_eq!(rig.counters.handshakes.get(), 11, "one of them made room");
    rig.end().await;
}

/// Stands between a QUIC client and the edge, at an address of its own, and lets the client prove that address but hear
/// nothing more: a handshake that never ends.
async fn stop_after_hello(rig: &Rig, last: u8) -> (quinn::Endpoint, quinn::Connecting) {
    const RETRY: u8 = 0xf0;
    let between = UdpSocket::bind(SocketAddr::from(([127, 0, 2, last], 0))).await.unwrap();
    let (here, edge) = (between.local_addr().unwrap(), rig.address);
    rig.drain.spawn(async move {
        let (mut packet, mut client) = ([0; 2048], None);
        while let Ok((len, from)) = between.recv_from(&mut packet).await {
            let to = if from == edge { client.filter(|_| packet[0] & RETRY == RETRY) } else { Some(edge) };
            if from != edge {
                client = Some(from);
            }
            if let Some(to) = to {
                drop(between.send_to(&packet[..len], to).await);
            }
        }
    });
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(client_tls(&rig.trust, &[ALPN_H3])).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    let connecting = endpoint.connect(here, HOST).unwrap();
    (endpoint, connecting)
}

#[tokio::test]
async fn r23_quic_clients_that_stop_after_their_hello_keep_no_honest_client_out() {
    // From the first on, clients prove their address.
    let rig = Rig::with(&Limits { handshakes: 4, ..patient() });
    let mut stopped = Vec::new();
    for address in [1, 2, 3, 1, 2, 3] {
        stopped.push(stop_after_hello(&rig, address).await);
    }
    let_go(&rig.counters.handshakes, 2).await;
    let connection = h3::connect_raw(&rig).await;
    assert!(connection.close_reason().is_none());
    assert!(rig.counters.retried.get() >= 7);
    rig.end().await;
}
