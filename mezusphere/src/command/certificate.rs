//! `mezusphere certificate`: the certificates that clients see, what failed, what comes next.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Context, segment};
use crate::failure::Failure;
use crate::output::Column;

/// The last steps of the time-line that `show` prints.
const STEPS_SHOWN: usize = 10;

/// Public certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List public certificates: where each comes from, until when it is good, what failed
    List {
        /// Only those whose last try failed, or that are not there yet.
        #[arg(long)]
        failed: bool,
    },
    /// Show a certificate with its last error, its next try and its last steps
    Show {
        /// Its first name.
        certificate: String,
    },
    /// Order a certificate now, or look at its files now, whatever it waits for
    Retry {
        /// Its first name.
        certificate: String,
    },
    /// List what happened to a certificate, oldest first
    Events {
        /// Its first name.
        certificate: String,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { failed } => list(context, failed).await,
            Self::Show { certificate } => show(context, &certificate).await,
            Self::Retry { certificate } => {
                let told = context.client.post(&format!("{}/retry", path(&certificate)), &json!({})).await?;
                context.output.json(&told)?;
                let said = match text(&told, "/source") {
                    "acme" => format!(
                        "It is ordered now.\n  next: mezusphere certificate show {}",
                        text(&told, "/name")
                    ),
                    _ => match told.pointer("/error/detail").and_then(Value::as_str) {
                        Some(why) => format!("Its files were looked at: {why}"),
                        None => "Its files were looked at, and what is in them is in use.".to_owned(),
                    },
                };
                Ok(context.output.say(&said)?)
            }
            Self::Events { certificate } => {
                let items = context.client.list(&format!("{}/events", path(&certificate))).await?;
                Ok(context.output.list(&items, &STEPS, "Nothing has happened to it yet.")?)
            }
        }
    }
}

const STEPS: [Column; 3] = [("AT", "/at"), ("WHAT", "/kind"), ("HOW", "/text")];

fn path(certificate: &str) -> String {
    format!("/certificates/{}", segment(certificate))
}

fn text<'a>(item: &'a Value, at: &str) -> &'a str {
    item.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

/// Where a certificate stands, in words: one that is good stays so while the next one fails.
pub(super) fn standing(item: &Value) -> &'static str {
    let is_there = item.get("not_after").is_some_and(|end| !end.is_null());
    match (text(item, "/state"), is_there) {
        ("valid", _) => "valid",
        ("ordering", true) => "renewing",
        ("ordering", false) => "ordering",
        ("failed", true) => "valid, renewal failed",
        ("failed", false) => "failed",
        _ => "waiting",
    }
}

/// When something happens to it next.
fn next(item: &Value) -> Value {
    ["next_at", "renew_at"].iter().find_map(|field| item.get(*field)).cloned().unwrap_or_default()
}

fn row(item: &Value) -> Value {
    let mut row = item.clone();
    if let Some(fields) = row.as_object_mut() {
        fields.insert("standing".to_owned(), standing(item).into());
        fields.insert("next".to_owned(), next(item));
    }
    row
}

async fn list(context: &Context, failed: bool) -> Result<(), Failure> {
    let mut items = context.client.list("/certificates").await?;
    items.retain(|item| !failed || text(item, "/state") != "valid");
    let columns = [
        ("CERTIFICATE", "/name"),
        ("FROM", "/source"),
        ("STATE", "/standing"),
        ("GOOD UNTIL", "/not_after"),
        ("NEXT", "/next"),
        ("WHY", "/error/detail"),
    ];
    let empty = if failed { "Every certificate is there." } else { "There are no public certificates yet." };
    Ok(context.output.list_as(&items, row, &columns, empty)?)
}

async fn show(context: &Context, certificate: &str) -> Result<(), Failure> {
    let item = context.client.get(&path(certificate)).await?;
    let events = context.client.list(&format!("{}/events", path(certificate))).await?;
    if context.output.is_json() {
        let mut whole = item;
        if let Some(fields) = whole.as_object_mut() {
            fields.insert("events".to_owned(), Value::Array(events));
        }
        return Ok(context.output.json(&whole)?);
    }
    let fields = [
        ("certificate", "/name"),
        ("names", "/names"),
        ("from", "/source"),
        ("authority", "/authority"),
        ("project", "/project"),
        ("state", "/standing"),
        ("good from", "/not_before"),
        ("good until", "/not_after"),
        ("renewed at", "/renew_at"),
        ("next try", "/next_at"),
        ("failed tries", "/attempts"),
        ("last error", "/error/detail"),
        ("code", "/error/code"),
        ("what to do", "/error/next"),
    ];
    let row = row(&item);
    // A line that says nothing is left out: most certificates have no error.
    let fields: Vec<Column> = fields
        .into_iter()
        .filter(|(_, at)| row.pointer(at).is_some_and(|value| !value.is_null() && *value != json!(0)))
        .collect();
    context.output.show(&row, &fields)?;
    if !events.is_empty() {
        context.output.say("")?;
        let last = events.len().saturating_sub(STEPS_SHOWN);
        context.output.list(events.get(last..).unwrap_or_default(), &STEPS, "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_cannot_be_renewed_is_still_valid() {
        let rows = [
            (json!({ "state": "waiting" }), "waiting"),
            (json!({ "state": "ordering" }), "ordering"),
            (json!({ "state": "ordering", "not_after": "2027-01-01T00:00:00Z" }), "renewing"),
            (json!({ "state": "valid", "not_after": "2027-01-01T00:00:00Z" }), "valid"),
            (json!({ "state": "failed", "not_after": null }), "failed"),
            (json!({ "state": "failed", "not_after": "2027-01-01T00:00:00Z" }), "valid, renewal failed"),
        ];
        for (item, words) in rows {
            assert_eq!(standing(&item), words, "{item}");
        }
    }

    #[test]
    fn what_comes_next_is_the_next_try_or_else_the_renewal() {
        assert_eq!(next(&json!({ "next_at": "a", "renew_at": "b" })), "a");
        assert_eq!(next(&json!({ "renew_at": "b" })), "b");
        assert_eq!(next(&json!({})), Value::Null);
    }
}
