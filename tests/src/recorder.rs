//! A client that keeps asking while things break, and writes down what became of every request.
//!
//! It does what a careful client does: it keeps a connection to each edge, asks another edge when one fails, and
//! never sends a request twice. Each request is a POST with a number of its own, so that the upstream's log tells
//! which arrived, and how often.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Target, h1};

/// How long one answer may take before the request counts as failed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Between two requests.
const PACE: Duration = Duration::from_millis(20);

/// How long an edge that failed is left alone while others answer.
const LEFT_ALONE: Duration = Duration::from_millis(500);

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its number: the last segment of its path.
    pub number: u64,
    /// Which edge was asked.
    pub edge: usize,
    /// When.
    pub at: Instant,
    /// What came back; an error if nothing did.
    pub answer: Result<StatusCode, String>,
}

impl Outcome {
    /// Whether it was answered as if nothing had broken.
    pub fn is_good(&self) -> bool {
        self.answer == Ok(StatusCode::OK)
    }
}

/// A running recorder; ends when dropped.
#[derive(Debug)]
pub struct Recorder {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Vec<Outcome>>,
}

impl Recorder {
    /// Sends requests to `targets` in turn, below their path, until [`Recorder::stop`].
    pub fn start(targets: Vec<Target>, tls: Arc<rustls::ClientConfig>, cookie: String) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut client = Client { targets, tls, cookie, open: HashMap::new(), failed: HashMap::new() };
            let mut outcomes = Vec::new();
            for number in 0.. {
                outcomes.push(client.ask(number).await);
                tokio::select! {
                    () = tokio::time::sleep(PACE) => {}
                    _ = &mut stopped => break,
                }
            }
            outcomes
        });
        Self { stop, task }
    }

    /// Ends it and gives what happened.
    pub async fn stop(self) -> anyhow::Result<Vec<Outcome>> {
        // It may have ended by itself, by a panic; the task tells.
        let (Ok(()) | Err(())) = self.stop.send(());
        Ok(self.task.await?)
    }
}

struct Client {
    targets: Vec<Target>,
    tls: Arc<rustls::ClientConfig>,
    cookie: String,
    open: HashMap<usize, h1::Connection>,
    failed: HashMap<usize, Instant>,
}

impl Client {
    async fn ask(&mut self, number: u64) -> Outcome {
        let edge = self.choose(number);
        let at = Instant::now();
        let answer = match tokio::time::timeout(ANSWERS_WITHIN, self.send(edge, number)).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(why)) => Err(format!("{why:#}")),
            Err(_) => Err("no answer in time".to_owned()),
        };
        // A connection that failed is in no state to carry the next request.
        if answer != Ok(StatusCode::OK) {
            self.open.remove(&edge);
            self.failed.insert(edge, Instant::now());
        }
        Outcome { number, edge, at, answer }
    }

    fn choose(&self, number: u64) -> usize {
        let count = self.targets.len();
        let first = usize::try_from(number).unwrap_or(0) % count;
        let is_well = |edge: &usize| self.failed.get(edge).is_none_or(|at| at.elapsed() > LEFT_ALONE);
        (0..count).map(|step| (first + step) % count).find(is_well).unwrap_or(first)
    }

    async fn send(&mut self, edge: usize, number: u64) -> anyhow::Result<StatusCode> {
        let Some(target) = self.targets.get(edge) else { anyhow::bail!("no such edge") };
        let mut connection = match self.open.remove(&edge) {
            Some(open) => open,
            None => h1::Connection::open(target, &self.tls).await?,
        };
        let request = Request::post(format!("{}/{number}", target.path))
            .header(header::HOST, &target.authority)
            .header(header::ORIGIN, format!("https://{}", target.authority))
            .header("sec-fetch-site", "same-origin")
            .header(header::COOKIE, &self.cookie)
            .body(Full::new(Bytes::from_static(b"x")))?;
        let response = connection.fetch(request).await?;
        self.open.insert(edge, connection);
        Ok(response.status())
    }
}
