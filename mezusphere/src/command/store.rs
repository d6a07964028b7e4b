//! `mezusphere store`: moving the state of a single node into PostgreSQL, so that more nodes can share it.

use clap::Subcommand;
use serde_json::{Value, json};

use super::Context;
use crate::failure::Failure;

/// Where the installation's state is kept.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy everything into an empty PostgreSQL database, verify it, and make the server stop writing to the old one
    Migrate {
        /// The database: `postgres://user:password@host/database`.
        #[arg(long, env = "MEZUSPHERE_STORE", hide_env_values = true, value_name = "URL")]
        to: String,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::Migrate { to } = self;
        context.output.say("Copying. Traffic goes on; changes and sign-ins wait until it is done.")?;
        let done = context.client.post_long("/store/migrate", &json!({ "to": to })).await?;
        context.output.json(&done)?;
        let count = |name: &str| done.get(name).and_then(Value::as_u64).unwrap_or(0);
        context.output.say(&format!(
            "Moved and verified: {} rows in {} tables.\n\n  \
             next: start the server again with the same flags and --store URL (or MEZUSPHERE_STORE). Until then it serves, and\n        \
             takes no changes. The old database stays as it was; delete it when the new one has a backup.",
            count("rows"),
            count("tables"),
        ))?;
        Ok(())
    }
}
