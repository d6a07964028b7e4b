//! `mezusphere warpgate`: who has connected, and shutting one out.

use clap::Subcommand;

use super::{Context, project_path, segment};
use crate::failure::Failure;

/// Warpgates of a project and their tunnels.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List a project's warpgates
    List {
        /// The project.
        project: String,
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
            Self::List { project } => list(context, &project).await,
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

async fn list(context: &Context, project: &str) -> Result<(), Failure> {
    let items = context.client.list(&format!("{}/warpgates", project_path(project))).await?;
    let columns = [
        ("WARPGATE", "/id"),
        ("ENVIRONMENT", "/environment"),
        ("HOST", "/hostname"),
        ("CONNECTED", "/connected"),
        ("EDGE", "/tunnels/0/edge"),
        ("FROM", "/tunnels/0/remote"),
        ("VERSION", "/agent"),
        ("CERTIFICATE UNTIL", "/certificate_until"),
    ];
    let empty = format!("No warpgate has connected. Make a key: mezusphere api-key create {project}");
    context.output.list(&items, &columns, &empty)?;
    Ok(())
}
