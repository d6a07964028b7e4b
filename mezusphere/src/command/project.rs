//! `mezusphere project`: a tenant, with its environments, routes and users.

use clap::Subcommand;
use mezusphere_control::api::types::{CreateProject, UpdateProject};
use mezusphere_model::slug::Slug;
use serde_json::Value;

use super::{Context, YesArg, project_path};
use crate::failure::Failure;

/// A project holds environments, routes, users and keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a project with its production environment
    Create {
        /// Its short name, which its endpoint carries: 1 to 40 of a-z, 0-9 and single hyphens, not starting with xn.
        slug: Slug,
        /// Its name for people; the sign-in page shows it.
        #[arg(long)]
        name: Option<String>,
        /// Its owner; the installation's own organization if left out.
        #[arg(long)]
        organization: Option<String>,
    },
    /// List projects
    List,
    /// Show a project and its environments
    Show {
        /// The project.
        project: String,
    },
    /// Change a project's name
    Rename {
        /// The project.
        project: String,
        /// Its new name for people.
        name: String,
    },
    /// Delete a project with its environments, routes, users and keys
    Delete {
        /// The project.
        project: String,
        #[command(flatten)]
        yes: YesArg,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { slug, name, organization } => {
                let body = CreateProject { slug: slug.clone(), name, organization };
                let made = context.client.post("/projects", &body).await?;
                context.output.json(&made)?;
                let origin =
                    made.pointer("/environments/0/origin").and_then(Value::as_str).unwrap_or_default();
                context.output.say(&format!(
                    "Created project {slug}. Production will answer at {origin}\n  \
                     next: mezusphere route add {slug} '/*' --auth required"
                ))?;
            }
            Self::List => {
                let items = context.client.list("/projects").await?;
                let columns = [
                    ("PROJECT", "/slug"),
                    ("NAME", "/name"),
                    ("PRODUCTION", "/environments/0/origin"),
                    ("CREATED", "/created_at"),
                    ("ID", "/id"),
                ];
                context.output.list(
                    &items,
                    &columns,
                    "No projects yet. Create one: mezusphere project create NAME",
                )?;
            }
            Self::Show { project } => {
                let found = context.client.get(&project_path(&project)).await?;
                context.output.json(&found)?;
                if !context.output.is_json() {
                    let text =
                        |name: &str| found.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                    context.output.say(&format!("{}  {}\n", text("slug"), text("name")))?;
                    let environments = found.get("environments").and_then(Value::as_array).cloned();
                    let columns = [
                        ("ENVIRONMENT", "/slug"),
                        ("ORIGIN", "/origin"),
                        ("HOSTS", "/hosts"),
                        ("REVISION", "/revision"),
                    ];
                    context.output.list(&environments.unwrap_or_default(), &columns, "No environments.")?;
                }
            }
            Self::Rename { project, name } => {
                let changed = context.client.patch(&project_path(&project), &UpdateProject { name }).await?;
                context.output.json(&changed)?;
                context.output.say(&format!("Renamed project {project}."))?;
            }
            Self::Delete { project, yes } => {
                let what = format!("deleting {project} takes its environments, routes, users and keys along");
                yes.confirm(&what, &project)?;
                context.output.json(&context.client.delete(&project_path(&project)).await?)?;
                context.output.say(&format!("Deleted project {project}. Its tunnels end within seconds."))?;
            }
        }
        Ok(())
    }
}
