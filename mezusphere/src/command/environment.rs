//! `mezusphere environment`: where routes live and warpgates connect.

use clap::Subcommand;
use mezusphere_control::api::types::CreateEnvironment;
use mezusphere_model::slug::Slug;
use serde_json::Value;

use super::{Context, YesArg, project_path, segment};
use crate::failure::Failure;

/// An environment has its own endpoint, routes and warpgates.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an environment
    Create {
        /// The project.
        project: String,
        /// Its short name: staging, preview-7.
        slug: Slug,
    },
    /// List a project's environments
    List {
        /// The project.
        project: String,
    },
    /// Delete an environment with its routes, hosts and warpgates
    Delete {
        /// The project.
        project: String,
        /// The environment.
        environment: String,
        #[command(flatten)]
        yes: YesArg,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { project, slug } => {
                let path = format!("{}/environments", project_path(&project));
                let made = context.client.post(&path, &CreateEnvironment { slug: slug.clone() }).await?;
                context.output.json(&made)?;
                let origin = made.get("origin").and_then(Value::as_str).unwrap_or_default();
                context.output.say(&format!(
                    "Created environment {slug} of {project}. It will answer at {origin}\n  \
                     next: mezusphere route add {project} '/*' --environment {slug} --auth required"
                ))?;
            }
            Self::List { project } => {
                let items = context.client.list(&format!("{}/environments", project_path(&project))).await?;
                let columns = [
                    ("ENVIRONMENT", "/slug"),
                    ("ORIGIN", "/origin"),
                    ("HOSTS", "/hosts"),
                    ("REVISION", "/revision"),
                ];
                context.output.list(&items, &columns, "No environments.")?;
            }
            Self::Delete { project, environment, yes } => {
                let what = format!(
                    "deleting {environment} of {project} takes its routes, hosts and warpgates along"
                );
                yes.confirm(&what, &environment)?;
                let path = format!("{}/environments/{}", project_path(&project), segment(&environment));
                context.output.json(&context.client.delete(&path).await?)?;
                context.output.say(&format!("Deleted environment {environment} of {project}."))?;
            }
        }
        Ok(())
    }
}
