//! Events as lines for people: aligned, one fact each, with what to do next.

use std::time::Duration;

use super::event::Event;
use super::route_table::{one_line, table};

/// Whether marks are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No escape sequences.
    Plain,
    /// For a terminal.
    Coloured,
}

/// Width of the first column.
const LABEL_WIDTH: usize = 15;

pub(super) fn render(event: &Event, style: Style) -> String {
    match event {
        Event::Started { version, platform, host } => {
            format!("warpgate {version}  {platform}  ({})\n", clean(host))
        }
        Event::Note { text } => format!("  note: {}\n", clean(text)),
        Event::Control { address, transport, took_ms, clock_skew_ms } => {
            let skew = signed_seconds(*clock_skew_ms);
            good(style, "control plane", &format!("{address}  {transport}  {took_ms} ms  clock skew {skew}"))
        }
        Event::Key { account, project, environment, hint } => {
            let text = format!("\"{account}\" · project {project} · environment {environment}  (…{hint})");
            good(style, "key", &text)
        }
        Event::Certificate { name, valid_s, renews_s, kept_in } => {
            let kept = match kept_in {
                Some(path) => format!("kept in {} (0600)", path.display()),
                None => "key stays in memory".to_owned(),
            };
            let (valid, renews) = (seconds(*valid_s), seconds(*renews_s));
            // The whole name is in the log and the JSON; its last part tells this warpgate from others.
            let name = name.rsplit('/').next().unwrap_or(name);
            good(style, "certificate", &format!("{name} · valid {valid} · renews in {renews} · {kept}"))
        }
        Event::Renewed { valid_s, renews_s } => {
            let (valid, renews) = (seconds(*valid_s), seconds(*renews_s));
            good(style, "certificate", &format!("renewed · valid {valid} · renews in {renews}"))
        }
        Event::Network { receive_buffer, send_buffer, advice } => {
            let sizes = format!(
                "udp buffers {} receive, {} send",
                mebibytes(*receive_buffer),
                mebibytes(*send_buffer)
            );
            match advice {
                None => good(style, "network", &sizes),
                Some(advice) => bad(style, "network", &format!("{sizes}: small for fast links. {advice}")),
            }
        }
        Event::EdgeConnected { name, transport, remote, rtt_us, replaced, .. } => {
            let what = if *replaced { "reconnected, old tunnel finishes" } else { "connected" };
            let text = format!("{transport:<4} {remote}  {}  {what}", millis(*rtt_us));
            good(style, &format!("edge {}", clean(name)), &text)
        }
        Event::EdgeFailed { name, code, message, next, retry_ms, repeats, .. } => {
            let again = match retry_ms {
                Some(0) => "trying again".to_owned(),
                Some(wait) => next_try(*wait),
                None => "left alone until the environment or the certificate changes".to_owned(),
            };
            let text = format!("{message} ({code}); {again}{}", more(*repeats));
            bad(style, &format!("edge {}", clean(name)), &text) + &next_step(next)
        }
        Event::EdgeLeft { name, message, .. } => bad(style, &format!("edge {}", clean(name)), message),
        Event::ControlFailed { message, code, next, retry_ms, repeats, .. } => {
            let text = format!("{message} ({code}); {}{}", next_try(*retry_ms), more(*repeats));
            bad(style, "control plane", &text) + &next_step(next)
        }
        Event::Routes { revision, routes } => {
            let mut text = format!("Routes (bundle v{revision})\n");
            if routes.is_empty() {
                text.push_str("  none yet: they appear here as soon as somebody creates one\n");
            }
            table(&mut text, routes);
            text
        }
        Event::RoutesChanged { revision, added, changed, removed } => {
            let mut parts = Vec::new();
            parts.extend(added.iter().map(|route| format!("+ {}", one_line(route))));
            parts.extend(changed.iter().map(|route| format!("~ {}", one_line(route))));
            parts.extend(removed.iter().map(|address| format!("- {}", clean(address))));
            format!("Routes changed (bundle v{revision}): {}\n", parts.join("; "))
        }
        Event::Ready { edges, edges_total, routes, upstreams, upstreams_down, unanswered, .. } => {
            let counts = counts(*edges, *edges_total, *routes);
            ready(&counts, *upstreams, *upstreams_down, unanswered)
        }
        Event::UpstreamLost { upstream, message, code, repeats, .. } => {
            let text = format!("{message} ({code}): requests get an error page{}", more(*repeats));
            bad(style, &format!("upstream {}", clean(upstream)), &text)
                + &next_step("start what listens there, or correct --upstream")
        }
        Event::UpstreamBack { upstream, target } => {
            good(style, &format!("upstream {}", clean(upstream)), &format!("{target} is reached again"))
        }
        Event::Reloaded { changed, restart } => reloaded(style, changed, restart),
        Event::ReloadFailed { message, next } => {
            bad(style, "reload", &format!("{message}; what was in force stays")) + &next_step(next)
        }
        Event::Edges { connected, total } => edges(style, *connected, *total),
        Event::Draining { exchanges: 0, .. } => "Stopping: nothing is running.\n".to_owned(),
        Event::Draining { exchanges, grace_s } => format!(
            "Stopping: {exchanges} running {} may finish within {grace_s} s. Ctrl+C again stops now.\n",
            plural(*exchanges, "request"),
        ),
        Event::Stopped { cut } => stopped(*cut),
        Event::Interrupted { cut } => interrupted(*cut),
        Event::Error { message, next, .. } => format!("error: {}\n", clean(message)) + &next_step(next),
    }
}

