//! `mezusphere user import`: a file of users goes to the server as it is; what is wrong with it comes back line by line.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::super::{Context, project_path};
use crate::failure::{Failure, Kind};

/// Largest file sent, in octets: what the server takes.
const FILE_LEN_MAX: u64 = 64 * 1024 * 1024;

/// Shown below the long help.
const EXAMPLES: &str = "\
Examples:
  Look first:          mezusphere user import shop people.csv --dry-run
  Add them:            mezusphere user import shop people.csv
  Only who is new:     mezusphere user import shop people.json --skip-existing

A CSV file begins with a line that names its columns, of email, name,
display_name, roles, status, verified, claims and password_hash; only email must
be there. Roles are joined by ;. A JSON file is an array of objects with these names, or one object
to a line. Passwords come as Argon2id hashes ($argon2id$...) or not at all.";

/// What `user import` takes.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Import {
    /// The project.
    project: String,
    /// The file: .csv, .json or .jsonl.
    file: PathBuf,
    /// Only look: nobody is added.
    #[arg(long)]
    dry_run: bool,
    /// Leave out who has an account already; else that is a mistake.
    #[arg(long)]
    skip_existing: bool,
}

impl Import {
    /// Runs it.
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let kind = media_type(&self.file)?;
        let file = read(&self.file)?;
        let path = format!(
            "{}/user-imports?dry_run={}&skip_existing={}",
            project_path(&self.project),
            self.dry_run,
            self.skip_existing
        );
        let report = context.client.post_file(&path, kind, file).await?;
        let number = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or_default();
        let (users, skipped, errors) = (number("users"), number("skipped"), number("errors"));
        context.output.json(&report)?;
        if errors > 0 {
            let problems = report.get("problems").and_then(Value::as_array).cloned().unwrap_or_default();
            if !context.output.is_json() {
                context.output.list(&problems, &[("LINE", "/line"), ("WHAT IS WRONG", "/reason")], "")?;
            }
            let told = u64::try_from(problems.len()).unwrap_or_default();
            let more = if errors > told { format!(", of which {told} are shown") } else { String::new() };
            return Err(Failure::new(
                Kind::Invalid,
                format!("the file has {}{more}; nobody was added", counted(errors, "mistake")),
            )
            .next("correct these lines and try again, with --dry-run to look first"));
        }
        let left = match skipped {
            0 => String::new(),
            1 => " 1 has an account and is left out.".to_owned(),
            several => format!(" {several} have an account and are left out."),
        };
        let users = counted(users, "user");
        let said = if self.dry_run {
            format!("The file is good for {users}.{left} Nobody was added.")
        } else {
            format!("Added {users} to {}.{left}", self.project)
        };
        Ok(context.output.say(&said)?)
    }
}

/// `1 user`, `2 users`.
fn counted(count: u64, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

fn media_type(path: &Path) -> Result<&'static str, Failure> {
    match path.extension().and_then(|name| name.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("csv") => Ok("text/csv"),
        Some("json" | "jsonl" | "ndjson") => Ok("application/json"),
        _ => Err(Failure::new(Kind::Usage, format!("{} is neither .csv nor .json", path.display()))
            .next("name the file by what it is: people.csv, people.json")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Failure::new(Kind::Files, format!("cannot read {}: {why}", path.display()))
            .next("check the file's name, and that this user may read it")
    };
    let len = std::fs::metadata(path).map_err(|why| unreadable(&why))?.len();
    if len > FILE_LEN_MAX {
        return Err(Failure::new(
            Kind::Usage,
            format!("{} is larger than {} MiB", path.display(), FILE_LEN_MAX / (1024 * 1024)),
        )
        .next("make several files of it"));
    }
    if len == 0 {
        return Err(Failure::new(Kind::Usage, format!("{} is empty", path.display()))
            .next("mezusphere user import --help shows what a file looks like"));
    }
    std::fs::read(path).map_err(|why| unreadable(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "user")), ["0 users", "1 user", "2 users"]);
    }

    #[test]
    fn a_file_that_is_not_there_or_holds_nothing_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.csv");
        std::fs::write(&empty, "").unwrap();
        for (path, kind) in [(empty, Kind::Usage), (dir.path().join("none.csv"), Kind::Files)] {
            let failure = read(&path).unwrap_err();
            assert!(failure.kind == kind && failure.next.is_some(), "{failure}");
        }
    }

    #[test]
    fn a_file_is_what_its_name_says() {
        assert_eq!(media_type(Path::new("a/people.CSV")).unwrap(), "text/csv");
        assert_eq!(media_type(Path::new("people.jsonl")).unwrap(), "application/json");
        assert!(media_type(Path::new("people")).is_err());
    }
}
