//! `mezusphere api-key`: credentials of machines. A secret is shown once, when its key is made.

use clap::Subcommand;
use mezusphere_control::api::types::{CreateApiKey, RotateApiKey};
use mezusphere_model::slug::Name;
use serde_json::Value;

use super::{Context, project_path, seconds, segment};
use crate::failure::{Failure, Kind};

/// API keys of a project's service accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a key; by default one that connects a warpgate
    Create {
        /// The project.
        project: String,
        /// The service account, made if it is missing. (default: connect-ENVIRONMENT for keys that connect, else default)
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// What it may do: connect (run a warpgate), request (call protected routes), or an admin permission such as
        /// routes:write; may be repeated.
        #[arg(long = "scope", value_name = "NAME", default_value = "connect")]
        scopes: Vec<Name>,
        /// For connect: the environment.
        #[arg(long, short, value_name = "NAME")]
        environment: Option<String>,
        /// When it ends by itself: 12h, 30d.
        #[arg(long, value_name = "SPAN", value_parser = seconds)]
        expires_in: Option<u64>,
    },
    /// List a project's keys
    List {
        /// The project.
        project: String,
    },
    /// Take a key back; live tunnels with it end within seconds
    Revoke {
        /// The project.
        project: String,
        /// The key's id.
        key: String,
    },
    /// Make a second live key with the same rights
    Rotate {
        /// The project.
        project: String,
        /// The key's id.
        key: String,
        /// When the new key ends by itself: 12h, 30d.
        #[arg(long, value_name = "SPAN", value_parser = seconds)]
        expires_in: Option<u64>,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let all = |project: &str| format!("{}/api-keys", project_path(project));
        match self {
            Self::Create { project, account, scopes, environment, expires_in } => {
                let body = CreateApiKey { account, scopes, environment, expires_in_s: expires_in };
                show_once(context, &context.client.post(&all(&project), &body).await?)?;
            }
            Self::List { project } => {
                let items = context.client.list(&all(&project)).await?;
                let columns = [
                    ("KEY", "/id"),
                    ("ACCOUNT", "/account_name"),
                    ("SCOPES", "/scopes"),
                    ("STATE", "/state"),
                    ("ENDS", "/hint"),
                    ("LAST USED", "/last_used_at"),
                    ("EXPIRES", "/expires_at"),
                ];
                context.output.list(
                    &items,
                    &columns,
                    "No keys yet. Create one: mezusphere api-key create PROJECT",
                )?;
            }
            Self::Revoke { project, key } => {
                let path = format!("{}/{}", all(&project), segment(&key));
                context.output.json(&context.client.delete(&path).await?)?;
                context.output.say(&format!("Revoked {key}. Tunnels that used it end within seconds."))?;
            }
            Self::Rotate { project, key, expires_in } => {
                let path = format!("{}/{}/rotate", all(&project), segment(&key));
                show_once(
                    context,
                    &context.client.post(&path, &RotateApiKey { expires_in_s: expires_in }).await?,
                )?;
                context.output.say(&format!("  then: mezusphere api-key revoke {project} {key}"))?;
            }
        }
        Ok(())
    }
}

fn show_once(context: &Context, made: &Value) -> Result<(), Failure> {
    context.output.json(made)?;
    let secret = made.get("secret").and_then(Value::as_str);
    let secret = secret.ok_or_else(|| Failure::new(Kind::Unexpected, "the server sent no key"))?;
    let id = made.pointer("/key/id").and_then(Value::as_str).unwrap_or_default();
    context.output.say(&format!("Created {id}. This is the only time the key is shown:\n\n  {secret}\n"))?;
    if secret.starts_with("mzw_") {
        context.output.say("  next: warpgate connect --key-file FILE --upstream http://127.0.0.1:8080")?;
    } else {
        context.output.say("  next: send it as `Authorization: Bearer …`")?;
    }
    Ok(())
}
