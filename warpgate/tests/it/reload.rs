//! Settings read again while requests run: upstreams change without a lost request, a bad file changes nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::edge::{Edge, head};
use crate::support::upstream::{self, OK};
use crate::support::{Platform, until};
use tokio::sync::watch;
use warpgate::agent::{Reload, Unusable};
use warpgate::config::{self, Given, Settings};
use warpgate::exit::Exit;

fn read(path: &Path) -> Result<Settings, Unusable> {
    let file = config::read(path).map_err(|why| Unusable { message: why.to_string(), next: why.next })?;
    config::merge(&Given::default(), &file)
        .map_err(|why| Unusable { message: why.to_string(), next: String::new() })
}

struct Running {
    agent: Agent,
    edge: Edge,
    file: tempfile::NamedTempFile,
    again: watch::Sender<u32>,
}

async fn running(platform: &Arc<Platform>, text: &str) -> Running {
    let edge = Edge::start(platform);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let (again, asked) = watch::channel(0);
    let (settings, path) = (read(file.path()).unwrap(), file.path().to_owned());
    let agent = Agent::start_with(platform, &[], |config| {
        config.upstreams = settings.upstreams;
        config.settings = settings.shown;
        config.reload = Some(Reload { asked, again: Arc::new(move || read(&path)), log: None });
    });
    agent.event("ready").await;
    Running { agent, edge, file, again }
}

impl Running {
    fn reload(&self, text: &str) {
        std::fs::write(self.file.path(), text).unwrap();
        self.again.send_modify(|count| *count += 1);
    }
}

const OTHER: &[u8] = b"HTTP/1.1 203 Other\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn upstreams_change_without_a_lost_request() {
    let (first, _) = upstream::fixed(OK).await;
    let (second, _) = upstream::fixed(OTHER).await;
    let platform = Platform::new();
    let running = running(&platform, &format!("upstream = \"{first}\"")).await;
    let tunnel = running.edge.tunnel(1).await;
    let (stop, failed, done) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let traffic = {
        let (stop, failed, done, tunnel) =
            (Arc::clone(&stop), Arc::clone(&failed), Arc::clone(&done), Arc::clone(&tunnel));
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let answer = tunnel.get(&head("GET", "/", 1)).await;
                let good =
                    answer.complete && matches!(answer.status.map(|status| status.as_u16()), Some(200 | 203));
                failed.fetch_add(usize::from(!good), Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    for round in 1..=6 {
        let to = if round % 2 == 0 { first } else { second };
        running.reload(&format!("upstream = \"{to}\""));
        until("the reload is told", || running.agent.named("reloaded").len() >= round).await;
        let before = done.load(Ordering::SeqCst);
        until("requests go on", || done.load(Ordering::SeqCst) > before + 3).await;
        let wanted = if round % 2 == 0 { 200 } else { 203 };
        assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), wanted);
    }
    stop.store(true, Ordering::SeqCst);
    traffic.await.unwrap();
    assert_eq!(failed.load(Ordering::SeqCst), 0, "of {}", done.load(Ordering::SeqCst));
    assert_eq!(running.agent.named("reloaded")[0]["changed"][0], "upstream");
    assert_eq!(running.edge.tunnels().len(), 1, "the tunnel stays");
}

#[tokio::test]
async fn a_bad_file_keeps_what_was_in_force_and_says_so() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let running = running(&platform, &format!("upstream = \"{address}\"")).await;
    running.reload("upstrem = \"3000\"");
    let failed = running.agent.event("reload_failed").await;
    assert!(
        failed["message"].as_str().unwrap().contains("line 1: there is no setting \"upstrem\""),
        "{failed}"
    );
    assert!(failed["next"].as_str().unwrap().contains("write upstream"), "{failed}");
    let tunnel = running.edge.tunnel(1).await;
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
}

#[tokio::test]
async fn what_only_a_restart_changes_is_named() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let text = format!("upstream = \"{address}\"");
    let running = running(&platform, &text).await;
    running.reload(&format!("{text}\nhealth = \"127.0.0.1:9090\""));
    let told = running.agent.event("reloaded").await;
    assert_eq!((&told["changed"][0], &told["restart"][0]), (&"health".into(), &"health".into()), "{told}");
}

#[tokio::test]
async fn a_required_upstream_that_is_away_ends_the_start_with_fifteen() {
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let mut agent =
        Agent::start_with(&platform, &["127.0.0.1:9".to_owned()], |config| config.require_origin = true);
    assert_eq!(agent.exit().await, Exit::Origin);
    let error = agent.event("error").await;
    assert_eq!((error["code"].as_str(), error["exit"].as_u64()), (Some("upstream.required"), Some(15)));
    assert!(edge.hellos().is_empty(), "no edge sent a request its way");
    let (address, _) = upstream::fixed(OK).await;
    let good = Agent::start_with(&platform, &[address.to_string()], |config| config.require_origin = true);
    good.event("ready").await;
}

#[tokio::test]
async fn a_service_manager_hears_when_it_is_ready_reloads_and_stops() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let (again, asked) = watch::channel(0);
    let settings = Arc::new(move || {
        let file = Given { upstreams: vec![address.to_string().parse().unwrap()], ..Given::default() };
        config::merge(&file, &Given::default())
            .map_err(|why| Unusable { message: why.to_string(), next: String::new() })
    });
    let mut agent = Agent::start_with(&platform, &[address.to_string()], |config| {
        config.notify = warpgate::notify::Notify::from_environment(|name| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into()),
            "WATCHDOG_USEC" => Some("200000".into()),
            _ => None,
        });
        config.reload = Some(Reload { asked, again: settings, log: None });
    });
    let mut heard = Vec::new();
    let hear = async |heard: &mut Vec<String>, wanted: &str| {
        let mut buffer = [0; 512];
        loop {
            let read = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer));
            let read = read.await.unwrap_or_else(|_| panic!("never heard {wanted}: {heard:?}")).unwrap();
            heard.push(String::from_utf8(buffer[..read].to_vec()).unwrap());
            if heard.last().unwrap() == wanted {
                return;
            }
        }
    };
    hear(&mut heard, "READY=1").await;
    assert!(heard.contains(&"STATUS=ready".to_owned()), "{heard:?}");
    edge.tunnel(1).await;
    again.send_modify(|count| *count += 1);
    hear(&mut heard, "RELOADING=1").await;
    hear(&mut heard, "READY=1").await;
    hear(&mut heard, "WATCHDOG=1").await;
    agent.signal();
    hear(&mut heard, "STOPPING=1").await;
    assert_eq!(agent.exit().await, Exit::Done);
}
