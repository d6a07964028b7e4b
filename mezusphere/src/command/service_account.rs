//! `mezusphere service-account`: machines of a project.

use clap::Subcommand;
use mezusphere_control::api::types::CreateServiceAccount;
use mezusphere_model::slug::{Name, Slug};

use super::{Context, project_path, segment};
use crate::failure::Failure;

/// Service accounts hold API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a service account
    Create {
        /// The project.
        project: String,
        /// Its short name.
        name: Slug,
        /// A role it has; may be repeated.
        #[arg(long = "role", value_name = "NAME")]
        roles: Vec<Name>,
    },
    /// List a project's service accounts
    List {
        /// The project.
        project: String,
    },
    /// Delete a service account with its keys; tunnels that used them end within seconds
    Delete {
        /// The project.
        project: String,
        /// Its name or id.
        account: String,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { project, name, roles } => {
                let path = format!("{}/service-accounts", project_path(&project));
                let made =
                    context.client.post(&path, &CreateServiceAccount { name: name.clone(), roles }).await?;
                context.output.json(&made)?;
                context.output.say(&format!(
                    "Created service account {name} of {project}.\n  \
                     next: mezusphere api-key create {project} --account {name}"
                ))?;
            }
            Self::List { project } => {
                let items =
                    context.client.list(&format!("{}/service-accounts", project_path(&project))).await?;
                let columns =
                    [("ACCOUNT", "/name"), ("ROLES", "/roles"), ("CREATED", "/created_at"), ("ID", "/id")];
                context.output.list(&items, &columns, "No service accounts yet.")?;
            }
            Self::Delete { project, account } => {
                let path = format!("{}/service-accounts/{}", project_path(&project), segment(&account));
                context.output.json(&context.client.delete(&path).await?)?;
                context.output.say(&format!(
                    "Deleted service account {account} of {project} with its keys. Tunnels that used them end within seconds."
                ))?;
            }
        }
        Ok(())
    }
}
