//! `mezusphere project`: a tenant, with its environments, routes and users.

use clap::Subcommand;
use mezusphere_control::api::types::{Change, CreateProject, QuotaChanges, SetDirectory, UpdateProject};
use mezusphere_model::slug::Slug;
use serde_json::Value;

use super::{Context, YesArg, project_path};
use crate::failure::Failure;

/// Shown below the long help of `quota`.
const QUOTA_EXAMPLES: &str = "\
Examples:
  Show it:             mezusphere project quota shop
  Limit it:            mezusphere project quota shop --rate 500 --exchanges 2000
  Take a limit away:   mezusphere project quota shop --rate none";

/// A project holds environments, routes, users and keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a project with its production environment
    #[command(alias = "add")]
    Create {
        /// Its short name, which its endpoint carries: 1 to 40 of a-z, 0-9 and single hyphens, not starting with xn.
        slug: Slug,
        /// Its name for people; the sign-in page shows it.
        #[arg(long)]
        name: Option<String>,
        /// Its owner; the installation's own organization if left out.
        #[arg(long)]
        organization: Option<String>,
        /// A directory that projects of its owner share; one of its own if left out.
        #[arg(long, value_name = "NAME")]
        directory: Option<String>,
    },
    /// Let a project's users live in a shared directory; only while nobody uses it
    Set {
        /// The project.
        project: String,
        /// The directory, by name or id.
        #[arg(long, value_name = "NAME")]
        directory: String,
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
    /// Show or change what each edge gives to a project, so that none starves another
    #[command(after_long_help = QUOTA_EXAMPLES)]
    Quota {
        /// The project.
        project: String,
        /// Requests a second, for each edge; none for no limit.
        #[arg(long, value_name = "N|none", value_parser = number_or_none)]
        rate: Option<Change<u32>>,
        /// Requests under way at a time, for each edge; none for no limit.
        #[arg(long, value_name = "N|none", value_parser = number_or_none)]
        exchanges: Option<Change<u32>>,
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
            Self::Create { slug, name, organization, directory } => {
                let body = CreateProject { slug: slug.clone(), name, organization, directory };
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
            Self::Set { project, directory } => {
                let path = format!("{}/directory", project_path(&project));
                let body = SetDirectory { directory: directory.clone() };
                context.output.json(&context.client.put(&path, &body).await?)?;
                context.output.say(&format!("The users of {project} are those of {directory} now."))?;
            }
            Self::Rename { project, name } => {
                let changed = context.client.patch(&project_path(&project), &UpdateProject { name }).await?;
                context.output.json(&changed)?;
                context.output.say(&format!("Renamed project {project}."))?;
            }
            Self::Quota { project, rate, exchanges } => {
                let changes = QuotaChanges {
                    requests_per_second: rate.unwrap_or_default(),
                    exchanges: exchanges.unwrap_or_default(),
                };
                let found = if changes == QuotaChanges::default() {
                    context.client.get(&project_path(&project)).await?
                } else {
                    context.client.patch(&format!("{}/quota", project_path(&project)), &changes).await?
                };
                let quota = found.get("quota").cloned().unwrap_or_default();
                context.output.json(&quota)?;
                context.output.say(&quota_words(&project, &quota))?;
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

/// A whole number, or `none` for no limit.
fn number_or_none(text: &str) -> Result<Change<u32>, String> {
    if text == "none" {
        return Ok(Change::Clear);
    }
    let number = text.parse().ok().filter(|number| *number > 0);
    number.map(Change::Set).ok_or_else(|| "write a whole number from 1, or none for no limit".to_owned())
}

fn quota_words(project: &str, quota: &Value) -> String {
    let limit =
        |name: &str, unit: &str| quota.get(name).and_then(Value::as_u64).map(|most| format!("{most} {unit}"));
    let limits =
        [limit("requests_per_second", "requests a second"), limit("exchanges", "requests under way")];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    if limits.is_empty() {
        format!("Project {project} has no quota: each edge serves it as long as the others get their share.")
    } else {
        format!("Each edge gives project {project} {}.", limits.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_quota_is_a_number_or_none() {
        assert_eq!(number_or_none("500"), Ok(Change::Set(500)));
        assert_eq!(number_or_none("none"), Ok(Change::Clear));
        for bad in ["", "0", "-1", "many", "4294967296"] {
            assert!(number_or_none(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_quota_is_told_with_its_units() {
        assert!(quota_words("shop", &json!({})).contains("no quota"));
        assert_eq!(
            quota_words("shop", &json!({ "requests_per_second": 5, "exchanges": 9 })),
            "Each edge gives project shop 5 requests a second and 9 requests under way."
        );
    }
}
