//! `mezusphere host`: custom domains of an environment.

use clap::Subcommand;
use mezusphere_control::api::types::AddHost;
use mezusphere_model::platform::PRODUCTION;
use serde_json::{Value, json};

use super::{Context, EnvironmentArg, certificate, segment};
use crate::failure::Failure;

/// Hosts an environment answers on, beside its endpoint.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a custom domain
    Add {
        /// The project.
        project: String,
        /// The host name, without scheme and port.
        host: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
    /// Look now for the DNS record that proves a custom domain to be yours
    Verify {
        /// The project.
        project: String,
        /// The host name.
        host: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
    /// List an environment's hosts
    List {
        /// The project.
        project: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
    /// Remove a custom domain
    Remove {
        /// The project.
        project: String,
        /// The host name.
        host: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Add { project, host, environment } => {
                let path = format!("{}/hosts", environment.path(&project));
                let made = context.client.post(&path, &AddHost { host: host.clone() }).await?;
                context.output.json(&made)?;
                context.output.say(&added(&project, &host, &environment.environment, &made))?;
            }
            Self::Verify { project, host, environment } => {
                let path = format!("{}/hosts/{}/verify", environment.path(&project), segment(&host));
                context.output.json(&context.client.post(&path, &json!({})).await?)?;
                context.output.say(&format!(
                    "{host} is proven to be yours, and published.\n  next: point its DNS record at an edge"
                ))?;
            }
            Self::List { project, environment } => {
                let items = context.client.list(&format!("{}/hosts", environment.path(&project))).await?;
                let columns = [
                    ("HOST", "/host"),
                    ("ENDPOINT", "/endpoint"),
                    ("STATE", "/standing"),
                    ("CERTIFICATE UNTIL", "/certificate/not_after"),
                    ("NEXT", "/next"),
                    ("WHY", "/why"),
                ];
                context.output.list_as(&items, row, &columns, "No hosts.")?;
                for item in &items {
                    if item.get("verification").is_some() {
                        context.output.say(&format!("\n{}", to_publish(item)))?;
                    } else if item.get("contest").is_some() {
                        context.output.say(&format!("\n{}", to_keep(item)))?;
                    }
                }
            }
            Self::Remove { project, host, environment } => {
                let path = format!("{}/hosts/{}", environment.path(&project), segment(&host));
                context.output.json(&context.client.delete(&path).await?)?;
                context.output.say(&format!("Removed {host} from {project}."))?;
            }
        }
        Ok(())
    }
}

fn text<'a>(item: &'a Value, at: &str) -> &'a str {
    item.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

/// What is said of a host that was added.
fn added(project: &str, host: &str, environment: &str, made: &Value) -> String {
    if made.get("verification").is_none() {
        return format!("Added {host} to {project}.\n  next: point its DNS record at an edge");
    }
    let verify = if environment == PRODUCTION {
        format!("mezusphere host verify {project} {host}")
    } else {
        format!("mezusphere host verify {project} {host} --environment {environment}")
    };
    format!("{host} is published once it is proven to be yours.\n{}\n  next: {verify}", to_publish(made))
}

/// The record that proves a host, as it is typed into a zone.
fn to_publish(item: &Value) -> String {
    let part = |at| text(item, at);
    format!(
        "  publish in its DNS:  {}  {}  \"{}\"\n  it is looked for until {}",
        part("/verification/record"),
        part("/verification/kind"),
        part("/verification/value"),
        part("/verification/until"),
    )
}

/// The record that keeps a host which another project proves too.
fn to_keep(item: &Value) -> String {
    let part = |at| text(item, at);
    format!(
        "  another project has a record for {}. To keep the host, publish in its DNS:\n  {}  {}  \"{}\"\n  \
         if it is not there by {}, the host is the other project's",
        part("/host"),
        part("/contest/record"),
        part("/contest/kind"),
        part("/contest/value"),
        part("/contest/until"),
    )
}

/// What people see of a host in a list.
fn row(item: &Value) -> Value {
    let contested = Value::from("another project has a DNS record for it");
    let (standing, next, why) = match (item.get("verification"), item.get("certificate")) {
        _ if item.get("contest").is_some() => ("contested", item.pointer("/contest/until"), Some(&contested)),
        (Some(proof), _) => ("waits for its proof", proof.get("next_at"), proof.get("error")),
        (None, Some(summary)) if text(item, "/certificate/not_after").is_empty() => {
            ("waits for its certificate", summary.get("next_at"), summary.pointer("/error/detail"))
        }
        (None, Some(summary)) => {
            (certificate::standing(summary), summary.get("next_at"), summary.pointer("/error/detail"))
        }
        (None, None) => ("published", None, None),
    };
    let (next, why) = (next.cloned().unwrap_or_default(), why.cloned().unwrap_or_default());
    let mut row = item.clone();
    if let Some(fields) = row.as_object_mut() {
        fields.insert("standing".to_owned(), standing.into());
        fields.insert("next".to_owned(), next);
        fields.insert("why".to_owned(), why);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Value {
        json!({
            "host": "www.shop.example", "endpoint": false, "state": "pending",
            "verification": {
                "record": "_mezusphere.www.shop.example", "kind": "TXT", "value": "mezusphere-verify=abc",
                "next_at": "soon", "until": "later", "error": "there is no TXT record yet",
            },
        })
    }

    #[test]
    fn a_host_that_must_be_proven_says_what_to_publish_and_what_to_do_then() {
        let said = added("shop", "www.shop.example", "staging", &pending());
        assert!(said.contains("_mezusphere.www.shop.example  TXT  \"mezusphere-verify=abc\""), "{said}");
        assert!(
            said.ends_with("next: mezusphere host verify shop www.shop.example --environment staging"),
            "{said}"
        );
        let said = added("shop", "a.localhost", PRODUCTION, &json!({ "host": "a.localhost" }));
        assert!(said.contains("next: point its DNS record"), "{said}");
    }

    #[test]
    fn a_list_says_what_each_host_waits_for() {
        let seen = row(&pending());
        assert_eq!(
            (text(&seen, "/standing"), text(&seen, "/why")),
            ("waits for its proof", "there is no TXT record yet")
        );
        let waiting = json!({ "host": "a.example", "certificate": {
            "state": "failed", "next_at": "soon", "error": { "detail": "refused" } } });
        let seen = row(&waiting);
        assert_eq!(
            (text(&seen, "/standing"), text(&seen, "/next"), text(&seen, "/why")),
            ("waits for its certificate", "soon", "refused")
        );
        let contested = json!({ "host": "a.example", "certificate": { "state": "valid", "not_after": "later" },
            "contest": { "record": "_mezusphere.a.example", "kind": "TXT", "value": "ours", "until": "soon" } });
        let seen = row(&contested);
        assert_eq!((text(&seen, "/standing"), text(&seen, "/next")), ("contested", "soon"));
        assert!(to_keep(&contested).contains("_mezusphere.a.example  TXT  \"ours\""));
        let good = json!({ "host": "a.example", "certificate": { "state": "valid", "not_after": "later" } });
        assert_eq!(text(&row(&good), "/standing"), "valid");
    }
}
