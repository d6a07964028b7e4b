//! What lists show of users besides their rows, for a page at a time: a query per user would cost more than the page.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use mezusphere_model::id::{ProjectId, UserId};
use mezusphere_model::slug::Name;

use crate::primary::batch::ROWS_AT_ONCE;
use crate::primary::value::{IntoValue, Value, args};
use crate::primary::{ReadTx, StoreError};

/// What a user has in a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Their roles, sorted.
    pub roles: Vec<Name>,
    /// Whether they have a password.
    pub has_password: bool,
}

static ROLES: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT user_id, role FROM user_roles WHERE project = $1 AND user_id IN ({})", places(2))
});
static PASSWORDS: LazyLock<String> =
    LazyLock::new(|| format!("SELECT user_id FROM passwords WHERE user_id IN ({})", places(1)));

fn places(first: usize) -> String {
    (first..first + ROWS_AT_ONCE).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}

/// The standing of these users, who live in the project's directory: the caller has read their rows.
pub async fn standing(
    tx: &mut ReadTx,
    project: ProjectId,
    users: &[UserId],
) -> Result<BTreeMap<UserId, Standing>, StoreError> {
    let mut found: BTreeMap<UserId, Standing> = users.iter().map(|id| (*id, Standing::default())).collect();
    for batch in users.chunks(ROWS_AT_ONCE) {
        // Nothing equals NULL: a last batch that is not full asks for no more.
        let mut ids: Vec<Value> = batch.iter().map(IntoValue::into_value).collect();
        ids.resize_with(ROWS_AT_ONCE, || Value::Text(None));
        let mut values = args![project];
        values.extend(ids.iter().cloned());
        for row in tx.rows(&ROLES, values).await? {
            found.entry(row.get("user_id")?).or_default().roles.push(row.get("role")?);
        }
        for row in tx.rows(&PASSWORDS, ids).await? {
            found.entry(row.get("user_id")?).or_default().has_password = true;
        }
    }
    for standing in found.values_mut() {
        standing.roles.sort();
    }
    Ok(found)
}
