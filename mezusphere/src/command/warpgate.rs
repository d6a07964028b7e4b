//! `mezusphere warpgate`: who has connected, and shutting one out.

use clap::Subcommand;
use serde_json::Value;

use super::{Context, project_path, segment};
use crate::failure::Failure;

/// Warpgates of a project and their tunnels.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List a project's warpgates
    List {
        /// The project.
        project: String,
        /// Also those whose certificate ended and that have no tunnel.
        #[arg(long)]
        all: bool,
    },
    /// Shut one warpgate out: its tunnels end within seconds, and it may not enrol again
    Evict {
        /// The project.
        project: String,
        /// The warpgate's id.
        warpgate: String,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { project, all } => list(context, &project, all).await,
            Self::Evict { project, warpgate } => {
                let path = format!("{}/warpgates/{}", project_path(&project), segment(&warpgate));
                context.output.json(&context.client.delete(&path).await?)?;
                context.output.say(&format!(
                    "Evicted {warpgate}. Its key still lets others in: mezusphere api-key revoke takes that back."
                ))?;
                Ok(())
            }
        }
    }
}

async fn list(context: &Context, project: &str, all: bool) -> Result<(), Failure> {
    let mut items = context.client.list(&format!("{}/warpgates", project_path(project))).await?;
    let known = items.len();
    items.retain(|item| all || state(item) != "ended");
    let columns = [
        ("WARPGATE", "/id"),
        ("ENVIRONMENT", "/environment"),
        ("HOST", "/hostname"),
        ("STATE", "/state"),
        ("EDGES", "/edges"),
        ("FROM", "/tunnels/0/remote"),
        ("VERSION", "/agent"),
        ("CERTIFICATE UNTIL", "/certificate_until"),
    ];
    let empty = format!("No warpgate has connected. Make a key: mezusphere api-key create {project}");
    let hidden = known.saturating_sub(items.len());
    let gone = format!("{hidden} more whose certificate ended; --all shows them.");
    let empty = if hidden > 0 { "No warpgate is connected." } else { &empty };
    let row = |item: &Value| {
        let mut row = item.clone();
        if let Some(fields) = row.as_object_mut() {
            fields.insert("state".to_owned(), state(item).into());
            let tunnels = item.get("tunnels").and_then(Value::as_array).map_or(0, Vec::len);
            fields.insert("edges".to_owned(), tunnels.into());
        }
        row
    };
    context.output.list_as(&items, row, &columns, empty)?;
    if hidden > 0 {
        context.output.say(&gone)?;
    }
    Ok(())
}

/// How a warpgate does, in one word. One that ended has neither a tunnel nor a certificate to make one with.
fn state(item: &Value) -> &'static str {
    let is = |field: &str| item.get(field).and_then(Value::as_bool).unwrap_or(false);
    match (is("evicted"), is("connected"), is("ended")) {
        (_, true, _) => "connected",
        (_, false, true) => "ended",
        (true, false, false) => "evicted",
        (false, false, false) => "away",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_warpgate_with_a_tunnel_has_not_ended() {
        let rows = [
            (json!({ "connected": true, "ended": true }), "connected"),
            (json!({ "connected": false, "ended": true, "evicted": true }), "ended"),
            (json!({ "connected": false, "ended": false, "evicted": true }), "evicted"),
            (json!({ "connected": false }), "away"),
        ];
        for (item, word) in rows {
            assert_eq!(state(&item), word, "{item}");
        }
    }
}
