//! What the Python clients and chromium ask.

use anyhow::Result;
use mezusphere_tests::clients::{Place, Talk};
use mezusphere_tests::matrix::no_such_thing;

use super::scene::Scene;
use super::{Cell, Found, Judge, listen, tag};

/// The rows of gRPC.
pub(super) const GRPC: [&str; 6] =
    ["grpc_unary", "grpc_server_stream", "grpc_client_stream", "grpc_both", "grpc_error", "grpc_cancel"];

/// What every transport is asked.
const EVERYWHERE: [&str; 19] = [
    "get",
    "methods",
    "head",
    "ranges",
    "no_body",
    "empty_bodies",
    "bodies",
    "streamed",
    "duplex",
    "response_trailers",
    "request_trailers",
    "early_hints",
    "continued",
    "continue_refused",
    "early_final",
    "cut",
    "cut_upload",
    "leaves",
    "leaves_early",
];

/// The Python library that speaks this protocol.
pub(super) fn name(client: &str) -> &'static str {
    match client {
        "h1" => "h11",
        "h2" => "hyper-h2",
        _ => "aioquic",
    }
}

/// The rows it is asked for.
pub(super) fn rows(client: &str) -> Vec<&'static str> {
    let more: &[&str] = match client {
        "h1" => &["other_upgrade"],
        "h2" => &["other_upgrade", "websocket"],
        _ => &[],
    };
    [EVERYWHERE.as_slice(), more].concat()
}

/// Asks for all of [`rows`].
pub(super) async fn features(scene: &Scene, place: &Place, cell: Cell) -> Result<Found> {
    ask(scene, place, cell, &rows(cell.0)).await
}

/// Asks for these rows; the workload's log judges what the client cannot know.
pub(super) async fn ask(scene: &Scene, place: &Place, cell: Cell, rows: &[&str]) -> Result<Found> {
    let tag = tag("py", cell, place);
    let asked: Vec<&str> =
        rows.iter().copied().filter(|row| no_such_thing(row, cell.0, cell.1).is_none()).collect();
    if asked.is_empty() {
        return Ok(Found::new());
    }
    let arguments = [["--protocol", cell.0, "--tag", &tag].as_slice(), &asked].concat();
    let talk = Talk::at(place, "features.py", &arguments)?;
    listen(talk, Some(Judge { workload: &scene.workload, tag: &tag })).await
}

/// WebSocket over HTTP/1.1, by a library that speaks nothing else.
pub(super) async fn websocket(place: &Place) -> Result<Found> {
    listen(Talk::at(place, "websocket_h1.py", &[])?, None).await
}

/// What a page asks.
pub(super) async fn chromium(place: &Place, cell: Cell) -> Result<Found> {
    let (origin, tag) = (place.url(""), tag("chromium", cell, place));
    let talk = Talk::node("chromium.mjs", &[("MEZU_URL", &origin), ("MEZU_TAG", &tag)])?;
    listen(talk, None).await
}

/// All of gRPC, by grpcio.
pub(super) async fn grpc(place: &Place, cell: Cell) -> Result<Found> {
    let tag = tag("grpcio", cell, place);
    let arguments = [["--tag", &tag].as_slice(), &GRPC].concat();
    listen(Talk::at(place, "grpc_client.py", &arguments)?, None).await
}
