//! Streams go out as they come: what an upstream says now, a client reads now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use mezusphere_tests::client::h1;
use mezusphere_tests::stats::Latencies;
use mezusphere_tests::system::Node;
use mezusphere_tests::workload::Workload;

/// Events that are measured, a stream each.
const EVENTS: usize = 40;

/// From the upstream's event to the client's (design, "every stream flushed as it comes").
const OUT_WITHIN: Duration = Duration::from_millis(5);

/// A machine whose two cores run other things too takes longer for everything: so much of what an answer takes then.
const BUSY: u32 = 2;

/// The next data of a body.
async fn data(body: &mut Incoming) -> Result<()> {
    let frame = body.frame().await.context("the stream ended")??;
    ensure!(frame.is_data(), "no data");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_at_the_client_as_soon_as_it_is_made() -> Result<()> {
    let node = Node::start(&[]).await?;
    let workload = Arc::new(Workload::start().await?);
    let shop = node.seed_shop().await?;
    let _gate = node.connect(&shop.connection_key, &workload.h1()).await?;
    let target = node.target(&shop.host, "/told")?;
    let mut client = h1::Connection::open(&target, &node.tls(b"http/1.1")?).await?;
    let get = |path: &str| Request::get(path).header("host", &target.authority).body(Full::default());

    let (mut whole, mut events) = (Latencies::default(), Latencies::default());
    for number in 0..EVENTS {
        let start = Instant::now();
        client.fetch(get("/told")?).await?;
        whole.add(start.elapsed().as_micros());

        let gate = format!("streams-{number}");
        let mut body = client.send(get(&format!("/sse/{gate}"))?).await?.into_body();
        data(&mut body).await?;
        let made = Instant::now();
        workload.release(&gate);
        data(&mut body).await?;
        events.add(made.elapsed().as_micros());
        while body.frame().await.transpose()?.is_some() {}
    }
    let (event, whole) = (events.percentile(50.0), whole.percentile(50.0));
    println!("an event takes {event} µs to the client, a whole request and its answer {whole} µs");
    let bound = OUT_WITHIN.as_micros().max(u128::from(whole * BUSY));
    ensure!(u128::from(event) <= bound, "an event takes {event} µs, a whole request {whole} µs");
    Ok(())
}
