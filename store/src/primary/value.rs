//! What goes into a query and what comes out of it, the same for every database.
//!
//! Ids and names are text, times are microseconds, hashes are bytes; a missing value still has a
//! type, because PostgreSQL asks for one.

use mezusphere_model::document::{DocumentKey, Partition, Status};
use mezusphere_model::id::{
    ApiKeyId, ControlId, DirectoryId, EdgeId, EnvironmentId, FlowId, JoinId, MailId, OrganizationId,
    ProjectId, RouteId, ServiceAccountId, SessionId, SignInId, UserId, WarpgateId,
};
use mezusphere_model::identity::{Assurance, Subject};
use mezusphere_model::slug::{Name, Slug};
use mezusphere_model::token::TokenHash;
use mezusphere_model::{Host, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::error::StoreError;

/// A parameter of a query.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// What can be a parameter.
pub(super) trait IntoValue {
    const NULL: Value;
    fn into_value(self) -> Value;
}

impl<T: IntoValue> IntoValue for Option<T> {
    const NULL: Value = T::NULL;
    fn into_value(self) -> Value {
        self.map_or(T::NULL, T::into_value)
    }
}

/// A row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// What can be read from a column; `None` for a missing value.
pub(super) trait Column: Sized {
    fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError>;
}

impl Row {
    /// A column that always has a value.
    pub(super) fn get<T: Column>(&self, column: &str) -> Result<T, StoreError> {
        T::read(self, column)?.ok_or_else(|| StoreError::Damaged(format!("{column} is missing")))
    }

    /// A column that may have none.
    pub(super) fn opt<T: Column>(&self, column: &str) -> Result<Option<T>, StoreError> {
        T::read(self, column)
    }

    /// A column that holds JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.get::<String>(column)?).map_err(|why| damaged(column, &why))
    }
}

/// A parameter that holds JSON.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<Value, StoreError> {
    serde_json::to_string(value).map(|text| Value::Text(Some(text))).map_err(|why| damaged("a value", &why))
}

fn damaged(column: &str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("{column}: {why}"))
}

macro_rules! native {
    ($($type:ty => $variant:ident;)*) => {$(
        impl IntoValue for $type {
            const NULL: Value = Value::$variant(None);
            fn into_value(self) -> Value {
                Value::$variant(Some(self))
            }
        }

        impl Column for $type {
            fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError> {
                match row {
                    Row::Sqlite(row) => row.try_get(column).map_err(|why| damaged(column, &why)),
                    Row::Postgres(row) => row.try_get(column).map_err(|why| damaged(column, &why)),
                }
            }
        }
    )*};
}

native! {
    i64 => Int;
    String => Text;
    Vec<u8> => Bytes;
}

impl IntoValue for &str {
    const NULL: Value = Value::Text(None);
    fn into_value(self) -> Value {
        Value::Text(Some(self.to_owned()))
    }
}

impl IntoValue for &[u8] {
    const NULL: Value = Value::Bytes(None);
    fn into_value(self) -> Value {
        Value::Bytes(Some(self.to_vec()))
    }
}

impl IntoValue for bool {
    const NULL: Value = Value::Int(None);
    fn into_value(self) -> Value {
        Value::Int(Some(i64::from(self)))
    }
}

impl Column for bool {
    fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError> {
        Ok(i64::read(row, column)?.map(|value| value != 0))
    }
}

impl IntoValue for Timestamp {
    const NULL: Value = Value::Int(None);
    fn into_value(self) -> Value {
        Value::Int(Some(self.as_micros()))
    }
}

impl Column for Timestamp {
    fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError> {
        Ok(i64::read(row, column)?.map(Self::from_micros))
    }
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl IntoValue for $type {
            const NULL: Value = Value::Int(None);
            fn into_value(self) -> Value {
                // Counters and limits: none comes near 2^63.
                Value::Int(Some(i64::try_from(self).unwrap_or(i64::MAX)))
            }
        }

        impl Column for $type {
            fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError> {
                i64::read(row, column)?
                    .map(|value| Self::try_from(value).map_err(|why| damaged(column, &why)))
                    .transpose()
            }
        }
    )*};
}

number!(u64, u32, u16, usize);

/// Types with a text form that reads back.
macro_rules! text {
    ($($type:ty),* $(,)?) => {$(
        impl IntoValue for $type {
            const NULL: Value = Value::Text(None);
            fn into_value(self) -> Value {
                Value::Text(Some(self.to_string()))
            }
        }

        impl IntoValue for &$type {
            const NULL: Value = Value::Text(None);
            fn into_value(self) -> Value {
                Value::Text(Some(self.to_string()))
            }
        }

        impl Column for $type {
            fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError> {
                String::read(row, column)?
                    .map(|text| text.parse().map_err(|why| damaged(column, &why)))
                    .transpose()
            }
        }
    )*};
}

text! {
    ApiKeyId, ControlId, DirectoryId, EdgeId, EnvironmentId, FlowId, JoinId, MailId, OrganizationId,
    ProjectId, RouteId, ServiceAccountId, SessionId, SignInId, UserId, WarpgateId, Slug, Name, Host, Partition, Subject,
}

impl IntoValue for &DocumentKey {
    const NULL: Value = Value::Text(None);
    fn into_value(self) -> Value {
        self.as_str().into_value()
    }
}

impl Column for DocumentKey {
    fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError> {
        Ok(String::read(row, column)?.map(|text| Self::from_text(&text)))
    }
}

impl IntoValue for [u8; 32] {
    const NULL: Value = Value::Bytes(None);
    fn into_value(self) -> Value {
        Value::Bytes(Some(self.to_vec()))
    }
}

impl Column for [u8; 32] {
    fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError> {
        Vec::<u8>::read(row, column)?
            .map(|bytes| bytes.try_into().map_err(|_| damaged(column, &"not 32 bytes")))
            .transpose()
    }
}

impl IntoValue for &TokenHash {
    const NULL: Value = Value::Bytes(None);
    fn into_value(self) -> Value {
        (*self.as_bytes()).into_value()
    }
}

impl Column for TokenHash {
    fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError> {
        Ok(<[u8; 32]>::read(row, column)?.map(Self::from_bytes))
    }
}

/// Enums kept as one word.
macro_rules! word {
    ($type:ty { $($variant:ident = $word:literal),* $(,)? }) => {
        impl IntoValue for $type {
            const NULL: Value = Value::Text(None);
            fn into_value(self) -> Value {
                Value::Text(Some(match self { $(Self::$variant => $word),* }.to_owned()))
            }
        }

        impl Column for $type {
            fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError> {
                String::read(row, column)?
                    .map(|word| match word.as_str() {
                        $($word => Ok(Self::$variant),)*
                        other => Err(StoreError::Damaged(format!("{column}: unknown word {other}"))),
                    })
                    .transpose()
            }
        }
    };
}
pub(super) use word;

word!(Status { Active = "active", Suspended = "suspended", Deactivated = "deactivated" });
word!(Assurance { Aal1 = "aal1", Aal2 = "aal2" });

/// Parameters of a query, in order: `args![id, &slug, created_at]`.
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        vec![$($crate::primary::value::IntoValue::into_value($value)),*]
    };
}
pub(super) use args;

impl IntoValue for Value {
    const NULL: Value = Value::Text(None);
    fn into_value(self) -> Value {
        self
    }
}
