//! What commands print: tables for people, JSON for scripts. Nothing else writes to standard output.

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;
use serde_json::Value;

/// Where a command's result goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// `json`: print the server's answer as it came, for scripts.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether scripts read it.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// One sentence for people; nothing for scripts.
    pub(crate) fn say(self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { writeln!(io::stdout(), "{text}") }
    }

    /// The answer for scripts; nothing for people.
    pub(crate) fn json(self, value: &impl Serialize) -> io::Result<()> {
        if self.json { writeln!(io::stdout(), "{}", serde_json::to_string_pretty(value)?) } else { Ok(()) }
    }

    /// A list: a table for people, an array for scripts. `empty` is said when there is nothing.
    pub(crate) fn list(self, items: &[Value], columns: &[Column], empty: &str) -> io::Result<()> {
        if self.json {
            return writeln!(io::stdout(), "{}", serde_json::to_string_pretty(items)?);
        }
        if items.is_empty() {
            return writeln!(io::stdout(), "{empty}");
        }
        write!(io::stdout(), "{}", table(items, columns, io::stdout().is_terminal()))
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
    use super::*;

    #[test]
    fn a_table_lines_its_columns_up() {
        let rows = [
            serde_json::json!({"slug": "shop", "roles": ["a", "b"], "count": 3}),
            serde_json::json!({"slug": "a-longer-name", "roles": []}),
        ];
        let text = table(&rows, &[("NAME", "/slug"), ("ROLES", "/roles"), ("COUNT", "/count")], false);
        assert_eq!(text, "NAME           ROLES  COUNT\nshop           a, b   3\na-longer-name  –      –\n");
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        assert_eq!(cell(Some(&Value::from("a\x1b[2Jb"))), "a\u{fffd}[2Jb");
    }
}
