//! The compatibility matrix: which features, between which protocols, and how they came out.
//!
//! The rows are here, the asking is in `tests/it/matrix.rs`. [`Matrix::render`] is the whole of
//! `docs/compatibility.md`, so the page cannot say what was not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What clients speak.
pub const CLIENTS: [(&str, &str); 3] = [("h1", "HTTP/1.1"), ("h2", "HTTP/2"), ("h3", "HTTP/3")];

/// What upstreams speak: the scheme of `--upstream`.
pub const UPSTREAMS: [(&str, &str); 4] = [
    ("http", "HTTP/1.1"),
    ("h2c", "HTTP/2 without TLS"),
    ("https", "HTTP/2 over TLS"),
    ("unix", "HTTP/1.1 on a local socket"),
];

/// A row: its key, and what is asked.
pub const ROWS: [(&str, &str); 29] = [
    ("get", "Method, target and repeated fields arrive as they were sent"),
    ("methods", "PUT, PATCH, DELETE, OPTIONS and unregistered methods"),
    ("head", "HEAD keeps the length and has no body"),
    ("ranges", "Range requests"),
    ("no_body", "204 and 304"),
    ("empty_bodies", "Bodies of no octets, said and unsaid"),
    ("bodies", "Bodies of known and of unknown length, both ways"),
    ("large", "64 MiB each way (8 MiB over HTTP/3), same digest"),
    ("streamed", "Server-sent events: each one out before the next is made"),
    ("duplex", "Both bodies at once, piece by piece"),
    ("response_trailers", "Response trailers"),
    ("request_trailers", "Request trailers, ours removed"),
    ("early_hints", "103 and 102 before the answer"),
    ("continued", "100-continue: the body waits until the upstream wants it"),
    ("continue_refused", "100-continue refused: no 100, no body"),
    ("early_final", "An answer while the upload goes on"),
    ("cut", "A response cut at the upstream is cut at the client"),
    ("cut_upload", "An upload cut at the client is cut at the upstream"),
    ("leaves", "A client that leaves ends the exchange at the upstream within 1 s"),
    ("leaves_early", "The same before the response's head"),
    ("many", "1000 exchanges at once on one tunnel (300 over HTTP/1.1)"),
    ("websocket", "WebSocket"),
    ("other_upgrade", "Another upgrade"),
    ("grpc_unary", "gRPC unary, metadata and trailers"),
    ("grpc_server_stream", "gRPC server streaming, message by message"),
    ("grpc_client_stream", "gRPC client streaming"),
    ("grpc_both", "gRPC in both directions at once"),
    ("grpc_error", "gRPC errors, trailers-only ones too"),
    ("grpc_cancel", "gRPC cancellation and deadlines"),
];

/// Why a cell asks for what does not exist; `None` where it does.
pub fn no_such_thing(row: &str, client: &str, upstream: &str) -> Option<&'static str> {
    match (row, client, upstream) {
        ("websocket" | "other_upgrade", "h3", _) => Some(
            "The HTTP/3 library has no RFC 9220 yet, so extended CONNECT is not advertised; clients use HTTP/2 or 1.1",
        ),
        ("other_upgrade", "h2", _) => {
            Some("Extended CONNECT is for WebSocket alone (RFC 8441); other upgrades are HTTP/1.1's")
        }
        (row, "h1", _) if row.starts_with("grpc") => Some("gRPC clients speak HTTP/2"),
        (row, _, "http" | "unix") if row.starts_with("grpc") => Some("gRPC services speak HTTP/2"),
        (row, "h3", _) if row.starts_with("grpc") && row != "grpc_unary" => {
            Some("No gRPC library speaks HTTP/3; a unary call is made by hand")
        }
        _ => None,
    }
}

/// What one asker found in one cell.
#[derive(Clone, Debug)]
struct Answer {
    asker: &'static str,
    outcome: Result<(), String>,
}

/// All that was found.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    answers: BTreeMap<(String, &'static str, &'static str), Vec<Answer>>,
}

