//! What commands print: tables for people, JSON for scripts. Nothing else writes to standard output.
//!
//! What is shown once ([`Secret`]) goes to a terminal with its sentences, to a pipe or file alone, so that
//! `mezusphere api-key create shop > key` makes a file `warpgate connect --key-file key` takes.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::failure::{Failure, Kind};
use crate::hint::Hints;

/// Where a command's result goes.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    json: bool,
    hints: Hints,
}

/// Something the server gives once and nobody can ask for again.
#[derive(Debug)]
pub(crate) struct Secret<'a> {
    /// Its field in the server's answer.
    pub(crate) field: &'static str,
    /// Itself.
    pub(crate) text: &'a str,
    /// What is said before it: one sentence.
    pub(crate) said: String,
    /// What is said after it, whole lines, as they are.
    pub(crate) then: String,
}

impl Output {
    /// `json`: print the server's answer as it came, for scripts.
    pub(crate) fn new(json: bool, hints: Hints) -> Self {
        Self { json, hints }
    }

    /// Whether scripts read it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One sentence for people; nothing for scripts. Commands in it are completed by what reaches this server.
    pub(crate) fn say(&self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { writeln!(io::stdout(), "{}", self.hints.complete(text)) }
    }

    /// `text` with what commands in it need to reach this server.
    pub(crate) fn complete(&self, text: &str) -> String {
        self.hints.complete(text)
    }

    /// The answer for scripts; nothing for people.
    pub(crate) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        if self.json { writeln!(io::stdout(), "{}", serde_json::to_string_pretty(value)?) } else { Ok(()) }
    }

    /// A list: a table for people, an array for scripts. `empty` is said when there is nothing.
    pub(crate) fn list(&self, items: &[Value], columns: &[Column], empty: &str) -> io::Result<()> {
        self.list_as(items, Value::clone, columns, empty)
    }

    /// The same, with `row` for what people see of an item.
    pub(crate) fn list_as(
        &self,
        items: &[Value],
        row: impl Fn(&Value) -> Value,
        columns: &[Column],
        empty: &str,
    ) -> io::Result<()> {
        if self.json {
            return writeln!(io::stdout(), "{}", serde_json::to_string_pretty(items)?);
        }
        if items.is_empty() {
            return self.say(empty);
        }
        let rows: Vec<Value> = items.iter().map(row).collect();
        write!(io::stdout(), "{}", table(&rows, columns, io::stdout().is_terminal()))
    }

    /// One object: its fields line by line for people, as it came for scripts.
    pub(crate) fn show(&self, item: &Value, fields: &[Column]) -> io::Result<()> {
        if self.json {
            return self.json(item);
        }
        let width = fields.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0);
        for (title, pointer) in fields {
            writeln!(io::stdout(), "{title:<width$}  {}", cell(item.pointer(pointer)))?;
        }
        Ok(())
    }

    /// Something that is shown once; `made` is the server's answer with it.
    pub(crate) fn secret(
        &self,
        made: &Value,
        secret: &Secret<'_>,
        out: Option<SecretFile>,
    ) -> Result<(), Failure> {
        if let Some(file) = out {
            let path = file.keep(secret.text)?;
            let mut told = made.clone();
            if let Some(fields) = told.as_object_mut() {
                fields.remove(secret.field);
                fields.insert("out".to_owned(), path.clone().into());
            }
            self.json(&told)?;
            self.say(&format!("{} It is in {path}, for you alone, and nowhere else.", secret.said))?;
            if !self.json {
                writeln!(io::stdout(), "{}", secret.then)?;
            }
            return Ok(());
        }
        self.json(made)?;
        let (text, then) = (secret.text, &secret.then);
        if self.json {
            return Ok(());
        }
        if io::stdout().is_terminal() {
            let said = format!("{} This is the only time it is shown:\n\n  {text}\n\n{then}", secret.said);
            writeln!(io::stdout(), "{}", said.trim_end())?;
        } else {
            writeln!(io::stdout(), "{text}")?;
            // Standard error may be closed; what matters is out.
            let said = format!("{}\n{then}", secret.said);
            let (Ok(()) | Err(_)) = writeln!(io::stderr(), "{}", said.trim_end());
        }
        Ok(())
    }
}

/// A new file for a secret, for its owner alone; gone again unless it is kept.
#[derive(Debug)]
pub(crate) struct SecretFile {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl SecretFile {
    /// Makes the file, before the server is asked for what only it will hold. Never touches one that exists.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|why| {
            let at = path.display();
            if why.kind() == io::ErrorKind::AlreadyExists {
                Failure::new(Kind::Conflict, format!("{at} exists already and is left as it is"))
                    .next("name another file with --out, or move this one away")
            } else {
                Failure::new(Kind::Files, format!("cannot make {at}: {why}"))
                    .next("name another file with --out")
            }
        })?;
        Ok(Self { path: path.to_owned(), file, kept: false })
    }

    /// Writes the secret; gives the file's path.
    pub(crate) fn keep(mut self, secret: &str) -> Result<String, Failure> {
        let at = self.path.display().to_string();
        writeln!(self.file, "{secret}").and_then(|()| self.file.sync_all()).map_err(|why| {
            Failure::new(Kind::Files, format!("cannot write {at}: {why}"))
                .next("revoke what was made and make another")
        })?;
        self.kept = true;
        Ok(at)
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.kept {
            // It holds nothing of worth.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// A column: its title, and the JSON pointer (RFC 6901) of what stands in it.
pub(crate) type Column = (&'static str, &'static str);

/// Lays rows out in columns as wide as their widest cell; the last one runs free.
fn table(items: &[Value], columns: &[Column], bold: bool) -> String {
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| columns.iter().map(|(_, pointer)| cell(item.pointer(pointer))).collect())
        .collect();
    let titles: Vec<String> = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let width = |at: usize| {
        let cells = rows.iter().chain([&titles]).filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &[String]| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut out = if bold { format!("\x1b[1m{}\x1b[0m\n", line(&titles)) } else { line(&titles) + "\n" };
    for row in &rows {
        out.push_str(&line(row));
        out.push('\n');
    }
    out
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "–".to_owned(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "–".to_owned(),
        // Names are data: a control character must not move the reader's cursor.
        Some(Value::String(text)) => {
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
        }
        Some(Value::Array(items)) if items.is_empty() => "–".to_owned(),
        Some(Value::Array(items)) => items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(", "),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_table_lines_its_columns_up() {
        let rows = [
            serde_json::json!({"slug": "shop", "roles": ["a", "b"], "count": 3, "on": true}),
            serde_json::json!({"slug": "a-longer-name", "roles": [], "on": false}),
        ];
        let columns = [("NAME", "/slug"), ("ROLES", "/roles"), ("ON", "/on"), ("COUNT", "/count")];
        assert_eq!(
            table(&rows, &columns, false),
            "NAME           ROLES  ON   COUNT\nshop           a, b   yes  3\na-longer-name  –      no   –\n"
        );
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        assert_eq!(cell(Some(&Value::from("a\x1b[2Jb"))), "a\u{fffd}[2Jb");
    }

    #[test]
    fn a_file_for_a_secret_is_its_owners_alone_and_never_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        drop(SecretFile::create(&path).unwrap());
        assert!(!path.exists(), "nothing is left of one that was not kept");
        SecretFile::create(&path).unwrap().keep("mzw_1").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mzw_1\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = SecretFile::create(&path).unwrap_err();
        assert_eq!(again.kind, Kind::Conflict);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mzw_1\n");
    }
}
