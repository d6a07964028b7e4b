//! Sealing anew: every sealed value of a key that is to go is opened and sealed with the one in use, in bounded steps.
//!
//! A step is one transaction and says where the next begins; whoever was killed half-way begins at the front and finds less
//! to do, because what is done begins with another key's name ([`Seal::outdated`](mezusphere_model::seal::Seal::outdated)).
//! Values that no key opens are counted and left: they were lost before.
//!
//! The list of sealed columns is here, and a test compares it with the schema.

use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::MailId;

use super::value::{Row, args};
use super::{ReadTx, StoreError, Tx, acme, commit, mail, secret};

/// Most values in one step: a few hundred KiB, and milliseconds of the write lock.
pub const STEP_MAX: usize = 100;

/// One column of sealed values. Its rows are told apart by a text `k` and a number `n`.
struct Column {
    /// Table and column.
    place: &'static str,
    /// Rows after `$1`, `$2` that begin with the `$3` octets `$4`, at most `$5`.
    pick: &'static str,
    /// All rows after `$1`, `$2`, at most `$3`.
    all: &'static str,
    /// How many begin with the `$1` octets `$2`.
    count: &'static str,
    /// Puts `$3` where `$4` is in row `$1`, `$2`.
    put: &'static str,
    /// What a row's value is sealed for.
    context: fn(&Row) -> Result<String, StoreError>,
}

macro_rules! column {
    ($table:literal, $column:literal, [$k:literal, $n:literal], also $also:literal, $context:expr) => {
        Column {
            place: concat!($table, ".", $column),
            pick: concat!(
                "SELECT ",
                $k,
                " AS k, ",
                $n,
                " AS n",
                $also,
                ", ",
                $column,
                " AS value FROM ",
                $table,
                " WHERE substr(",
                $column,
                ", 1, CAST($3 AS INTEGER)) = $4 AND (",
                $k,
                ", ",
                $n,
                ") > ($1, $2)",
                " ORDER BY ",
                $k,
                ", ",
                $n,
                " LIMIT $5"
            ),
            all: concat!(
                "SELECT ",
                $k,
                " AS k, ",
                $n,
                " AS n",
                $also,
                ", ",
                $column,
                " AS value FROM ",
                $table,
                " WHERE ",
                $column,
                " IS NOT NULL AND (",
                $k,
                ", ",
                $n,
                ") > ($1, $2)",
                " ORDER BY ",
                $k,
                ", ",
                $n,
                " LIMIT $3"
            ),
            count: concat!(
                "SELECT COUNT(*) AS n FROM ",
                $table,
                " WHERE substr(",
                $column,
                ", 1, CAST($1 AS INTEGER)) = $2"
            ),
            put: concat!(
                "UPDATE ",
                $table,
                " SET ",
                $column,
                " = $3 WHERE ",
                $k,
                " = $1 AND ",
                $n,
                " = $2 AND ",
                $column,
                " = $4"
            ),
            context: $context,
        }
    };
}

/// Every column of sealed values.
static COLUMNS: [Column; 5] = [
    column!("secrets", "sealed", ["name", "version"], also "", |row| {
        Ok(secret::context(&row.get::<String>("k")?, row.get("n")?))
    }),
    column!("mails", "sealed", ["id", "created_at"], also "", |row| {
        Ok(mail::context(row.get::<MailId>("k")?))
    }),
    column!("feed_entries", "sealed", ["partition", "revision"], also ", key", |row| {
        Ok(commit::context(row.get::<Partition>("k")?, &row.get::<DocumentKey>("key")?))
    }),
    column!("acme_certificates", "sealed_order_key", ["name", "created_at"], also "", |row| {
        Ok(acme::order_key_context(&row.get::<String>("k")?))
    }),
    column!("acme_certificates", "sealed_certificate", ["name", "created_at"], also "", |row| {
        Ok(acme::certificate_context(&row.get::<String>("k")?))
    }),
];

/// Where a step begins; the default is the front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    column: usize,
    after: Option<(String, i64)>,
}

impl Position {
    fn after(&self) -> (&str, i64) {
        self.after.as_ref().map_or(("", i64::MIN), |(k, n)| (k, *n))
    }

    fn next_column(&self) -> Self {
        Self { column: self.column + 1, after: None }
    }
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Values that are good now: sealed anew, or opened by [`check`].
    pub good: usize,
    /// Values that no key at hand opens.
    pub lost: usize,
    /// Where the next step begins; `None`: that was all.
    pub next: Option<Position>,
}

