//! `mezusphere mail`: what waits to be sent, trying again, and whether mail works.

use clap::Subcommand;
use mezusphere_control::MailWay;
use serde_json::{Value, json};

use super::{Context, segment};
use crate::failure::{Failure, Kind};

/// Mail of the installation.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List mails that wait or were given up, oldest first
    List {
        /// Only those that were given up.
        #[arg(long)]
        failed: bool,
    },
    /// Try a mail again now
    Retry {
        /// The mail's id.
        #[arg(required_unless_present = "all")]
        mail: Option<String>,
        /// Every mail that was given up.
        #[arg(long, conflicts_with = "mail")]
        all: bool,
    },
    /// Send a mail that says that mail works, at once
    Test {
        /// To whom.
        #[arg(value_name = "EMAIL")]
        to: String,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { failed } => list(context, failed).await,
            Self::Retry { mail: Some(mail), .. } => {
                let mail = retry(context, &mail).await?;
                context.output.json(&mail)?;
                Ok(context.output.say(&format!("It is tried now: {}.", text(&mail, "/to")))?)
            }
            Self::Retry { mail: None, .. } => retry_all(context).await,
            Self::Test { to } => {
                let sent = context.client.post_long("/mail-test", &json!({ "to": to })).await?;
                context.output.json(&sent)?;
                let (by, from) = (text(&sent, "/by"), text(&sent, "/from"));
                Ok(context.output.say(&if by == MailWay::Log.to_string() {
                    format!("It stands in the server's log, from {from}: nothing leaves with --mail log.")
                } else {
                    format!("Taken by {by}, from {from}. Look for it in the mailbox of {to}, also among unwanted mail.")
                })?)
            }
        }
    }
}

async fn list(context: &Context, failed: bool) -> Result<(), Failure> {
    let mut items = context.client.list("/mails").await?;
    items.retain(|item| !failed || is_failed(item));
    let columns = [
        ("MAIL", "/id"),
        ("TO", "/to"),
        ("FOR", "/kind"),
        ("STATE", "/state"),
        ("TRIED", "/attempts"),
        ("NEXT", "/next"),
        ("WHY", "/error"),
    ];
    let row = |item: &Value| {
        let mut row = item.clone();
        // When a failed mail was given up is no time at which something will happen.
        let next =
            if is_failed(item) { Value::Null } else { item.get("next_at").cloned().unwrap_or_default() };
        if let Some(fields) = row.as_object_mut() {
            fields.insert("next".to_owned(), next);
        }
        row
    };
    context.output.list_as(&items, row, &columns, "No mail waits.")?;
    Ok(())
}

async fn retry(context: &Context, mail: &str) -> Result<Value, Failure> {
    context.client.post(&format!("/mails/{}/retry", segment(mail)), &json!({})).await
}

/// Retries what was given up; one that somebody else retried or that was forgotten meanwhile is left out.
async fn retry_all(context: &Context) -> Result<(), Failure> {
    let mut tried = Vec::new();
    for item in context.client.list("/mails").await?.iter().filter(|item| is_failed(item)) {
        match retry(context, &text(item, "/id")).await {
            Ok(mail) => tried.push(mail),
            Err(failure) if failure.kind == Kind::NotFound => {}
            Err(failure) => return Err(failure),
        }
    }
    let said = match tried.len() {
        0 => "No mail was given up.".to_owned(),
        1 => "1 mail is tried again.".to_owned(),
        n => format!("{n} mails are tried again."),
    };
    context.output.json(&Value::Array(tried))?;
    Ok(context.output.say(&said)?)
}

fn is_failed(item: &Value) -> bool {
    item.get("state").and_then(Value::as_str) == Some("failed")
}

fn text(item: &Value, at: &str) -> String {
    item.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
}
