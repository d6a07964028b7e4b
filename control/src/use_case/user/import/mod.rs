//! Very many users at once, from a file: all of them or none.
//!
//! The file is read as it comes in, so that only the users it makes are held, and checked whole before anything is
//! written: every mistake is told with its line. One import runs at a time.

mod csv;
mod json;
mod raw;

use std::collections::BTreeSet;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use mezusphere_store::StoreError;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::user::{self, ImportedUser};
use mezusphere_store::primary::{ReadTx, role};

use self::csv::CsvFile;
use self::json::JsonFile;
use self::raw::{Checked, Raw, Unreadable};
use super::super::scope;
use crate::Shared;
use crate::api::types::{ImportQuery, ImportReport};
use crate::caller::{Caller, Permission};
use crate::problem::{self, Refusal};

/// Largest file, in octets: what the most users of one import take, with claims and hashes.
pub(crate) const FILE_LEN_MAX: usize = 64 * 1024 * 1024;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `text/csv`.
    Csv,
    /// `application/json`: an array of objects, or one object to a line.
    Json,
}

enum File {
    Csv(Box<CsvFile>),
    Json(JsonFile),
}

impl File {
    fn read(
        &mut self,
        piece: &[u8],
        found: &mut impl FnMut(u64, Result<Raw, String>),
    ) -> Result<(), Unreadable> {
        match self {
            Self::Csv(file) => file.read(piece, found),
            Self::Json(file) => file.read(piece, found),
        }
    }
}

/// Adds the users of a file with their roles in the project, or says what is wrong with it.
pub(crate) async fn import(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    asked: ImportQuery,
    format: Format,
    body: Body,
) -> Result<ImportReport, Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    // Looked at before the file: a caller who reaches no such project makes no work.
    let (row, roles) = shared
        .primary
        .read(async |tx| {
            let row = scope::accounts(tx, &grant, project).await?;
            let roles = role::list(tx, row.id).await?.into_iter().map(|role| role.name).collect();
            Ok::<_, Refusal>((row, roles))
        })
        .await?;
    let _turn = shared
        .importing
        .try_acquire()
        .map_err(|_| Refusal::new(&problem::BUSY, "another import is running"))?;
    let mut checked = Checked::new(row.directory, roles, shared.clock.now(), shared.entropy.clone());
    if let Err(Unreadable { line, why }) = read(format, body, &mut checked).await? {
        checked.wrong(line, why);
    }
    if asked.dry_run || checked.errors > 0 {
        let taken = shared.primary.read(async |tx| taken(tx, &row, &checked).await).await?;
        return Ok(report(checked, &taken, asked));
    }
    let held = &checked;
    let applied = shared
        .primary
        .write(async |tx| {
            let row = scope::accounts(tx, &grant, project).await?;
            let taken = taken(tx, &row, held).await?;
            if !taken.is_empty() && !asked.skip_existing {
                return Ok::<_, Refusal>(Err(taken));
            }
            let new = |user: &&ImportedUser| !taken.contains(&user.row.email.to_lowercase());
            let new: Vec<&ImportedUser> = held.users.iter().map(|(_, user)| user).filter(new).collect();
            user::import(tx, row.directory, row.id, &new).await?;
            let detail = serde_json::json!({ "users": new.len(), "skipped": taken.len() });
            scope::audit(tx, &grant, &row, "user.import", &row.directory, detail);
            let (users, skipped) = (new.len(), taken.len());
            Ok(Ok(ImportReport { applied: true, users, skipped, errors: 0, problems: vec![] }))
        })
        .await?;
    Ok(applied.unwrap_or_else(|taken| report(checked, &taken, asked)))
}

/// Reads the file; what cannot be read ends it, and is told like any other mistake.
async fn read(
    format: Format,
    mut body: Body,
    checked: &mut Checked,
) -> Result<Result<(), Unreadable>, Refusal> {
    let mut file = match format {
        Format::Csv => File::Csv(Box::new(CsvFile::new())),
        Format::Json => File::Json(JsonFile::new()),
    };
    let mut len = 0;
    loop {
        let piece = match body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) if !piece.is_empty() => piece,
                Ok(_) | Err(_) => continue, // an empty piece would be the end; trailers are none
            },
            Some(Err(_)) => return Err(Refusal::new(&problem::REQUEST_INVALID, "the body broke off")),
            None => Bytes::new(),
        };
        len += piece.len();
        if len > FILE_LEN_MAX {
            let detail = format!("a file of users has at most {FILE_LEN_MAX} octets");
            return Err(Refusal::new(&problem::REQUEST_TOO_LARGE, detail).with_next("make several of it"));
        }
        let mut full = None;
        let read = file.read(&piece, &mut |line, raw| {
            if full.is_none() {
                full = checked.take(line, raw).err();
            }
        });
        if let Some(why) = read.err().or(full) {
            return Ok(Err(why));
        }
        if piece.is_empty() {
            return Ok(Ok(()));
        }
    }
}

/// The folded addresses of the file that have an account already.
async fn taken(tx: &mut ReadTx, row: &ProjectRow, checked: &Checked) -> Result<BTreeSet<String>, StoreError> {
    let emails: Vec<&str> = checked.users.iter().map(|(_, user)| user.row.email.as_str()).collect();
    Ok(user::taken(tx, row.directory, &emails).await?.into_iter().collect())
}

/// What is said when nobody was added.
fn report(mut checked: Checked, taken: &BTreeSet<String>, asked: ImportQuery) -> ImportReport {
    let users = std::mem::take(&mut checked.users);
    if !asked.skip_existing {
        for (line, user) in &users {
            if taken.contains(&user.row.email.to_lowercase()) {
                checked.wrong(*line, "email: has an account already; --skip-existing leaves such users out");
            }
        }
    }
    let mut problems = checked.problems;
    problems.sort_by_key(|problem| problem.line);
    let skipped = if asked.skip_existing { taken.len() } else { 0 };
    ImportReport {
        applied: false,
        users: users.len() - taken.len(),
        skipped,
        errors: checked.errors,
        problems,
    }
}
