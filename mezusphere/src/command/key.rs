//! `mezusphere key`: the keys that seal what is kept, and those that sign assertions.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use mezusphere_pki::seal::MasterKey;
use serde_json::{Value, json};

use super::Context;
use crate::failure::{Failure, Kind};
use crate::output::SecretFile;

/// Between two looks at how far sealing anew is.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How often it is looked at before the command ends and the server goes on alone: half a minute.
const LOOKS_MAX: u32 = 60;

/// Keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show which keys are in use, and what is left of those before
    Status {
        /// Open every sealed value, too.
        #[arg(long)]
        check: bool,
    },
    /// Replace the master key in the data directory, and seal everything anew while the server runs
    Rotate {
        /// The key that signs assertions instead; the next one signs as soon as everybody knows it.
        #[arg(long)]
        assertion: bool,
    },
    /// Make a master key for --master-key-file; asks no server
    New {
        /// A new file, for its owner alone (0600).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Status { check } => status(context, check).await,
            Self::Rotate { assertion: true } => rotate_assertion(context).await,
            Self::Rotate { assertion: false } => rotate_master(context).await,
            Self::New { out } => {
                let key = MasterKey::generate(&context.entropy);
                let file = SecretFile::create(&out)?.keep(&key.reveal())?;
                let id = key.id().to_string();
                context.output.json(&json!({ "key": id, "file": file }))?;
                Ok(context.output.say(&format!(
                    "A master key, {id}, stands in {file}. Keep a copy apart from backups of the data: without it nothing \
                     sealed with it can be opened."
                ))?)
            }
        }
    }
}

/// How far the master key is; `None`: the server is elsewhere, and its master key is its own machine's affair.
async fn master(context: &Context, check: bool) -> Result<Option<Value>, Failure> {
    let asked = if check {
        context.client.post_long("/master-key/check", &json!({})).await
    } else {
        context.client.get("/master-key").await
    };
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.kind == Kind::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn status(context: &Context, check: bool) -> Result<(), Failure> {
    let master = master(context, check).await?;
    let assertion = context.client.get("/assertion-keys").await?;
    context.output.json(&json!({ "master": master, "assertion": assertion }))?;
    match &master {
        Some(master) => context.output.say(&format!("{}\n", told(master)))?,
        None => context.output.say("The master key is shown on the server's own machine alone.\n")?,
    }
    if context.output.is_json() {
        return Ok(());
    }
    let keys = assertion.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
    let columns = [("ASSERTION KEY", "/version"), ("STATE", "/state"), ("SINCE", "/since"), ("KID", "/kid")];
    context.output.list(&keys, &columns, "There is no key that signs assertions.")?;
    Ok(())
}

/// The master key's state in words.
fn told(master: &Value) -> String {
    let text = |name: &str| master.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| master.get(name).and_then(Value::as_u64).unwrap_or(0);
    let from = master.get("from").and_then(Value::as_str).unwrap_or("master.key in the data directory");
    let mut lines = vec![format!("Master key {}, from {from}.", text("key"))];
    let old: Vec<&str> =
        master.get("old").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if !old.is_empty() {
        let old = old.join(", ");
        lines.push(if is_over(master) {
            format!("Nothing is left that the old one, {old}, sealed: it need not be given any more.")
        } else {
            let left = match number("left") {
                1 => "1 value is left".to_owned(),
                left => format!("{left} values are left"),
            };
            format!("Being replaced: {old}. {left}.")
        });
    }
    let lost = number("lost");
    if lost > 0 {
        let (what, it) =
            if lost == 1 { ("1 value".to_owned(), "it") } else { (format!("{lost} values"), "them") };
        lines.push(format!("{what} cannot be opened with any key at hand; the log names {it}."));
    }
    if let Some(checked) = master.get("checked").filter(|checked| !checked.is_null()) {
        let of = |name: &str| checked.get(name).and_then(Value::as_u64).unwrap_or(0);
        lines.push(format!(
            "Of all sealed values {} were opened, {} could not be.",
            of("opened"),
            of("lost")
        ));
    }
    lines.join("\n")
}

fn is_over(master: &Value) -> bool {
    master.get("over").and_then(Value::as_bool).unwrap_or(false)
}

async fn rotate_master(context: &Context) -> Result<(), Failure> {
    let mut found = context.client.post("/master-key/rotate", &json!({})).await?;
    context.output.say("A new master key is in use. What the old one sealed is sealed anew.")?;
    for _ in 0..LOOKS_MAX {
        if is_over(&found) {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        found = context.client.get("/master-key").await?;
    }
    context.output.json(&found)?;
    let end = if is_over(&found) {
        "Done: the old key is removed. Put the new master.key where the old one was kept as a copy."
    } else {
        "The server goes on with it. Look again with: mezusphere key status"
    };
    Ok(context.output.say(&format!("{}\n{end}", told(&found)))?)
}

async fn rotate_assertion(context: &Context) -> Result<(), Failure> {
    let keys = context.client.post("/assertion-keys", &json!({})).await?;
    context.output.json(&keys)?;
    Ok(context.output.say(
        "The next key is made known now. It signs in a quarter of an hour at the earliest, once every edge has it; what \
         the old one signed stays good. Look with: mezusphere key status",
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_until_nothing_is() {
        let at = |left: u64, over: bool| {
            told(&json!({ "key": "11", "from": null, "old": ["22"], "left": left, "lost": 0, "over": over }))
        };
        assert!(at(3, false).ends_with("Being replaced: 22. 3 values are left."), "{}", at(3, false));
        assert!(at(1, false).ends_with("22. 1 value is left."), "{}", at(1, false));
        assert!(at(0, true).contains("need not be given any more"), "{}", at(0, true));
        let plain = told(&json!({ "key": "11", "from": "/etc/key", "old": [], "left": 0, "over": true }));
        assert_eq!(plain, "Master key 11, from /etc/key.");
    }
}