/// `text` without characters that could move a terminal's cursor or forge a line of a log.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { '?' } else { c }).collect()
}

/// Characters that show nothing and turn the reading order (Unicode TR 36 §3).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn stopped(cut: usize) -> String {
    match (cut, were(cut)) {
        (0, _) => "Stopped.\n".to_owned(),
        (_, were) => {
            format!("Stopped. {cut} {} did not finish in time and {were} cut.\n", plural(cut, "request"))
        }
    }
}

fn interrupted(cut: usize) -> String {
    match (cut, were(cut)) {
        (0, _) => "Stopped at once.\n".to_owned(),
        (_, were) => format!("Stopped at once: {cut} running {} {were} cut.\n", plural(cut, "request")),
    }
}

fn were(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

fn good(style: Style, label: &str, text: &str) -> String {
    line(
        match style {
            Style::Plain => "✓",
            Style::Coloured => "\x1b[32m✓\x1b[0m",
        },
        label,
        text,
    )
}

fn bad(style: Style, label: &str, text: &str) -> String {
    line(
        match style {
            Style::Plain => "!",
            Style::Coloured => "\x1b[33m!\x1b[0m",
        },
        label,
        text,
    )
}

fn line(mark: &str, label: &str, text: &str) -> String {
    format!("{mark} {label:<LABEL_WIDTH$} {}\n", clean(text))
}

fn next_try(wait_ms: u64) -> String {
    format!("next try in {}", brief(Duration::from_millis(wait_ms)))
}

/// How a running warpgate is ended.
const ENDING: &str = "Ctrl+C drains (30 s), twice stops now";

/// The tunnel is there, and every request would get an error page: nobody should read "ready".
fn connected_in_vain(counts: &str, unanswered: &[String], some_undeclared: bool) -> String {
    let what = match unanswered {
        [] => "but this warpgate declares no upstream that a route leads to".to_owned(),
        [one] => format!("but no upstream answers: start it at {}", clean(one)),
        several => format!("but no upstream answers: start them at {}", clean(&several.join(", "))),
    };
    let wanting = if some_undeclared { "declare with --upstream NAME=URL what is not declared" } else { "" };
    format!("Connected, {what}\n  {counts}.   {ENDING}\n") + &next_step(wanting)
}

fn counts(edges: usize, edges_total: usize, routes: usize) -> String {
    let (edge, route) = (plural(edges_total, "edge"), plural(routes, "route"));
    format!("{edges} of {edges_total} {edge}, {routes} {route}")
}

fn ready(counts: &str, upstreams: usize, upstreams_down: usize, unanswered: &[String]) -> String {
    if upstreams > 0 && upstreams_down == upstreams {
        return connected_in_vain(counts, unanswered, unanswered.len() < upstreams_down);
    }
    let (down, wanting) = match upstreams_down {
        0 => (String::new(), ""),
        n => (
            format!(" ({n} {} down)", plural(n, "upstream")),
            "start what is down, and declare with --upstream NAME=URL what is not declared",
        ),
    };
    format!("Ready: {counts}{down}.   {ENDING}\n") + &next_step(wanting)
}

fn reloaded(style: Style, changed: &[String], restart: &[String]) -> String {
    let what = if changed.is_empty() { "nothing has changed".to_owned() } else { changed.join(", ") };
    let told = good(style, "reload", &what);
    if restart.is_empty() {
        return told;
    }
    told + &next_step(&format!("restart warpgate to put in force: {}", restart.join(", ")))
}

fn edges(style: Style, connected: usize, total: usize) -> String {
    let text = format!("{connected} of {total} connected");
    match connected {
        0 => bad(style, "edges", &format!("{text}: no request comes through until one is back")),
        _ if connected < total => bad(style, "edges", &text),
        _ => good(style, "edges", &text),
    }
}

fn next_step(next: &str) -> String {
    if next.is_empty() { String::new() } else { format!("  next: {}\n", clean(next)) }
}

fn more(repeats: u32) -> String {
    if repeats == 0 { String::new() } else { format!("  [{repeats} more in 5 min]") }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn seconds(s: u64) -> String {
    brief(Duration::from_secs(s))
}

/// A duration in its largest fitting unit: `8 s`, `12 min`, `16 h`, `3 d`.
pub(super) fn brief(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0 => format!("{} ms", duration.as_millis()),
        1..120 => format!("{s} s"),
        // Rounded, because a certificate of 24 h is a moment younger than that when it is shown.
        120..7_200 => format!("{} min", (s + 30) / 60),
        7_200..172_800 => format!("{} h", (s + 1_800) / 3600),
        _ => format!("{} d", (s + 43_200) / 86_400),
    }
}

fn millis(micros: u64) -> String {
    if micros >= 10_000 {
        format!("{} ms", micros / 1000)
    } else {
        format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
    }
}

fn signed_seconds(ms: i64) -> String {
    let tenths = ms.unsigned_abs() / 100;
    format!("{}{}.{} s", if ms < 0 && tenths > 0 { '-' } else { '+' }, tenths / 10, tenths % 10)
}

fn mebibytes(octets: usize) -> String {
    let tenths = octets.saturating_mul(10) / (1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::event::{RouteLine, UpstreamState};
    use super::super::tests::print_all;
    use super::*;

    fn with_down(upstreams: usize, unanswered: &[&str], upstreams_down: usize) -> Event {
        Event::Ready {
            edges: 1,
            edges_total: 3,
            routes: 2,
            upstreams,
            upstreams_down,
            unanswered: unanswered.iter().map(|&at| at.to_owned()).collect(),
            round_trip_us: 400,
        }
    }

    #[test]
    fn a_warpgate_whose_upstreams_are_all_down_is_not_called_ready() {
        let (a, b) = ("http://127.0.0.1:8080", "http://127.0.0.1:9090");
        let events = vec![with_down(1, &[a], 1), with_down(3, &[a, b], 3), with_down(1, &[], 1)];
        let (out, _) = print_all(Format::Text(Style::Plain), events);
        let expected = "\
Connected, but no upstream answers: start it at http://127.0.0.1:8080
  1 of 3 edges, 2 routes.   Ctrl+C drains (30 s), twice stops now
Connected, but no upstream answers: start them at http://127.0.0.1:8080, http://127.0.0.1:9090
  1 of 3 edges, 2 routes.   Ctrl+C drains (30 s), twice stops now
  next: declare with --upstream NAME=URL what is not declared
Connected, but this warpgate declares no upstream that a route leads to
  1 of 3 edges, 2 routes.   Ctrl+C drains (30 s), twice stops now
  next: declare with --upstream NAME=URL what is not declared
";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_run_that_is_cut_short_tells_what_was_cut() {
        let events = [0, 1, 2].map(|cut| Event::Interrupted { cut });
        let (out, _) = print_all(Format::Text(Style::Plain), events.to_vec());
        let expected = "\
Stopped at once.
Stopped at once: 1 running request was cut.
Stopped at once: 2 running requests were cut.
";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_run_reads_like_a_report() {
        let route = |address: &str, target: Option<&str>, access: &str, state| RouteLine {
            address: address.into(),
            upstream: "default".into(),
            target: target.map(str::to_owned),
            access: access.into(),
            state,
        };
        let events = vec![
            Event::Started { version: "0.1.0", platform: "linux/x86_64".into(), host: "web-01".into() },
            Event::Control {
                address: "connect.mezu.localhost:8443".into(),
                transport: "quic",
                took_ms: 12,
                clock_skew_ms: -240,
            },
            Event::Certificate {
                name: "spiffe://mezu/project/prj_1/env/env_1/warpgate/wgt_1".into(),
                valid_s: 86_400,
                renews_s: 43_300,
                kept_in: None,
            },
            Event::EdgeConnected {
                edge: "edg_1".into(),
                name: "fra-1".into(),
                transport: "quic",
                remote: "203.0.113.7:443".into(),
                rtt_us: 18_200,
                lasts_s: 85_800,
                replaced: false,
            },
            Event::Routes {
                revision: 42,
                routes: vec![
                    route(
                        "https://shop.example/api/*",
                        Some("http://127.0.0.1:8080"),
                        "auth required · role=customer",
                        Some(UpstreamState::Up { status: Some(200), took_ms: 4 }),
                    ),
                    route("https://shop.example/x", None, "public", None),
                ],
            },
            with_down(2, &[], 1),
            Event::Edges { connected: 3, total: 3 },
            Event::Edges { connected: 2, total: 3 },
            Event::Edges { connected: 0, total: 3 },
        ];
        let (out, _) = print_all(Format::Text(Style::Plain), events);
        let expected = "\
warpgate 0.1.0  linux/x86_64  (web-01)
✓ control plane   connect.mezu.localhost:8443  quic  12 ms  clock skew -0.2 s
✓ certificate     wgt_1 · valid 24 h · renews in 12 h · key stays in memory
✓ edge fra-1      quic 203.0.113.7:443  18 ms  connected
Routes (bundle v42)
  https://shop.example/api/*   → default http://127.0.0.1:8080           auth required · role=customer   up: 200 (4 ms)
  https://shop.example/x       → default not declared by this warpgate   public
Ready: 1 of 3 edges, 2 routes (1 upstream down).   Ctrl+C drains (30 s), twice stops now
  next: start what is down, and declare with --upstream NAME=URL what is not declared
✓ edges           3 of 3 connected
! edges           2 of 3 connected
! edges           0 of 3 connected: no request comes through until one is back
";
        assert_eq!(out, expected);
    }

    #[test]
    fn r25_words_of_a_peer_cannot_forge_lines_or_move_the_cursor() {
        let event = Event::EdgeFailed {
            edge: "edg_1".into(),
            name: "a\nReady: 9/9".into(),
            code: "tunnel.busy".into(),
            message: "\x1b[2J\u{202e}busy".into(),
            next: String::new(),
            retry_ms: Some(8000),
            repeats: 12,
        };
        let (out, _) = print_all(Format::Text(Style::Plain), vec![event]);
        assert_eq!(out.lines().count(), 1);
        assert_eq!(out, "! edge a?Ready: 9/9 ?[2J?busy (tunnel.busy); next try in 8 s  [12 more in 5 min]\n");
    }
}
