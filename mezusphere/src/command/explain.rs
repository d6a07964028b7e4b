//! `mezusphere explain`: what would become of a request, or what became of one that stands in an edge's access log, and why.

use std::io::{BufRead as _, Read as _};
use std::net::IpAddr;

use mezusphere_control::api::types::{ExplainUrl, ExplainedCaller, ExplainedUrl, Place};
use mezusphere_model::Timestamp;
use mezusphere_model::route::AuthMode;
use serde_json::{Value, json};

use super::Context;
use super::log_line::{self, Logged};
use crate::failure::{Failure, Kind};

/// Most lines of a log read from standard input.
const LINES_MAX: usize = 100;

/// Most octets read from there.
const INPUT_LEN_MAX: u64 = 1024 * 1024;

/// Say which route and rule decide about a request, and why.
///
/// Give an address, or a line of an edge's access log as it stands there (text or JSON). The answer is by today's routes and
/// roles; for a line it is set beside what the edge said then. A line has no query and tells no secret.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    mezusphere explain https://shop.example.com/admin --user ada@example.com\n  \
    mezusphere explain shop.example.com/reports --from 203.0.113.9 --method POST\n  \
    journalctl -u mezusphere -g edge.denied -n 1 -o cat | mezusphere explain --line -")]
pub(crate) struct Explain {
    /// The request's address: `https://shop.example.com/orders`
    #[arg(required_unless_present = "line", conflicts_with = "line")]
    url: Option<String>,
    /// Its method.
    #[arg(long, short = 'X', value_name = "METHOD", conflicts_with = "line")]
    method: Option<String>,
    /// Who sends it: e-mail address, or id of a user or service account. Nobody if left out.
    #[arg(long, value_name = "USER", conflicts_with = "line")]
    user: Option<String>,
    /// The client's address. If left out, networks count as met.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "line")]
    from: Option<IpAddr>,
    /// When: 2026-11-22T08:00:00Z. Now if left out.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<String>,
    /// A line of an edge's access log; - reads lines from standard input.
    #[arg(long, value_name = "LINE")]
    line: Option<String>,
}

impl Explain {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self { url, method, user, from, at, line } = self;
        let Some(line) = line else {
            let request = ExplainUrl { url: url.unwrap_or_default(), method, user, from, at };
            let told = context.client.post("/explain", &request).await?;
            context.output.json(&told)?;
            return say(context, &told, None);
        };
        let lines = if line == "-" { read_lines() } else { vec![line] };
        let logged: Vec<Logged> = lines.iter().filter_map(|line| log_line::read(line)).collect();
        if logged.is_empty() {
            return Err(Failure::new(Kind::Usage, "this is no line of an edge's access log").next(
                "give one whole line, text or JSON, of a host that routes publish: it has mezusphere::access, host=, method= and path=",
            ));
        }
        let mut all = Vec::new();
        for (n, logged) in logged.iter().enumerate() {
            let told = context.client.post("/explain", &logged.request(at.clone())).await?;
            if n > 0 {
                context.output.say("")?;
            }
            say(context, &told, Some(logged))?;
            all.push(json!({ "logged": logged, "explained": told }));
        }
        match all.as_slice() {
            [only] => context.output.json(only)?,
            all => context.output.json(&all)?,
        }
        Ok(())
    }
}

/// A moment, as it came: the server reads it again.
fn time(text: &str) -> Result<String, String> {
    text.parse::<Timestamp>().map(|_| text.to_owned()).map_err(|why| why.to_string())
}

fn read_lines() -> Vec<String> {
    let input = std::io::stdin().lock().take(INPUT_LEN_MAX);
    let lines = input.lines().map_while(Result::ok).filter(|line| !line.trim().is_empty());
    lines.take(LINES_MAX).collect()
}

/// Says it to people; what came from strangers, in a form that no terminal takes for more than text.
fn say(context: &Context, told: &Value, logged: Option<&Logged>) -> Result<(), Failure> {
    let output = &context.output;
    if output.is_json() {
        return Ok(());
    }
    let Ok(told) = serde_json::from_value::<ExplainedUrl>(told.clone()) else {
        return Ok(output.say(&format!("{told:#}"))?);
    };
    let line = |name: &str, text: &str| output.say(&format!("  {name:<9} {}", plain(text)));
    output.say(&plain(&format!("{} https://{}{}", told.method, told.host, told.path)))?;
    if let Some(logged) = logged {
        line("then", &logged.told())?;
    }
    if let Some(place) = &told.place {
        line("host", &format!("project {}, environment {}", place.project, place.environment))?;
    }
    line("caller", &told.caller.as_ref().map_or_else(|| "nobody who is signed in".to_owned(), caller))?;
    if let Some(route) = &told.route {
        let needs = route.demands().to_string();
        let needs = if needs.is_empty() { String::new() } else { format!(" · {needs}") };
        let auth = match route.auth {
            AuthMode::Public => "public",
            AuthMode::Optional => "optional",
            AuthMode::Required => "required",
        };
        line("route", &format!("{}  {} · auth {auth}{needs}", route.path, route.id))?;
    }
    let verdict = &told.verdict;
    let decided = match (verdict.allowed, verdict.reason.as_str()) {
        (true, _) if verdict.dry_run => format!("let in, for now: {}", verdict.why),
        (true, _) => format!("let in: {}", verdict.why),
        (false, "") => format!("{} {}: {}", verdict.status, verdict.code, verdict.why),
        (false, reason) => format!("{} {} ({reason}): {}", verdict.status, verdict.code, verdict.why),
    };
    line(if logged.is_some() { "today" } else { "decision" }, &decided)?;
    for lacks in &told.lacks {
        line("lacks", lacks)?;
    }
    for step in &told.steps {
        let at = match step.at {
            Place::Edge => "edge",
            Place::Warpgate => "warpgate",
        };
        line(at, &step.what)?;
    }
    if !told.changes.is_empty() {
        output.say("  what would change it:")?;
        for change in &told.changes {
            output.say(&format!("    {}", plain(change)))?;
        }
    }
    Ok(())
}

fn caller(caller: &ExplainedCaller) -> String {
    let who = if caller.email.is_empty() { &caller.name } else { &caller.email };
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let since = if caller.signed_in {
        format!("signed in at {}, {}", caller.authenticated_at, caller.acr)
    } else {
        format!("without a session on this host: as if signed in at {}", caller.authenticated_at)
    };
    format!(
        "{who} ({}), {} · roles {} · permissions {} · {since}",
        caller.id,
        caller.status,
        list(&caller.roles),
        list(&caller.permissions),
    )
}

/// Text without what a terminal could take for more than that.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
