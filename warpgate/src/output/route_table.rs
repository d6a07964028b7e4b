//! Routes as lines for people: a table when all are shown, one line each when something changed.

use super::event::{RouteLine, UpstreamState};
use super::text::clean;

/// Columns that are kept for who may use a route. One that demands more pushes only its own state to the right.
const ACCESS_WIDTH_MAX: usize = 40;

/// Adds a row for each route: address, upstream, access, state, aligned.
pub(super) fn table(text: &mut String, routes: &[RouteLine]) {
    let cells: Vec<[String; 4]> = routes
        .iter()
        .map(|route| {
            let target = route.target.as_deref().unwrap_or("not declared by this warpgate");
            let to = format!("→ {} {target}", route.upstream);
            [clean(&route.address), clean(&to), clean(&route.access), state(route)]
        })
        .collect();
    let width = |column: usize| {
        cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (first, second, third) = (width(0), width(1), width(2).min(ACCESS_WIDTH_MAX));
    for [address, to, access, state] in &cells {
        let row = format!("  {address:<first$}   {to:<second$}   {access:<third$}   {state}");
        text.push_str(row.trim_end());
        text.push('\n');
    }
}

/// A route in a line of its own.
pub(super) fn one_line(route: &RouteLine) -> String {
    let target = route.target.as_deref().unwrap_or("not declared by this warpgate");
    clean(&format!("{} → {} {target} ({})", route.address, route.upstream, route.access))
}

fn state(route: &RouteLine) -> String {
    match &route.state {
        None => String::new(),
        Some(UpstreamState::Up { status: Some(status), took_ms }) => format!("up: {status} ({took_ms} ms)"),
        Some(UpstreamState::Up { status: None, .. }) => "up, but it does not answer HTTP".to_owned(),
        Some(UpstreamState::Down { why }) => {
            // Short, so that a row fits a terminal.
            format!("DOWN: {}", clean(why.strip_prefix("connection ").unwrap_or(why)))
        }
    }
}
