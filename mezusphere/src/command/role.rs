//! `mezusphere role`: what members of a role may do.

use clap::Subcommand;
use mezusphere_control::api::types::PutRole;
use mezusphere_model::slug::Name;

use super::{Context, project_path, segment};
use crate::failure::Failure;

/// Roles of a project; routes ask for them or for the permissions they give.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a role, or replace its permissions
    Set {
        /// The project.
        project: String,
        /// The role.
        role: Name,
        /// A permission it gives; may be repeated.
        #[arg(long = "permission", value_name = "NAME")]
        permissions: Vec<Name>,
    },
    /// List a project's roles
    List {
        /// The project.
        project: String,
    },
    /// Delete a role; users lose it at once
    Delete {
        /// The project.
        project: String,
        /// The role.
        role: Name,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let path = |project: &str, role: &Name| {
            format!("{}/roles/{}", project_path(project), segment(role.as_str()))
        };
        match self {
            Self::Set { project, role, permissions } => {
                let made = context.client.put(&path(&project, &role), &PutRole { permissions }).await?;
                context.output.json(&made)?;
                context.output.say(&format!(
                    "Role {role} of {project} is set.\n  next: mezusphere user create {project} EMAIL --role {role}"
                ))?;
            }
            Self::List { project } => {
                let items = context.client.list(&format!("{}/roles", project_path(&project))).await?;
                let columns =
                    [("ROLE", "/name"), ("PERMISSIONS", "/permissions"), ("CREATED", "/created_at")];
                context.output.list(
                    &items,
                    &columns,
                    "No roles yet. Create one: mezusphere role set PROJECT ROLE",
                )?;
            }
            Self::Delete { project, role } => {
                context.output.json(&context.client.delete(&path(&project, &role)).await?)?;
                context.output.say(&format!("Deleted role {role} of {project}."))?;
            }
        }
        Ok(())
    }
}