/// Seals up to [`STEP_MAX`] values anew that begin with `outdated`, which is not empty.
pub async fn step(tx: &mut Tx, outdated: &[u8], from: &Position) -> Result<Step, StoreError> {
    let Some(column) = COLUMNS.get(from.column) else { return Ok(Step::default()) };
    let (k, n) = from.after();
    let rows = tx.rows(column.pick, args![k, n, outdated.len(), outdated, STEP_MAX]).await?;
    let mut done = Step { next: next(from, &rows)?, ..Step::default() };
    for row in &rows {
        let (context, sealed) = ((column.context)(row)?, row.get::<Vec<u8>>("value")?);
        let Ok(secret) = secret::open(&*tx.seal, &context, &sealed).map(zeroize::Zeroizing::new) else {
            tracing::error!(place = column.place, context, "A sealed value is lost: no key at hand opens it");
            done.lost += 1;
            continue;
        };
        let fresh = tx.seal.seal(&context, &secret);
        let (k, n): (String, i64) = (row.get("k")?, row.get("n")?);
        // Whoever changed it meanwhile sealed it with the key in use.
        tx.execute(column.put, args![k, n, fresh, sealed]).await?;
        done.good += 1;
    }
    Ok(done)
}

/// Opens up to [`STEP_MAX`] sealed values, whatever they were sealed with, and changes nothing.
pub async fn check(tx: &mut ReadTx, from: &Position) -> Result<Step, StoreError> {
    let Some(column) = COLUMNS.get(from.column) else { return Ok(Step::default()) };
    let (k, n) = from.after();
    let rows = tx.rows(column.all, args![k, n, STEP_MAX]).await?;
    let mut done = Step { next: next(from, &rows)?, ..Step::default() };
    for row in &rows {
        let (context, sealed) = ((column.context)(row)?, row.get::<Vec<u8>>("value")?);
        match secret::open(&*tx.seal, &context, &sealed).map(zeroize::Zeroizing::new) {
            Ok(_) => done.good += 1,
            Err(_) => done.lost += 1,
        }
    }
    Ok(done)
}

/// A moment by the clock of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(i64);

/// Now.
pub async fn moment(tx: &mut ReadTx) -> Result<Moment, StoreError> {
    if !tx.is_postgres() {
        // One writer at a time: a step waits for whoever wrote before.
        return Ok(Moment(0));
    }
    let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) AS at";
    let row = tx.row(sql, args![]).await?;
    row.map_or(Ok(Moment(0)), |row| row.get("at").map(Moment))
}

/// Whether all that was under way at `moment`, in this transaction's role, is over: whatever it wrote can be seen, and what
/// began later was sealed with the key in use then. Not to be asked twice in one transaction, which hears the same.
pub async fn is_quiet_since(tx: &mut ReadTx, moment: Moment) -> Result<bool, StoreError> {
    if !tx.is_postgres() {
        return Ok(true);
    }
    let row = tx
        .row(
            "SELECT 1 AS one FROM pg_stat_activity
             WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
               AND xact_start < to_timestamp(CAST($1 AS BIGINT) / 1000000.0) LIMIT 1",
            args![moment.0],
        )
        .await?;
    Ok(row.is_none())
}

/// How many sealed values begin with `outdated`.
pub async fn left(tx: &mut ReadTx, outdated: &[u8]) -> Result<u64, StoreError> {
    let mut left = 0;
    for column in &COLUMNS {
        let row = tx.row(column.count, args![outdated.len(), outdated]).await?;
        left += row.map_or(Ok(0), |row| row.get::<u64>("n"))?;
    }
    Ok(left)
}

/// Where to go on after these rows: behind the last one if there may be more, else at the next column.
fn next(from: &Position, rows: &[Row]) -> Result<Option<Position>, StoreError> {
    let next = match rows.last() {
        Some(last) if rows.len() >= STEP_MAX => {
            Position { column: from.column, after: Some((last.get("k")?, last.get("n")?)) }
        }
        _ => from.next_column(),
    };
    Ok((next.column < COLUMNS.len()).then_some(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns of the schema that are named as sealed ones are.
    fn in_the_schema() -> Vec<String> {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| !path.to_string_lossy().ends_with(".postgres.sql"));
        files.sort();
        let mut found = Vec::new();
        for file in files {
            let mut table = String::new();
            for line in std::fs::read_to_string(file).unwrap().lines() {
                let words: Vec<_> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["CREATE", "TABLE", name, ..] => table = (*name).to_owned(),
                    ["ALTER", "TABLE", name, "ADD", "COLUMN", column, ..] if column.contains("sealed") => {
                        found.push(format!("{name}.{column}"));
                    }
                    [column, "BLOB" | "BLOB,", ..] if column.contains("sealed") => {
                        found.push(format!("{table}.{column}"));
                    }
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn r20_every_sealed_column_of_the_schema_is_sealed_anew() {
        let mut listed: Vec<_> = COLUMNS.iter().map(|column| column.place.to_owned()).collect();
        listed.sort();
        assert_eq!(listed, in_the_schema());
    }
}
