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
    /// Show a role
    Show {
        /// The project.
        project: String,
        /// The role.
        role: Name,
    },
    /// Delete a role; users lose it at once. Refused while routes need it
    Delete {
        /// The project.
        project: String,
        /// The role.
        role: Name,
        /// Delete it though routes need it: nobody enters them by it any more.
        #[arg(long)]
        force: bool,
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
            Self::Show { project, role } => {
                let found = context.client.get(&path(&project, &role)).await?;
                let fields = [("ROLE", "/name"), ("PERMISSIONS", "/permissions"), ("CREATED", "/created_at")];
                context.output.show(&found, &fields)?;
            }
            Self::Delete { project, role, force } => {
                let query = if force { "?force=true" } else { "" };
                let path = format!("{}{query}", path(&project, &role));
                context.output.json(&context.client.delete(&path).await?)?;
                context.output.say(&format!("Deleted role {role} of {project}."))?;
            }
        }
        Ok(())
    }
}