impl Matrix {
    /// Files what `asker` found.
    pub fn file(
        &mut self,
        row: &str,
        (client, upstream): (&'static str, &'static str),
        asker: &'static str,
        outcome: Result<(), String>,
    ) {
        self.answers.entry((row.to_owned(), client, upstream)).or_default().push(Answer { asker, outcome });
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: Self) {
        for (cell, answers) in other.answers {
            self.answers.entry(cell).or_default().extend(answers);
        }
    }

    fn cell(&self, row: &str, client: &'static str, upstream: &'static str) -> &'static str {
        if no_such_thing(row, client, upstream).is_some() {
            return "–";
        }
        match self.answers.get(&(row.to_owned(), client, upstream)) {
            Some(answers) if answers.iter().all(|answer| answer.outcome.is_ok()) => "✓",
            // What nobody could ask does not work either.
            Some(_) | None => "✗",
        }
    }

    fn askers(&self, row: &str, client: &'static str) -> String {
        let cells = self.answers.iter().filter(|((of, by, _), _)| of == row && *by == client);
        let askers: BTreeSet<&str> =
            cells.flat_map(|(_, answers)| answers).map(|answer| answer.asker).collect();
        askers.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// Every cell that did not come out, with what its askers said.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.answers.iter().flat_map(|((row, client, upstream), answers)| {
            answers.iter().filter_map(move |answer| {
                let why = answer.outcome.as_ref().err()?;
                Some(format!("{row}: {client} → {upstream}, asked by {}: {why}", answer.asker))
            })
        });
        failed.collect()
    }

    /// The page.
    pub fn render(&self) -> String {
        let mut page = String::from(INTRODUCTION);
        let mut reasons: Vec<&str> = Vec::new();
        for (client, name) in CLIENTS {
            let columns: Vec<String> = UPSTREAMS.iter().map(|(scheme, _)| format!("`{scheme}`")).collect();
            let columns = columns.join(" | ");
            let rule = "---|".repeat(UPSTREAMS.len() + 2);
            write!(page, "\n## Clients of {name}\n\n| | {columns} | asked by |\n|{rule}\n")
                .unwrap_or_default();
            for (row, title) in ROWS {
                let cells: Vec<String> = UPSTREAMS
                    .iter()
                    .map(|(upstream, _)| {
                        let mark = self.cell(row, client, upstream);
                        let Some(reason) = no_such_thing(row, client, upstream) else {
                            return mark.to_owned();
                        };
                        let number = reasons.iter().position(|known| *known == reason).unwrap_or_else(|| {
                            reasons.push(reason);
                            reasons.len() - 1
                        });
                        format!("{mark} {}", number + 1)
                    })
                    .collect();
                let cells = cells.join(" | ");
                writeln!(page, "| {title} | {cells} | {} |", self.askers(row, client)).unwrap_or_default();
            }
        }
        page.push_str("\n## Where there is a –\n\n");
        for (number, reason) in reasons.iter().enumerate() {
            writeln!(page, "{}. {reason}.", number + 1).unwrap_or_default();
        }
        page.push_str(KNOWN);
        page
    }
}

/// What the cells do not show.
const KNOWN: &str = "
## Known besides

- Request trailers reach an HTTP/1.1 upstream if the request names them in `trailer`.
";

const INTRODUCTION: &str = "\
# Compatibility

What passes between which protocols. A test writes this page from what it sees (`tests/tests/it/matrix.rs`;
`MEZU_WRITE_DOCS=1` renews it) and fails when the page says something else: nothing here is by hand.

Each cell is a client that shares no code with the product, an edge, a warpgate and a workload. The workload's own log is the judge
where a client cannot know. Columns are the scheme of `warpgate connect --upstream`: `http` is HTTP/1.1, `h2c` HTTP/2 without TLS, `https`
HTTP/2 over TLS, `unix` HTTP/1.1 on a local socket. ✓ works, ✗ does not, – is no such thing, for a reason below.
";
