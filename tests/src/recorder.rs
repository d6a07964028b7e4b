//! A client that keeps asking while things break, and writes down what became of every request.
//!
//! It does what a careful client does: it keeps a connection to each edge, asks another edge when one cannot be
//! reached or has failed, and never sends a request twice. Each request is a POST with a number of its own, so that the
//! upstream's log tells which arrived, and how often.

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

/// Between two requests, unless a test asks otherwise.
const PACE: Duration = Duration::from_millis(20);

/// How long an edge may take for a connection before another is asked.
const CONNECTS_WITHIN: Duration = Duration::from_secs(3);

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
    /// Which hop failed and why, if an edge said so.
    pub fault: Option<String>,
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
        Self::paced(targets, tls, cookie, 0, PACE)
    }

    /// The same with numbers from `first` on and `pace` between two requests.
    pub fn paced(
        targets: Vec<Target>,
        tls: Arc<rustls::ClientConfig>,
        cookie: String,
        first: u64,
        pace: Duration,
    ) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut client = Client { targets, tls, cookie, open: HashMap::new(), failed: HashMap::new() };
            let mut outcomes = Vec::new();
            for number in first.. {
                outcomes.push(client.ask(number).await);
                tokio::select! {
                    () = tokio::time::sleep(pace) => {}
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
        let at = Instant::now();
        let (edge, connection) = self.connection(number).await;
        let answered = match connection {
            Ok(connection) => {
                let sent = self.send(edge, connection, number);
                match tokio::time::timeout(ANSWERS_WITHIN, sent).await {
                    Ok(answer) => answer.map_err(|why| format!("{why:#}")),
                    Err(_) => Err("no answer in time".to_owned()),
                }
            }
            Err(why) => Err(format!("{why:#}")),
        };
        let (answer, fault) = match answered {
            Ok((status, fault)) => (Ok(status), fault),
            Err(why) => (Err(why), None),
        };
        // A connection that failed is in no state to carry the next request.
        if answer != Ok(StatusCode::OK) {
            self.failed.insert(edge, Instant::now());
        }
        Outcome { number, edge, at, answer, fault }
    }

    /// A connection for a request, to the edge whose turn it is or to the next that can be reached: nothing has been
    /// sent by then.
    async fn connection(&mut self, number: u64) -> (usize, anyhow::Result<h1::Connection>) {
        let mut last = (0, Err(anyhow::anyhow!("no edge")));
        for edge in self.in_order(number) {
            if let Some(mut open) = self.open.remove(&edge)
                && open.is_open().await
            {
                return (edge, Ok(open));
            }
            let Some(target) = self.targets.get(edge) else { break };
            let opened = tokio::time::timeout(CONNECTS_WITHIN, h1::Connection::open(target, &self.tls)).await;
            last = (edge, opened.unwrap_or_else(|_| Err(anyhow::anyhow!("no connection in time"))));
            if last.1.is_ok() {
                break;
            }
            self.failed.insert(edge, Instant::now());
        }
        last
    }

    /// The edges in the order to ask them: in turn, those that failed lately last.
    fn in_order(&self, number: u64) -> Vec<usize> {
        let count = self.targets.len();
        let first = usize::try_from(number).unwrap_or(0) % count;
        let mut edges: Vec<usize> = (0..count).map(|step| (first + step) % count).collect();
        edges.sort_by_key(|edge| self.failed.get(edge).is_some_and(|at| at.elapsed() <= LEFT_ALONE));
        edges
    }

    async fn send(
        &mut self,
        edge: usize,
        mut connection: h1::Connection,
        number: u64,
    ) -> anyhow::Result<(StatusCode, Option<String>)> {
        let Some(target) = self.targets.get(edge) else { anyhow::bail!("no such edge") };
        let request = Request::post(format!("{}/{number}", target.path))
            .header(header::HOST, &target.authority)
            .header(header::ORIGIN, format!("https://{}", target.authority))
            .header("sec-fetch-site", "same-origin")
            .header(header::COOKIE, &self.cookie)
            .body(Full::new(Bytes::from_static(b"x")))?;
        let response = connection.fetch(request).await?;
        let is_last = response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
        if !is_last {
            self.open.insert(edge, connection);
        }
        let fault = response.headers().get("mezu-error").and_then(|fault| fault.to_str().ok());
        Ok((response.status(), fault.map(str::to_owned)))
    }
}
