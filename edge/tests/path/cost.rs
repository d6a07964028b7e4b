//! What a small request costs between the listeners and the upstream: the request path, the tunnel and both ends of QUIC,
//! all on one thread. To be read beside a run of `scripts/bench`.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::world::{World, get, get_as, read};

/// Requests at once.
const IN_FLIGHT: usize = 64;

/// Requests of each of them.
const EACH: usize = 500;

const FIELDS: [(&str, &str); 2] = [("content-type", "text/plain"), ("content-length", "200")];

#[tokio::test]
#[ignore = "measures: cargo test --profile quick -p mezusphere-edge --test path cost -- --ignored --nocapture"]
async fn cost_of_a_small_get_public_and_signed_in() {
    let body = Arc::new(vec![b'x'; 200]);
    let (world, _warpgate) = World::with_warpgate(move |exchange| {
        let body = Arc::clone(&body);
        async move { exchange.respond(200, &FIELDS, &body).await }
    })
    .await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let fields = [("accept", "*/*"), ("user-agent", "bench/1"), ("accept-encoding", "gzip")];
    for round in 0..3 {
        for signed_in in [false, true] {
            // The clock stands still otherwise, and a project's requests of one second would be used up.
            world.hand.advance(std::time::Duration::from_secs(10));
            let begun = on_cpu_us();
            join_all((0..IN_FLIGHT).map(|_| async {
                for _ in 0..EACH {
                    let mut request =
                        if signed_in { get_as("/customer/x", &cookie) } else { get("/public/x") };
                    for (name, value) in fields {
                        request.headers_mut().insert(name, value.parse().unwrap());
                    }
                    assert_eq!(read(world.send(request).await).await.2.len(), 200);
                }
            }))
            .await;
            let each = (on_cpu_us() - begun) / f64::from(u32::try_from(IN_FLIGHT * EACH).unwrap());
            println!("round {round}, signed in {signed_in}: {each:.1} CPU-us per request");
        }
    }
}

/// Microseconds this thread has run on a processor; other programs on the machine do not count.
fn on_cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds: f64 = stat.split(' ').next().unwrap().parse().unwrap();
    nanoseconds / 1e3
}
