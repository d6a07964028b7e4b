//! One table: copied in bounded batches, then read back and compared by a digest that does not depend on the order.

use aws_lc_rs::digest;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::{TransferError, TransferStep, execute, failed, postgres};
use crate::primary::ReadTx;
use crate::primary::error::store_error;

/// Rows of the first batch, and of any.
const ROWS_MIN: i64 = 16;
const ROWS_MAX: i64 = 1000;

/// Rows read back at a time.
const ROWS_READ_BACK: u32 = 200;

/// Octets a batch should have: the next one is made smaller after a larger one, and larger after a smaller one.
const BATCH_LEN: usize = 2 * 1024 * 1024;

/// Tables that say what the database is, not what is in it: made anew in the target.
const OWN: [&str; 2] = ["schema_versions", "meta"];

/// A table and its columns.
pub(super) struct Table {
    pub(super) name: String,
    columns: Vec<(String, Kind)>,
}

/// What a column holds.
#[derive(Clone, Copy)]
enum Kind {
    Int,
    Text,
    Bytes,
}

/// A column of a batch, as it is sent: PostgreSQL takes whole columns as arrays.
enum Values {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

/// The tables in the order they were made, so that what is referred to comes first.
pub(super) async fn tables(source: &mut SqliteConnection) -> Result<Vec<Table>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid",
    )
    .fetch_all(&mut *source)
    .await?;
    let mut tables = Vec::with_capacity(names.len());
    for name in names.into_iter().filter(|name| !OWN.contains(&name.as_str())) {
        let rows = sqlx::query("SELECT name, type FROM pragma_table_info($1) ORDER BY cid")
            .bind(&name)
            .fetch_all(&mut *source)
            .await?;
        let mut columns = Vec::with_capacity(rows.len());
        for row in rows {
            let kind = match row.try_get::<String, _>("type")?.as_str() {
                "BIGINT" => Kind::Int,
                "BLOB" => Kind::Bytes,
                _ => Kind::Text,
            };
            columns.push((row.try_get("name")?, kind));
        }
        tables.push(Table { name, columns });
    }
    Ok(tables)
}

