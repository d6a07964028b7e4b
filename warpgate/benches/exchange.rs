//! What an exchange costs the warpgate: CPU of its thread for each small GET, with the loopback upstream's own
//! CPU apart; and bulk in both directions with what it adds to memory.
//!
//! `cargo bench -p warpgate --profile quick`. Each party has a thread and a runtime of its own, as in the field.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench that fails may panic"
)]

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use support::Platform;
use support::agent::Agent;
use support::edge::{Edge, head};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tunnel_proto::exchange::{Decoder, Encoder, Event, IdentityRef, RequestHead};

const IN_FLIGHT: usize = 64;
const REQUESTS: usize = 200_000;
const WARM_UP: usize = 20_000;
const BULK: usize = 1024 * 1024 * 1024;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// CPU this thread has used, in nanoseconds (proc(5)).
fn thread_cpu(tid: u64) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn this_thread() -> u64 {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A small HTTP server: 200 octets for `/`, a gibibyte for `/bulk`, and a sink for uploads.
fn upstream() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let small = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\nserver: bench\r\ncache-control: no-cache\r\n\
                 date: Sat, 21 Nov 2026 20:59:08 GMT\r\ncontent-length: 200\r\n\r\n{}",
                "x".repeat(200)
            );
            let small: Arc<[u8]> = small.into_bytes().into();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let small = Arc::clone(&small);
                tokio::spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let mut buffer = vec![0; 256 * 1024];
                    let mut filled = 0;
                    while let Ok(octets) = stream.read(&mut buffer[filled..]).await {
                        if octets == 0 {
                            return;
                        }
                        filled += octets;
                        let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                        if buffer.starts_with(b"GET /bulk") {
                            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BULK}\r\n\r\n");
                            stream.write_all(head.as_bytes()).await.unwrap();
                            let piece = vec![7; 256 * 1024];
                            for _ in 0..BULK / piece.len() {
                                if stream.write_all(&piece).await.is_err() {
                                    return;
                                }
                            }
                        } else if buffer.starts_with(b"POST /bulk") {
                            let mut left = BULK - (filled - end - 4);
                            while left > 0 {
                                left -= stream.read(&mut buffer).await.unwrap();
                            }
                            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                        } else {
                            stream.write_all(&small).await.unwrap();
                        }
                        filled = 0;
                    }
                });
            }
        });
    });
    address
}

fn browser_head(identity: IdentityRef) -> RequestHead {
    let (target, route) = if identity == IdentityRef::None { ("/", 1) } else { ("/private/", 2) };
    let mut head = head("GET", target, route);
    head.identity = identity;
    let fields = [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.9"),
        ("cookie", "theme=dark; cart=8f3a11c2"),
        ("sec-fetch-mode", "navigate"),
    ];
    for (name, value) in fields {
        head.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    head
}

async fn get(connection: &quinn::Connection, head: &Bytes) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_chunk(head.clone()).await.unwrap();
    send.finish().unwrap();
    let mut decoder = Decoder::responses();
    let mut whole = false;
    while let Some(chunk) = receive.read_chunk(65_536, true).await.unwrap() {
        decoder.push(chunk.bytes);
        while let Some(event) = decoder.poll().unwrap() {
            assert!(!matches!(event, Event::Failure(_)), "{event:?}");
            whole |= matches!(event, Event::End);
        }
    }
    assert!(whole);
}

async fn gets(connection: &quinn::Connection, head: &RequestHead, total: usize) -> Vec<Duration> {
    let mut encoder = Encoder::new();
    encoder.request(head, true).unwrap();
    let (head, left) = (encoder.take(), Arc::new(AtomicUsize::new(total)));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (connection, head, left) = (connection.clone(), head.clone(), Arc::clone(&left));
        workers.spawn(async move {
            let mut times = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let start = Instant::now();
                get(&connection, &head).await;
                times.push(start.elapsed());
            }
            times
        });
    }
    let mut times: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    times.sort_unstable();
    times
}

