//! `mezusphere api-key`: credentials of machines. A secret is shown once, when its key is made.

use clap::Subcommand;
use mezusphere_control::api::types::{CreateApiKey, RotateApiKey};
use mezusphere_model::slug::Name;
use serde_json::Value;

use super::{Context, OutArg, project_path, seconds, segment};
use crate::failure::{Failure, Kind};
use crate::hint::quoted;
use crate::output::{Secret, SecretFile};

/// API keys of a project's service accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a key; by default one that connects a warpgate
    Create {
        /// The project.
        project: String,
        /// The service account. (default: connect-ENVIRONMENT for keys that connect, else default; made if it is missing)
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
        #[command(flatten)]
        out: OutArg,
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
        #[command(flatten)]
        out: OutArg,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let all = |project: &str| format!("{}/api-keys", project_path(project));
        match self {
            Self::Create { project, account, scopes, environment, expires_in, out } => {
                let file = out.create()?;
                let body = CreateApiKey { account, scopes, environment, expires_in_s: expires_in };
                let made = context.client.post(&all(&project), &body).await?;
                show_once(context, &made, &out, file, None)?;
            }
            Self::List { project } => {
                let items = context.client.list(&all(&project)).await?;
                let columns = [
                    ("KEY", "/id"),
                    ("ACCOUNT", "/account_name"),
                    ("SCOPES", "/scopes"),
                    ("STATE", "/state"),
                    ("KEY ENDS IN", "/hint"),
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
            Self::Rotate { project, key, expires_in, out } => {
                let file = out.create()?;
                let path = format!("{}/{}/rotate", all(&project), segment(&key));
                let made = context.client.post(&path, &RotateApiKey { expires_in_s: expires_in }).await?;
                let then = format!("  then: mezusphere api-key revoke {project} {key}");
                let then = context.output.complete(&then);
                show_once(context, &made, &out, file, Some(&then))?;
            }
        }
        Ok(())
    }
}

fn show_once(
    context: &Context,
    made: &Value,
    out: &OutArg,
    file: Option<SecretFile>,
    then: Option<&str>,
) -> Result<(), Failure> {
    let text = made.get("secret").and_then(Value::as_str);
    let text = text.ok_or_else(|| Failure::new(Kind::Unexpected, "the server sent no key"))?;
    let id = made.pointer("/key/id").and_then(Value::as_str).unwrap_or_default();
    let at = out.path().map_or("FILE".to_owned(), |path| quoted(&path.display().to_string()));
    let next = if text.starts_with("mzw_") {
        format!("  next: warpgate connect --key-file {at} --upstream http://127.0.0.1:8080")
    } else {
        "  next: send it as `Authorization: Bearer …`".to_owned()
    };
    let then = then.map_or(next.clone(), |then| format!("{next}\n{then}"));
    let secret = Secret { field: "secret", text, said: format!("Created key {id}."), then };
    context.output.secret(made, &secret, file)
}
