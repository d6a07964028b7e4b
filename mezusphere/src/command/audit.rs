//! `mezusphere audit`: who changed what, and when.

use clap::Subcommand;

use super::Context;
use crate::failure::Failure;

/// The audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List entries, newest first
    List {
        /// Only this project's.
        #[arg(long)]
        project: Option<String>,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::List { project } = self;
        let path =
            project.map_or("/audit".to_owned(), |project| format!("{}/audit", super::project_path(&project)));
        let items = context.client.list(&path).await?;
        let columns = [
            ("TIME", "/at"),
            ("WHO", "/actor"),
            ("WHAT", "/action"),
            ("NAME", "/target_name"),
            ("TARGET", "/target"),
        ];
        context.output.list(&items, &columns, "Nothing has happened yet.")?;
        Ok(())
    }
}
