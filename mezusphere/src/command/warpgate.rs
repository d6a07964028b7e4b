//! `mezusphere warpgate`: who has connected.

use clap::Subcommand;

use super::{Context, project_path};
use crate::failure::Failure;

/// Warpgates of a project and their tunnels.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List a project's warpgates
    List {
        /// The project.
        project: String,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::List { project } = self;
        let items = context.client.list(&format!("{}/warpgates", project_path(&project))).await?;
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
}