/// Copies a table and compares it; says how many rows it has.
pub(super) async fn table(
    table: &Table,
    source: &mut SqliteConnection,
    target: &mut ReadTx,
    progress: &mut (dyn FnMut(TransferStep<'_>) + Send),
) -> Result<u64, TransferError> {
    let name = table.name.as_str();
    let mut sent = Sum::default();
    let (mut after, mut rows_max) = (i64::MIN, ROWS_MIN);
    let select = table.select();
    let insert = table.insert();
    progress(TransferStep::Copying { table: name, rows: 0 });
    loop {
        let rows = sqlx::query(AssertSqlSafe(select.as_str()))
            .bind(after)
            .bind(rows_max)
            .fetch_all(&mut *source)
            .await
            .map_err(|why| TransferError::Source(store_error(&why)))?;
        let Some(last) = rows.last() else { break };
        after = last.try_get("rowid_").map_err(|why| TransferError::Source(store_error(&why)))?;
        let (batch, len) =
            table.batch(&rows, &mut sent).map_err(|why| TransferError::Source(store_error(&why)))?;
        send(target, &insert, batch).await?;
        progress(TransferStep::Copying { table: name, rows: sent.rows });
        rows_max = if len > BATCH_LEN { rows_max / 2 } else { rows_max * 2 }.clamp(1, ROWS_MAX);
    }
    progress(TransferStep::Comparing { table: name });
    let arrived = read_back(table, target).await?;
    if arrived == sent {
        Ok(sent.rows)
    } else {
        Err(TransferError::Differs(format!(
            "table {name}: {} rows were sent, {} arrived{}",
            sent.rows,
            arrived.rows,
            if sent.rows == arrived.rows { ", with other content" } else { "" }
        )))
    }
}

async fn send(target: &mut ReadTx, insert: &str, batch: Vec<Values>) -> Result<(), TransferError> {
    postgres(target)?
        .run(async |connection| {
            let query = sqlx::query(AssertSqlSafe(insert));
            let query = batch.into_iter().fold(query, |query, column| match column {
                Values::Int(values) => query.bind(values),
                Values::Text(values) => query.bind(values),
                Values::Bytes(values) => query.bind(values),
            });
            query.execute(connection).await.map(drop)
        })
        .await
        .map_err(|why| failed(&why))
}

/// Sums up what stands in the target, by a cursor: a table of any size takes bounded memory.
async fn read_back(table: &Table, target: &mut ReadTx) -> Result<Sum, TransferError> {
    let mut sum = Sum::default();
    // A cursor of its own name: statements are prepared once per text, with the columns they had then.
    let cursor = format!("\"arrived_{}\"", table.name);
    let select = format!("SELECT {} FROM {}", table.names(), table.quoted());
    execute(target, &format!("DECLARE {cursor} NO SCROLL CURSOR FOR {select}")).await?;
    let fetch = format!("FETCH {ROWS_READ_BACK} FROM {cursor}");
    loop {
        let rows: Vec<PgRow> = postgres(target)?
            .run(async |connection| sqlx::query(AssertSqlSafe(fetch.as_str())).fetch_all(connection).await)
            .await
            .map_err(|why| failed(&why))?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            table.add(row, &mut sum).map_err(|why| failed(&why))?;
        }
    }
    execute(target, &format!("CLOSE {cursor}")).await?;
    Ok(sum)
}

impl Table {
    fn quoted(&self) -> String {
        format!("\"{}\"", self.name)
    }

    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    }

    fn select(&self) -> String {
        format!(
            "SELECT rowid AS rowid_, {} FROM {} WHERE rowid > $1 ORDER BY rowid LIMIT $2",
            self.names(),
            self.quoted()
        )
    }

    fn insert(&self) -> String {
        let arrays = self.columns.iter().zip(1..).map(|((_, kind), n)| {
            let kind = match kind {
                Kind::Int => "bigint",
                Kind::Text => "text",
                Kind::Bytes => "bytea",
            };
            format!("${n}::{kind}[]")
        });
        let arrays = arrays.collect::<Vec<_>>().join(", ");
        format!("INSERT INTO {} ({}) SELECT * FROM UNNEST({arrays})", self.quoted(), self.names())
    }

    /// Rows as columns, and how many octets they have; adds them to the sum.
    fn batch(&self, rows: &[SqliteRow], sum: &mut Sum) -> Result<(Vec<Values>, usize), sqlx::Error> {
        let mut columns: Vec<Values> = self
            .columns
            .iter()
            .map(|(_, kind)| match kind {
                Kind::Int => Values::Int(Vec::with_capacity(rows.len())),
                Kind::Text => Values::Text(Vec::with_capacity(rows.len())),
                Kind::Bytes => Values::Bytes(Vec::with_capacity(rows.len())),
            })
            .collect();
        let mut len = 0;
        for row in rows {
            let mut hash = RowHash::new();
            for ((name, _), values) in self.columns.iter().zip(&mut columns) {
                let name = name.as_str();
                match values {
                    Values::Int(values) => {
                        let value: Option<i64> = row.try_get(name)?;
                        len += hash.int(value);
                        values.push(value);
                    }
                    Values::Text(values) => {
                        let value: Option<String> = row.try_get(name)?;
                        len += hash.value(value.as_deref().map(str::as_bytes));
                        values.push(value);
                    }
                    Values::Bytes(values) => {
                        let value: Option<Vec<u8>> = row.try_get(name)?;
                        len += hash.value(value.as_deref());
                        values.push(value);
                    }
                }
            }
            sum.add(hash);
        }
        Ok((columns, len))
    }

    fn add(&self, row: &PgRow, sum: &mut Sum) -> Result<(), sqlx::Error> {
        let mut hash = RowHash::new();
        for (name, kind) in &self.columns {
            let name = name.as_str();
            match kind {
                Kind::Int => hash.int(row.try_get(name)?),
                Kind::Text => hash.value(row.try_get::<Option<&str>, _>(name)?.map(str::as_bytes)),
                Kind::Bytes => hash.value(row.try_get::<Option<&[u8]>, _>(name)?),
            };
        }
        sum.add(hash);
        Ok(())
    }
}

/// SHA-256 over a row's values, each with its length, so that no two different rows read the same.
struct RowHash(digest::Context);

impl RowHash {
    fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    fn int(&mut self, value: Option<i64>) -> usize {
        self.value(value.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    /// Says how many octets it has.
    fn value(&mut self, value: Option<&[u8]>) -> usize {
        let Some(value) = value else {
            self.0.update(&[0]);
            return 0;
        };
        self.0.update(&[1]);
        self.0.update(&(value.len() as u64).to_be_bytes());
        self.0.update(value);
        value.len()
    }
}

/// How many rows, and the sum of their hashes: the same in any order.
#[derive(Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    lanes: [u64; 4],
}

impl Sum {
    fn add(&mut self, row: RowHash) {
        let hash = row.0.finish();
        for (lane, bytes) in self.lanes.iter_mut().zip(hash.as_ref().chunks_exact(8)) {
            let word = bytes.iter().fold(0_u64, |word, byte| (word << 8) | u64::from(*byte));
            *lane = lane.wrapping_add(word);
        }
        self.rows += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[(Option<i64>, Option<&str>)]) -> Sum {
        let mut sum = Sum::default();
        for (int, text) in rows {
            let mut hash = RowHash::new();
            hash.int(*int);
            hash.value(text.map(str::as_bytes));
            sum.add(hash);
        }
        sum
    }

    #[test]
    fn the_sum_knows_content_and_not_order() {
        let (a, b) = ((Some(1), Some("x")), (None, Some("")));
        assert!(sum(&[a, b]) == sum(&[b, a]));
        assert!(sum(&[a, b]) != sum(&[a, a]));
        assert!(sum(&[a]) != sum(&[(Some(1), None)]));
        assert!(sum(&[(None, Some(""))]) != sum(&[(None, None)]));
        assert!(sum(&[a]) != sum(&[a, a, a]));
    }
}
