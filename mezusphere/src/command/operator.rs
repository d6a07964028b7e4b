//! `mezusphere operator`: the people who administer, and keys for scripts.

use clap::Subcommand;
use mezusphere_control::api::types::CreateOperatorKey;
use mezusphere_model::slug::Name;
use serde_json::Value;

use super::{Context, OutArg, seconds, segment};
use crate::failure::{Failure, Kind};
use crate::output::Secret;

/// Operators are users of the installation's own directory.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List operators
    List,
    /// Make a new one-time sign-in link
    SignInLink {
        /// The operator's id or e-mail address.
        operator: String,
    },
    /// Make an API key that administers the installation
    CreateKey {
        /// What it is for.
        name: String,
        /// What it may do, such as projects:read; may be repeated. Everything if left out.
        #[arg(long = "permission", value_name = "NAME")]
        permissions: Vec<Name>,
        /// When it ends by itself: 12h, 30d.
        #[arg(long, value_name = "SPAN", value_parser = seconds)]
        expires_in: Option<u64>,
        #[command(flatten)]
        out: OutArg,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List => {
                let items = context.client.list("/operators").await?;
                let columns = [
                    ("EMAIL", "/email"),
                    ("NAME", "/name"),
                    ("CAN SIGN IN", "/can_sign_in"),
                    ("CREATED", "/created_at"),
                ];
                context.output.list(&items, &columns, "No operators.")?;
            }
            Self::SignInLink { operator } => {
                let path = format!("/operators/{}/sign-in-link", segment(&operator));
                let made = context.client.post(&path, &serde_json::json!({})).await?;
                let text = |name: &str| made.get(name).and_then(Value::as_str).unwrap_or_default();
                let said =
                    format!("Made a sign-in link for {operator}: good once, until {}.", text("expires_at"));
                let secret = Secret { field: "url", text: text("url"), said, then: String::new() };
                context.output.secret(&made, &secret, None)?;
            }
            Self::CreateKey { name, permissions, expires_in, out } => {
                let file = out.create()?;
                let permissions = (!permissions.is_empty()).then_some(permissions);
                let body = CreateOperatorKey { name, permissions, expires_in_s: expires_in };
                let made = context.client.post("/operator-keys", &body).await?;
                let text = made.get("secret").and_then(Value::as_str);
                let text = text.ok_or_else(|| Failure::new(Kind::Unexpected, "the server sent no key"))?;
                let then =
                    "  next: MEZUSPHERE_API_KEY=… mezusphere --api https://console.… project list".to_owned();
                let said = "Created a key that administers this installation.".to_owned();
                context.output.secret(&made, &Secret { field: "secret", text, said, then }, file)?;
            }
        }
        Ok(())
    }
}
