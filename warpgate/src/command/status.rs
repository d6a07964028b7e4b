//! `warpgate status`: how a running warpgate is doing.

use std::io::Write as _;

use clap::Args;
use warpgate::exit::Exit;
use warpgate::local::report::{EdgeReport, Phase, StatusReport};
use warpgate::output::{brief, clean};

use super::last_words;
use super::local::Which;

/// Show how a running warpgate is doing: edges, upstreams, requests, and every setting with who set it.
///
/// Ends with 0 if it is ready, 4 if it runs and is not, 3 if none runs: fit for a container's health check.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    which: Which,

    /// Print nothing; only the exit code says how it is
    #[arg(long, short)]
    quiet: bool,
}

impl Status {
    pub(super) fn run(&self) -> Exit {
        let instance = match self.which.look("status") {
            Ok(instance) => instance,
            Err((_, exit)) if self.quiet => return exit,
            Err((why, exit)) => return last_words(&why, exit),
        };
        let status = &instance.status;
        let text = if self.which.is_json() {
            serde_json::to_string(status).unwrap_or_default() + "\n"
        } else {
            text(status)
        };
        if !self.quiet && std::io::stdout().write_all(text.as_bytes()).is_err() {
            return Exit::Failed;
        }
        if status.phase == Phase::Ready { Exit::Done } else { Exit::NotReady }
    }
}

fn text(status: &StatusReport) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut row = |label: &str, value: &str| lines.push(format!("{label:<13} {value}"));
    let id = status.instance.as_deref().unwrap_or("not enrolled yet");
    row("warpgate", &format!("{id}  {} on {}  pid {}", status.version, status.host, status.pid));
    row("state", &format!("{}, up {}", status.phase.as_str(), brief(status.up_s)));
    let key = &status.key;
    let belongs = match (&key.account, &key.project, &key.environment) {
        (Some(account), Some(project), Some(environment)) => {
            format!("  \"{account}\" · project {project} · environment {environment}")
        }
        _ => String::new(),
    };
    row("key", &format!("…{}{belongs}", key.hint));
    let control = &status.control;
    let how = match (&control.failure, &control.transport) {
        (Some(failure), _) => format!("  {failure}"),
        (None, Some(transport)) => format!("  over {transport}"),
        (None, None) => String::new(),
    };
    row("control plane", &format!("{}{how}", control.address));
    if let Some(certificate) = &status.certificate {
        row("certificate", &format!("valid {} more, until {}", brief(certificate.left_s), certificate.until));
    }
    let kept = status.state_dir.as_deref().unwrap_or("nowhere: in memory only");
    row("state kept", kept);
    let exchanges = status.exchanges;
    let requests = format!(
        "{} running, {} since the start, {} failed",
        exchanges.running, exchanges.total, exchanges.failed
    );
    row("requests", &requests);
    let up = status.edges.iter().filter(|edge| edge.state == "proven").count();
    lines.extend([String::new(), format!("Edges ({up} of {})", status.edges.len())]);
    lines.extend(status.edges.iter().map(edge_line));
    lines.extend([String::new(), "Upstreams".to_owned()]);
    for upstream in &status.upstreams {
        let why = upstream.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let health = match upstream.health.as_str() {
            "unknown" => "not checked",
            other => other,
        };
        lines.push(format!("  {:<12} {}  {health}{why}", upstream.name, upstream.target));
    }
    lines.extend([String::new(), "Settings".to_owned()]);
    for setting in status.settings.iter().filter(|setting| !setting.value.is_empty()) {
        lines.push(format!("  {:<21} {}  ({})", setting.name, setting.value, setting.source));
    }
    lines.iter().map(|line| clean(line) + "\n").collect()
}

fn edge_line(edge: &EdgeReport) -> String {
    let since = edge.for_s.map(|seconds| format!("  for {}", brief(seconds))).unwrap_or_default();
    if let (Some(transport), Some(remote)) = (&edge.transport, &edge.remote) {
        let trip = edge.round_trip_us.map(|us| format!("  {}.{} ms", us / 1000, us % 1000 / 100));
        let trip = trip.unwrap_or_default();
        return format!("  {:<12} {transport:<4} {remote}{trip}{since}  {}", edge.name, edge.state);
    }
    let why = edge.failure.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("  {:<12} {}{since}{why}", edge.name, edge.state)
}
