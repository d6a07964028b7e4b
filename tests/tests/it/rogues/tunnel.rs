//! A rogue warpgate: a certificate in order, and nothing else.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use mezusphere_model::id::WarpgateId;
use mezusphere_tests::clients::{Place, curl};
use mezusphere_tests::rogue::warpgate::{RogueTunnel, RogueWarpgate, raw_frame};
use quinn::{ConnectionError, RecvStream, SendStream};
use tunnel_proto::codes::{CloseCode, ResetCode};
use tunnel_proto::control::Message;
use tunnel_proto::exchange::{Encoder, Failure, FailureCode, RequestHead, ResponseHead};

use super::honest::Neighbours;

/// Types of frames and messages, as the protocol numbers them.
const RESPONSE: u8 = 2;
const HELLO: u8 = 1;
const PING: u8 = 4;

fn response(status: u16, fields: &[(&'static str, &'static [u8])]) -> ResponseHead {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_bytes(value).expect("a test's own field"));
    }
    ResponseHead { status: StatusCode::from_u16(status).expect("a test's own status"), headers }
}

/// What the rogue does to an exchange, by its path.
async fn misbehave(head: RequestHead, mut send: SendStream, receive: RecvStream) -> Result<()> {
    let mut encoder = Encoder::new();
    match head.target.as_str() {
        "/garbage" => send.write_all(&[0xa7; 4096]).await?,
        "/long-length" => send.write_all(&raw_frame(RESPONSE, 1 << 60, b"evil")).await?,
        "/bad-fields" => {
            // Flags, status 200, one field: name `x-a`, value with a line break.
            let payload = b"\x00\x00\xc8\x01\x00\x03x-a\x0cb\r\nx-evil: 1";
            send.write_all(&raw_frame(RESPONSE, payload.len() as u64, payload)).await?;
        }
        "/data-first" => {
            encoder.data(b"evil");
            send.write_all(&encoder.take()).await?;
        }
        "/two-heads" => {
            encoder.response(&response(200, &[]), false)?;
            encoder.response(&response(200, &[("x-evil", b"1")]), false)?;
            encoder.data(b"evil");
            encoder.end();
            send.write_all(&encoder.take()).await?;
        }
        "/endless-1xx" => {
            encoder.informational(&response(103, &[("link", b"</x>")]))?;
            let one = encoder.take();
            while send.write_all(&one).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        "/unasked-101" => {
            encoder.response(&response(101, &[("upgrade", b"evil")]), false)?;
            encoder.raw();
            send.write_all(&encoder.take()).await?;
            send.write_all(b"evil").await?;
        }
        "/after-end" => {
            encoder.response(&response(200, &[]), false)?;
            encoder.data(b"ok");
            encoder.end();
            encoder.data(b"evil");
            send.write_all(&encoder.take()).await?;
        }
        "/cut" => {
            encoder.response(&response(200, &[]), false)?;
            encoder.data(b"ok");
            send.write_all(&encoder.take()).await?;
        }
        "/short" => {
            encoder.response(&response(200, &[("content-length", b"100")]), false)?;
            encoder.data(b"ok");
            encoder.end();
            send.write_all(&encoder.take()).await?;
        }
        "/long" => {
            encoder.response(&response(200, &[("content-length", b"2")]), false)?;
            encoder.data(b"okevil");
            encoder.end();
            send.write_all(&encoder.take()).await?;
        }
        "/reserved" => {
            let fields: [(&str, &[u8]); 4] = [
                ("mezu-user-id", b"evil"),
                ("set-cookie", b"__Host-mezu-session=evil; Secure; Path=/; HttpOnly"),
                ("transfer-encoding", b"evil"),
                ("connection", b"evil"),
            ];
            encoder.response(&response(200, &fields), false)?;
            encoder.data(b"ok");
            encoder.end();
            send.write_all(&encoder.take()).await?;
        }
        "/unknown-frames" => while send.write_all(&raw_frame(0x3f, 4, b"evil")).await.is_ok() {},
        "/wrong-reset" => send.reset(quinn::VarInt::from_u32(0x3fff_ffff))?,
        "/rejected" => send.reset(quinn::VarInt::from_u32(ResetCode::Rejected.number()))?,
        "/failure" => {
            encoder.failure(&Failure {
                code: FailureCode::UpstreamRefused,
                detail: "evil\r\nx-evil: 1".to_owned(),
                started: false,
            });
            send.write_all(&encoder.take()).await?;
        }
        "/never" => {
            std::future::pending::<()>().await;
            drop(receive);
        }
        _ => {
            encoder.response(&response(200, &[]), false)?;
            encoder.data(b"ok");
            encoder.end();
            send.write_all(&encoder.take()).await?;
        }
    }
    send.finish()?;
    // Until the edge has read it, or said that it will not.
    drop(tokio::time::timeout(Duration::from_secs(5), send.stopped()).await);
    Ok(())
}

/// What may come of an exchange: a status, or 0 for a response that broke off after a head of 200.
const ANSWERS: [(&str, &[u16]); 19] = [
    ("/garbage", &[502]),
    ("/long-length", &[502]),
    ("/bad-fields", &[502]),
    ("/data-first", &[502]),
    ("/two-heads", &[502, 0]),
    ("/endless-1xx", &[502]),
    ("/unasked-101", &[502]),
    ("/after-end", &[200, 0]),
    // Where head and break come together there is no head to say.
    ("/cut", &[0, 502]),
    ("/short", &[0, 502]),
    ("/long", &[0, 502]),
    ("/reserved", &[200, 502]),
    ("/unknown-frames", &[502]),
    ("/wrong-reset", &[502]),
    ("/rejected", &[502, 503]),
    ("/failure", &[502]),
    ("/never", &[504]),
    ("/fine", &[200]),
    ("/fine", &[200]),
];

async fn ask(place: &Place, client: &str, path: &str, allowed: &[u16]) -> Result<()> {
    let fetched = curl(place, client, path, &[]).await?;
    let came = match (fetched.code, fetched.status()) {
        (0, status) => status,
        // A reset may overtake the head of its stream on h2. On h1 nothing overtakes: an empty reply is a fault.
        (18 | 56 | 92, 200) | (92, 0) => 0,
        (code, status) => {
            anyhow::bail!("{path} over {client}: curl ended with {code} and {status}: {}", fetched.said)
        }
    };
    ensure!(allowed.contains(&came), "{path} over {client}: {came}\n{}", fetched.heads);
    let shown = [fetched.heads.as_bytes(), &fetched.body].concat();
    let shown = String::from_utf8_lossy(&shown).to_lowercase();
    ensure!(!shown.contains("evil"), "{path} over {client} shows what it must not:\n{shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r23_r24_no_exchange_of_a_rogue_warpgate_hurts_its_neighbours() -> Result<()> {
    let neighbours = Neighbours::set().await?;
    let rogue = RogueWarpgate::enroll(&neighbours.rogue_key).await?;
    let mut tunnel = rogue.join(&["default"]).await?;
    let mut serving = tunnel.serve(misbehave);
    let place = neighbours.rogue();
    let watch = neighbours.watch();
    let mut failures = Vec::new();
    for (path, allowed) in ANSWERS {
        for client in ["h1", "h2"] {
            // A tunnel that was closed for what went before, as it may be, is dialled again, as a warpgate would.
            if tunnel.connection.close_reason().is_some() {
                tunnel = rogue.join(&["default"]).await?;
                serving = tunnel.serve(misbehave);
            }
            if let Err(why) = ask(&place, client, path, allowed).await {
                failures.push(format!("{why:#}"));
            }
        }
    }
    drop(serving);
    println!("{}", neighbours.judge(watch).await?);
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    neighbours.node.server.pid()?;
    Ok(())
}

/// The edge has closed it, and for which reason.
async fn ended(tunnel: &RogueTunnel) -> Result<CloseCode> {
    match tunnel.closed().await? {
        ConnectionError::ApplicationClosed(close) => {
            Ok(CloseCode::from_number(close.error_code.into_inner()))
        }
        other => anyhow::bail!("it was not the edge that closed it: {other}"),
    }
}

/// Says Hello, then these octets as often as the edge takes them.
async fn flood(rogue: &RogueWarpgate, octets: &[u8]) -> Result<CloseCode> {
    let mut tunnel = rogue.join(&["default"]).await?;
    let flood = async {
        while tunnel.write(octets).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), flood).await.context("the edge reads on for ever")?;
    ended(&tunnel).await
}

fn encoded(message: &Message) -> Result<Bytes> {
    let mut encoder = tunnel_proto::control::Encoder::new();
    encoder.message(message)?;
    Ok(encoder.take())
}

#[tokio::test(flavor = "multi_thread")]
async fn r23_a_warpgate_that_breaks_the_control_stream_loses_its_tunnel_and_only_that() -> Result<()> {
    let neighbours = Neighbours::set().await?;
    let rogue = RogueWarpgate::enroll(&neighbours.rogue_key).await?;
    let watch = neighbours.watch();
    let mut failures = Vec::new();
    let mut expect = |what: &str, came: Result<CloseCode>, wanted: &[CloseCode]| match came {
        Ok(code) if wanted.contains(&code) => {}
        Ok(code) => failures.push(format!("{what}: closed with {code}")),
        Err(why) => failures.push(format!("{what}: {why:#}")),
    };

    let mut tunnel = rogue.dial().await?;
    tunnel.write(&raw_frame(HELLO, 4, &[0xff; 4])).await?;
    expect("garbage for a Hello", ended(&tunnel).await, &[CloseCode::Protocol, CloseCode::Refused]);

    let mut tunnel = rogue.dial().await?;
    tunnel.say(&Message::Ping { n: 1 }).await?;
    let late = [CloseCode::Protocol, CloseCode::Refused, CloseCode::HandshakeTimeout, CloseCode::Silent];
    expect("a Ping and never a Hello", ended(&tunnel).await, &late);

    let mut tunnel = rogue.dial().await?;
    let mut other = rogue.hello(&["default"])?;
    other.instance = WarpgateId::from_bits(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    tunnel.say(&Message::Hello(other)).await?;
    let answer = tunnel.next().await?;
    ensure!(matches!(answer, Some(Message::Refused(_))), "another's Hello is answered with {answer:?}");
    expect("another's Hello", ended(&tunnel).await, &[CloseCode::Refused]);

    let mut tunnel = rogue.join(&["default"]).await?;
    tunnel.say(&Message::Hello(rogue.hello(&["default"])?)).await?;
    expect("a replayed Hello", ended(&tunnel).await, &[CloseCode::Protocol]);

    let mut tunnel = rogue.join(&["default"]).await?;
    tunnel.write(&raw_frame(PING, 4, &[0xff; 4])).await?;
    expect("garbage after the Hello", ended(&tunnel).await, &[CloseCode::Protocol]);

    let mut tunnel = rogue.join(&["default"]).await?;
    tunnel.write(&raw_frame(PING, 1 << 40, b"")).await?;
    expect("a Ping of a tebibyte", ended(&tunnel).await, &[CloseCode::Protocol]);

    expect(
        "a flood of Pings",
        flood(&rogue, &encoded(&Message::Ping { n: 7 })?.repeat(512)).await,
        &[CloseCode::Protocol],
    );
    let unknown = raw_frame(0x3f, 4, b"evil").repeat(512);
    expect("a flood of unknown messages", flood(&rogue, &unknown).await, &[CloseCode::Protocol]);
    let offer = Message::Offer { upstreams: vec!["default".parse().context("a slug")?] };
    expect("a flood of Offers", flood(&rogue, &encoded(&offer)?.repeat(512)).await, &[CloseCode::Protocol]);

    println!("{}", neighbours.judge(watch).await?);
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    // Why is said for each tunnel, once.
    let said = neighbours.node.server.output();
    let about =
        said.iter().filter(|line| line.contains("Tunnel ended") && line.contains(&rogue.id.to_string()));
    let about: Vec<&String> = about.collect();
    ensure!(about.len() == 6, "{} lines for the six tunnels that were welcomed: {about:?}", about.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r23_streams_that_a_warpgate_opens_in_masses_and_silence_freeze_nobody() -> Result<()> {
    let neighbours = Neighbours::set().await?;
    let rogue = RogueWarpgate::enroll(&neighbours.rogue_key).await?;
    let tunnel = rogue.join(&["default"]).await?;
    let watch = neighbours.watch();
    let place = neighbours.rogue();

    // Streams the edge never asked for, full of octets that nobody will read: it does not hold them.
    let octets = vec![0xa7; 2 * 1024 * 1024];
    let mut held = Vec::new();
    for _ in 0..2000 {
        let open = tokio::time::timeout(Duration::from_millis(200), tunnel.connection.open_bi()).await;
        let Ok(Ok((mut send, receive))) = open else { break };
        let filled = tokio::time::timeout(Duration::from_millis(200), send.write_all(&octets)).await;
        let is_refused = matches!(filled, Ok(Err(_)));
        held.push((send, receive));
        if is_refused {
            break;
        }
    }
    let refused =
        ended(&tunnel).await.with_context(|| format!("{} streams of its own are held", held.len()))?;
    ensure!(refused == CloseCode::Protocol, "closed with {refused}");
    drop(held);

    let tunnel = rogue.join(&["default"]).await?;
    let _serving = tunnel.serve(misbehave);

    // It never reads and never answers: its own clients get 504 in time, and no memory goes to waiting uploads.
    let before = resident_kib(neighbours.node.server.pid()?)?;
    let body = "x".repeat(4 * 1024 * 1024);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &body)?;
    let path = file.path().display().to_string();
    let uploads = (0..8).map(|nth| {
        let (place, path) = (place.clone(), path.clone());
        async move {
            // Eight programs that start at once are what the honest client would measure.
            tokio::time::sleep(Duration::from_millis(150) * nth).await;
            curl(&place, "h2", "/never", &["-X", "POST", "-T", &path, "-H", "expect:"]).await
        }
    });
    for fetched in futures_util::future::join_all(uploads).await {
        let fetched = fetched?;
        ensure!([504, 503, 502, 408].contains(&fetched.status()), "{} {}", fetched.status(), fetched.heads);
    }
    let after = resident_kib(neighbours.node.server.pid()?)?;
    ensure!(after < before + 24 * 1024, "{before} KiB before, {after} KiB after uploads nobody read");
    println!("{}", neighbours.judge(watch).await?);
    Ok(())
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("a resident size")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}
