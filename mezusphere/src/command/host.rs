//! `mezusphere host`: custom domains of an environment.

use clap::Subcommand;
use mezusphere_control::api::types::AddHost;

use super::{Context, EnvironmentArg, segment};
use crate::failure::Failure;

/// Hosts an environment answers on, beside its endpoint.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a custom domain
    Add {
        /// The project.
        project: String,
        /// The host name, without scheme and port.
        host: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
    /// List an environment's hosts
    List {
        /// The project.
        project: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
    /// Remove a custom domain
    Remove {
        /// The project.
        project: String,
        /// The host name.
        host: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Add { project, host, environment } => {
                let path = format!("{}/hosts", environment.path(&project));
                let made = context.client.post(&path, &AddHost { host: host.clone() }).await?;
                context.output.json(&made)?;
                context
                    .output
                    .say(&format!("Added {host} to {project}.\n  next: point its DNS record at an edge"))?;
            }
            Self::List { project, environment } => {
                let items = context.client.list(&format!("{}/hosts", environment.path(&project))).await?;
                let columns = [("HOST", "/host"), ("ENDPOINT", "/endpoint"), ("CREATED", "/created_at")];
                context.output.list(&items, &columns, "No hosts.")?;
            }
            Self::Remove { project, host, environment } => {
                let path = format!("{}/hosts/{}", environment.path(&project), segment(&host));
                context.output.json(&context.client.delete(&path).await?)?;
                context.output.say(&format!("Removed {host} from {project}."))?;
            }
        }
        Ok(())
    }
}