async fn measure(what: &str, connection: &quinn::Connection, head: &RequestHead, warpgate: u64) {
    gets(connection, head, WARM_UP).await;
    let (cpu, start) = (thread_cpu(warpgate), Instant::now());
    let times = gets(connection, head, REQUESTS).await;
    let (cpu, wall) = (thread_cpu(warpgate) - cpu, start.elapsed());
    let requests = f64::from(u32::try_from(REQUESTS).unwrap());
    let micros = Duration::from_nanos(cpu).as_secs_f64() * 1e6 / requests;
    let rate = requests / wall.as_secs_f64();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "{what:<12} warpgate {micros:6.1} CPU-us/request   {rate:8.0} requests/s   p50 {p50:?}   p99 {p99:?}"
    );
}

async fn bulk(connection: &quinn::Connection, up: bool, warpgate: u64) {
    let peak = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&peak);
    let watching = std::thread::spawn(move || {
        while Arc::strong_count(&watched) > 1 {
            watched.fetch_max(resident_kib(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let (before, cpu, start) = (resident_kib(), thread_cpu(warpgate), Instant::now());
    let mut request = head(if up { "POST" } else { "GET" }, "/bulk", 1);
    if up {
        request.headers.insert("content-length", HeaderValue::from(BULK));
    }
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let mut encoder = Encoder::new();
    encoder.request(&request, !up).unwrap();
    send.write_chunk(encoder.take()).await.unwrap();
    if up {
        let piece = Bytes::from(vec![7; 64 * 1024]);
        for _ in 0..BULK / piece.len() {
            encoder.data_header(piece.len());
            send.write_all_chunks(&mut [encoder.take(), piece.clone()]).await.unwrap();
        }
        encoder.end();
        send.write_chunk(encoder.take()).await.unwrap();
    }
    send.finish().unwrap();
    let mut octets = 0;
    while let Some(chunk) = receive.read_chunk(65_536, true).await.unwrap() {
        octets += chunk.bytes.len();
    }
    assert!(up || octets > BULK);
    let (wall, cpu) = (start.elapsed(), Duration::from_nanos(thread_cpu(warpgate) - cpu));
    let peak = {
        let value = peak.load(Ordering::Relaxed);
        drop(peak);
        watching.join().unwrap();
        value
    };
    let mebibytes = f64::from(u32::try_from(BULK / 1024 / 1024).unwrap());
    println!(
        "{:<12} {:6.0} MiB/s   warpgate {cpu:?} CPU   resident, all parties: {} KiB before, at most {} KiB more",
        if up { "1 GiB up" } else { "1 GiB down" },
        mebibytes / wall.as_secs_f64(),
        before,
        peak.saturating_sub(before),
    );
}

fn main() {
    let address = upstream();
    let platform = Platform::new();
    let edges = runtime();
    let edge = edges.block_on(async { Edge::start(&platform) });
    let (told, hears) = std::sync::mpsc::channel();
    let for_agent = Arc::clone(&platform);
    std::thread::spawn(move || {
        told.send(this_thread()).unwrap();
        runtime().block_on(async move {
            let mut agent = Agent::start(&for_agent, &[address.to_string()]);
            drop((&mut agent.task).await);
        });
    });
    let warpgate = hears.recv().unwrap();
    edges.block_on(async {
        let tunnel = edge.tunnel(1).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let assertion = platform.assertion(&["customer"]);
        tunnel.get(&browser_head(IdentityRef::Full { slot: 1, assertion })).await;
        for _ in 0..3 {
            measure("public", &tunnel.connection, &browser_head(IdentityRef::None), warpgate).await;
            measure("signed in", &tunnel.connection, &browser_head(IdentityRef::Known(1)), warpgate).await;
        }
        for up in [false, true, false, true] {
            bulk(&tunnel.connection, up, warpgate).await;
        }
    });
}
