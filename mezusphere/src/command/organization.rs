//! `mezusphere organization`: who owns projects.

use clap::Subcommand;
use mezusphere_control::api::types::CreateOrganization;
use mezusphere_model::slug::Slug;

use super::Context;
use crate::failure::Failure;

/// Organizations own projects.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an organization
    Create {
        /// Its short name: lower-case letters, digits, hyphens.
        slug: Slug,
        /// Its name for people.
        #[arg(long)]
        name: Option<String>,
    },
    /// List organizations
    List,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { slug, name } => {
                let made = context
                    .client
                    .post("/organizations", &CreateOrganization { slug: slug.clone(), name })
                    .await?;
                context.output.json(&made)?;
                context.output.say(&format!(
                    "Created organization {slug}.\n  next: mezusphere project create NAME --organization {slug}"
                ))?;
            }
            Self::List => {
                let items = context.client.list("/organizations").await?;
                let columns =
                    [("ORGANIZATION", "/slug"), ("NAME", "/name"), ("CREATED", "/created_at"), ("ID", "/id")];
                context.output.list(&items, &columns, "No organizations yet.")?;
            }
        }
        Ok(())
    }
}
