//! Where the two engines' SQL differs: column types, and one reference that goes forward.
//!
//! Queries are the same text for both. Migrations are written once, in what both have in common, and turned into
//! PostgreSQL's words here; what only PostgreSQL has stands in a file of its own beside (`….postgres.sql`).

/// References to a table that is made later: SQLite looks at commit, PostgreSQL wants the table to be there.
const FORWARD: [(&str, &str); 1] = [(
    " REFERENCES projects (id) DEFERRABLE INITIALLY DEFERRED,",
    "ALTER TABLE directories ADD CONSTRAINT directories_project_fkey
         FOREIGN KEY (project) REFERENCES projects (id) DEFERRABLE INITIALLY DEFERRED;",
)];

/// Types and their words. Text is compared by its bytes, as SQLite does and as the feed promises its keys' order.
const TYPES: [(&str, &str); 2] = [("BLOB", "BYTEA"), ("TEXT", "TEXT COLLATE \"C\"")];

/// A migration in PostgreSQL's words.
pub(super) fn postgres(migration: &str) -> String {
    // Comments may hold any word.
    let mut sql: String =
        migration.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    for (forward, afterwards) in FORWARD {
        if sql.contains(forward) {
            sql = sql.replace(forward, ",");
            sql.push('\n');
            sql.push_str(afterwards);
        }
    }
    for (theirs, ours) in TYPES {
        sql = replace_word(&sql, theirs, ours);
    }
    sql
}

fn replace_word(text: &str, word: &str, by: &str) -> String {
    let mut parts = text.split(word).peekable();
    let mut out = String::with_capacity(text.len() * 2);
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    while let Some(part) = parts.next() {
        out.push_str(part);
        if let Some(next) = parts.peek() {
            let whole = !part.ends_with(part_of_word) && !next.starts_with(part_of_word);
            out.push_str(if whole { by } else { word });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_forward_references_change_and_nothing_else() {
        let sql = "-- BLOB in a comment\nCREATE TABLE directories (\n  id TEXT NOT NULL,\n  TEXTS BIGINT,\n  \
                   project TEXT REFERENCES projects (id) DEFERRABLE INITIALLY DEFERRED,\n  hash BLOB NOT NULL);";
        let translated = postgres(sql);
        assert!(!translated.contains("BLOB"), "{translated}");
        assert!(translated.contains("id TEXT COLLATE \"C\" NOT NULL"), "{translated}");
        assert!(translated.contains("TEXTS BIGINT"), "{translated}");
        assert!(translated.contains("hash BYTEA NOT NULL"), "{translated}");
        assert!(translated.ends_with("DEFERRABLE INITIALLY DEFERRED;"), "{translated}");
        assert!(translated.contains("project TEXT COLLATE \"C\",\n"), "{translated}");
    }
}
