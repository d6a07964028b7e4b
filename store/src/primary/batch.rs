//! Many rows in one statement: over a network a statement costs more than a row.

use super::value::Value;
use super::{Tx, WriteError};

/// Rows of one statement. Wide rows stay far below the parameters both engines take (SQLite 32 766, PostgreSQL 65 535).
pub(super) const ROWS_AT_ONCE: usize = 50;

/// An insertion of a full batch, and of one row for what is left over.
pub(super) struct Insertion {
    full: String,
    one: String,
}

impl Insertion {
    /// `into`: the statement up to its values, `INSERT INTO t (a, b)`; `columns`: how many it names.
    pub(super) fn new(into: &str, columns: usize) -> Self {
        let text = |rows: usize| {
            let row = |row: usize| {
                let values = (1..=columns).map(|column| format!("${}", row * columns + column));
                format!("({})", values.collect::<Vec<_>>().join(", "))
            };
            format!("{into} VALUES {}", (0..rows).map(row).collect::<Vec<_>>().join(", "))
        };
        Self { full: text(ROWS_AT_ONCE), one: text(1) }
    }
}

impl Tx {
    /// Inserts rows; `parent` is what they refer to, for the error when that is not there.
    pub(super) async fn insert_many(
        &mut self,
        parent: &'static str,
        insertion: &'static Insertion,
        rows: Vec<Vec<Value>>,
    ) -> Result<(), WriteError> {
        let mut rows = rows.into_iter();
        while rows.len() >= ROWS_AT_ONCE {
            let values = rows.by_ref().take(ROWS_AT_ONCE).flatten().collect();
            self.insert(parent, &insertion.full, values).await?;
        }
        for row in rows {
            self.insert(parent, &insertion.one, row).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_every_row_has_its_own_number() {
        let insertion = Insertion::new("INSERT INTO t (a, b)", 2);
        assert_eq!(insertion.one, "INSERT INTO t (a, b) VALUES ($1, $2)");
        assert!(insertion.full.starts_with("INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4), "));
        assert!(insertion.full.ends_with(&format!("(${}, ${})", 2 * ROWS_AT_ONCE - 1, 2 * ROWS_AT_ONCE)));
    }
}
