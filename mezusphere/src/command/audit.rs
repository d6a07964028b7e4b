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
        /// How many of the newest.
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 1000, value_parser = count)]
        limit: usize,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::List { project, limit } = self;
        let path =
            project.map_or("/audit".to_owned(), |project| format!("{}/audit", super::project_path(&project)));
        let (items, is_more) = context.client.list_most(&path, limit).await?;
        let columns = [
            ("TIME", "/at"),
            ("WHO", "/actor"),
            ("WHAT", "/action"),
            ("NAME", "/target_name"),
            ("TARGET", "/target"),
        ];
        context.output.list(&items, &columns, "Nothing has happened yet.")?;
        if is_more {
            context.output.say(&format!("These are the newest {limit}; --limit shows more."))?;
        }
        Ok(())
    }
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "write a whole number from 1".to_owned())
}
