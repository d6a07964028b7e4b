//! What the access log says, read as a log reader does.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use ::http::Method;
use mezusphere_edge::request::ACCESS_LOG;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::warpgate::Exchange;
use crate::world::{World, empty, get, get_as, read, request};

type LogLine = BTreeMap<&'static str, String>;

/// Keeps the lines of the access log.
#[derive(Clone, Default)]
struct Reader(Arc<Mutex<Vec<LogLine>>>);

struct Fields(LogLine);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Reader {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == ACCESS_LOG
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(LogLine::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn r25_the_log_says_who_came_where_and_no_secret() {
    let log = Reader::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let (world, _warpgate) =
        World::with_warpgate(|exchange: Exchange| exchange.respond(200, &[], b"ok")).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let last = || log.0.lock().unwrap().last().unwrap().clone();

    // An application's path is written, its query is not.
    read(world.send(get_as("/customer/x?token=secret-in-a-query", &cookie)).await).await;
    let line = last();
    assert_eq!((line["host"].as_str(), line["path"].as_str()), ("shop.localhost", "/customer/x"));
    assert_eq!((line["decision"].as_str(), line["status"].as_str()), ("permit", "200"));
    assert_eq!((line["octets"].as_str(), line["end"].as_str()), ("2", "whole"));

    // A one-time link carries its secret in the path, so none of the platform's paths is written, nor is another made up.
    let one_time = "https://login.mezu.localhost/link/secret-in-a-path";
    read(world.send(request(Method::GET, one_time, &[], empty())).await).await;
    let line = last();
    assert_eq!((line["host"].as_str(), line["path"].as_str()), ("login.mezu.localhost", ""));
    assert_eq!((line["decision"].as_str(), line["method"].as_str()), ("platform", "GET"));

    read(world.send(get("/customer/x")).await).await;
    assert_eq!(last()["decision"], "edge.sign_in_required");

    // Why somebody may not, or would not without the dry run, is told here and nowhere else.
    let ask = async || drop(read(world.send(get_as("/customer/x", &cookie)).await).await);
    for (enforce, decision, reason, would_deny) in
        [(true, "edge.denied", "missing_role", ""), (false, "permit", "", "missing_role")]
    {
        world
            .publish(|site| {
                site.routes[2].require.all_roles = vec![crate::world::name("vip")];
                site.routes[2].enforce = enforce;
            })
            .await;
        ask().await;
        let line = last();
        let told = ["decision", "reason", "would_deny"].map(|field| line[field].as_str());
        assert_eq!(told, [decision, reason, would_deny]);
        assert!(line["why"].ends_with("needs the role vip"), "{line:?}");
    }
    let all = format!("{:?}", log.0.lock().unwrap());
    assert!(!all.contains("secret-in"), "{all}");
    let token = cookie.split_once('=').unwrap().1.split('.').next().unwrap();
    assert!(!all.contains(token), "{all}");
}
