//! Finding users among very many: by how an address or a word of their names begins, by status, by role.
//!
//! `user_words` holds what a user is found by. Every question walks one index from where the page before ended and looks
//! at no more than [`SCANNED_MAX`] entries of it, so that no question takes long however few users it is true for: a page
//! may then be shorter than asked for, even empty, and only a missing [`Paged::next`] says that the list is over.

use std::sync::LazyLock;

use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, ProjectId, UserId};
use mezusphere_model::slug::Name;

use super::{UserRow, key, read};
use crate::primary::batch::Insertion;
use crate::primary::value::{Row, args};
use crate::primary::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// Most entries of an index one page looks at.
pub const SCANNED_MAX: usize = 2_000;

/// Most words of a search; more are not looked at.
pub const TERMS_MAX: usize = 3;

/// Most words of each of a user's names that are found.
const WORDS_MAX: usize = 8;

/// Longest word kept, in octets: what begins longer words is found all the same.
const WORD_LEN_MAX: usize = 64;

/// Most users [`mend`] looks after in one transaction, so that other writers never wait long.
pub const MENDED_MAX: u32 = 200;

/// Files users under their words.
pub(super) static WORDS: LazyLock<Insertion> =
    LazyLock::new(|| Insertion::new("INSERT INTO user_words (directory, word, user_id)", 3));

/// Ends a range of words: no character sorts after it.
const LAST: char = char::MAX;

/// Which users are asked for; everything that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserQuery {
    /// Each of its words (at most [`TERMS_MAX`]) begins the address or a word of a name of theirs, whatever the case. Empty:
    /// any.
    pub text: String,
    /// Whether they may act.
    pub status: Option<Status>,
    /// A role they hold in a project of the directory.
    pub role: Option<(ProjectId, Name)>,
}

/// An address, or a part of it, as it is found.
fn cut(word: &str) -> &str {
    word.get(..word.floor_char_boundary(WORD_LEN_MAX)).unwrap_or_default()
}

/// What a user is found by: address and names, as people write them in parts (`Jean-Luc O'Neill` also by `luc` and
/// `neill`).
pub(super) fn words(email: &str, names: [&str; 2]) -> Vec<String> {
    let mut words = vec![cut(&key(email)).to_owned()];
    for name in names {
        let folded = name.to_lowercase();
        let parts = folded.split_whitespace().flat_map(|word| {
            let parts = word.split(|c: char| !c.is_alphanumeric()).skip(1);
            [word].into_iter().chain(parts)
        });
        let parts = parts.filter(|part| !part.is_empty()).take(WORDS_MAX);
        words.extend(parts.map(|part| cut(part).to_owned()));
    }
    words.sort_unstable();
    words.dedup();
    words
}

/// Files a user anew under what they are found by.
pub(super) async fn file(
    tx: &mut Tx,
    directory: DirectoryId,
    id: UserId,
    email: &str,
    names: [&str; 2],
) -> Result<(), WriteError> {
    tx.execute("DELETE FROM user_words WHERE user_id = $1", args![id]).await?;
    let rows = words(email, names).into_iter().map(|word| args![directory, word, id]).collect();
    tx.insert_many("user", &WORDS, rows).await
}

/// Whether there are users for [`mend`] to look after.
pub async fn must_mend(tx: &mut ReadTx) -> Result<bool, StoreError> {
    let row = tx
        .row(
            "SELECT 1 AS one FROM users
             WHERE NOT EXISTS (SELECT 1 FROM user_words w WHERE w.user_id = users.id) LIMIT 1",
            vec![],
        )
        .await?;
    Ok(row.is_some())
}

/// Files users that a node of an older version added, which knows nothing of words; says how many, at most
/// [`MENDED_MAX`]: a job repeats it until 0.
pub async fn mend(tx: &mut Tx) -> Result<u64, WriteError> {
    let rows = tx
        .rows(
            "SELECT * FROM users
             WHERE NOT EXISTS (SELECT 1 FROM user_words w WHERE w.user_id = users.id) LIMIT $1",
            args![MENDED_MAX],
        )
        .await?;
    for row in &rows {
        let row = read(row)?;
        file(tx, row.directory, row.id, &row.email, [&row.name, &row.display_name]).await?;
    }
    Ok(rows.len() as u64)
}

/// A directory's users of whom all of `query` is true. The key of a page is opaque and belongs to the query.
///
/// The order: by folded address if neither text nor role is asked for; by the word that was found if text is; else by id.
pub async fn search(
    tx: &mut ReadTx,
    directory: DirectoryId,
    query: &UserQuery,
    page: &PageRequest,
) -> Result<Paged<UserRow>, StoreError> {
    let mut terms: Vec<String> =
        query.text.split_whitespace().map(|term| cut(&term.to_lowercase()).to_owned()).collect();
    // The longest is in the fewest words: the walk is along that one.
    terms.sort_by_key(|term| std::cmp::Reverse(term.len()));
    terms.truncate(TERMS_MAX);
    let mut terms = terms.into_iter();
    match (terms.next(), &query.role) {
        (Some(first), _) => by_word(tx, directory, &first, terms.collect(), query, page).await,
        (None, Some((project, role))) => by_role(tx, directory, *project, role, query, page).await,
        (None, None) => by_address(tx, directory, query, page).await,
    }
}

async fn by_address(
    tx: &mut ReadTx,
    directory: DirectoryId,
    query: &UserQuery,
    page: &PageRequest,
) -> Result<Paged<UserRow>, StoreError> {
    let Some(status) = query.status else { return super::list(tx, directory, page).await };
    let rows = tx
        .rows(
            "SELECT * FROM users WHERE directory = $1 AND status = $2 AND email_key > $3
             ORDER BY email_key LIMIT $4",
            args![directory, status, page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| key(&row.email)))
}

async fn by_role(
    tx: &mut ReadTx,
    directory: DirectoryId,
    project: ProjectId,
    role: &Name,
    query: &UserQuery,
    page: &PageRequest,
) -> Result<Paged<UserRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT w.user_id AS place, u.* FROM (
                 SELECT user_id FROM user_roles WHERE project = $2 AND role = $3 AND user_id > $4
                 ORDER BY user_id LIMIT $5) AS w
             LEFT JOIN users u ON u.id = w.user_id AND u.directory = $1 AND ($6 IS NULL OR u.status = $6)
             ORDER BY w.user_id",
            args![directory, project, role, page.start(), SCANNED_MAX, query.status],
        )
        .await?;
    pick(&rows, page, |row| row.get("place"))
}

async fn by_word(
    tx: &mut ReadTx,
    directory: DirectoryId,
    first: &str,
    others: Vec<String>,
    query: &UserQuery,
    page: &PageRequest,
) -> Result<Paged<UserRow>, StoreError> {
    // A word has no space in it, so the place in the index reads back.
    let (word, id) = page.start().split_once(' ').unwrap_or((first, ""));
    let mut others = others.into_iter();
    let (second, third) = (others.next(), others.next());
    let (project, role) = query.role.clone().unzip();
    let rows = tx
        .rows(
            // Who is found by several words is listed at the first of them.
            "SELECT w.word AS word, w.user_id AS place, u.* FROM (
                 SELECT word, user_id FROM user_words
                 WHERE directory = $1 AND (word, user_id) > ($2, $4) AND word < $3
                 ORDER BY word, user_id LIMIT $5) AS w
             LEFT JOIN users u ON u.id = w.user_id AND u.directory = $1 AND ($6 IS NULL OR u.status = $6)
                 AND NOT EXISTS (SELECT 1 FROM user_words v
                     WHERE v.user_id = w.user_id AND v.word >= $7 AND v.word < w.word)
                 AND ($8 IS NULL OR EXISTS (SELECT 1 FROM user_words v
                     WHERE v.user_id = w.user_id AND v.word >= $8 AND v.word < $9))
                 AND ($10 IS NULL OR EXISTS (SELECT 1 FROM user_words v
                     WHERE v.user_id = w.user_id AND v.word >= $10 AND v.word < $11))
                 AND ($12 IS NULL OR EXISTS (SELECT 1 FROM user_roles r
                     WHERE r.project = $12 AND r.user_id = w.user_id AND r.role = $13))
             ORDER BY w.word, w.user_id",
            args![
                directory,
                word,
                end(first),
                id,
                SCANNED_MAX,
                query.status,
                first,
                second.clone(),
                second.as_deref().map(end),
                third.clone(),
                third.as_deref().map(end),
                project,
                role
            ],
        )
        .await?;
    pick(&rows, page, |row| Ok(format!("{} {}", row.get::<String>("word")?, row.get::<String>("place")?)))
}

/// Where words that begin with `term` end.
fn end(term: &str) -> String {
    format!("{term}{LAST}")
}

/// The page among the entries that were looked at: those that have a user. The next one begins after the last entry it
/// needed, or after the last that was looked at.
fn pick(
    rows: &[Row],
    page: &PageRequest,
    place: impl Fn(&Row) -> Result<String, StoreError>,
) -> Result<Paged<UserRow>, StoreError> {
    let mut found = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        if row.opt::<String>("id")?.is_none() {
            continue;
        }
        found.push(read(row)?);
        if found.len() == page.len() && at + 1 < rows.len() {
            return Ok(Paged { rows: found, next: Some(place(row)?) });
        }
    }
    let next = if rows.len() < SCANNED_MAX { None } else { rows.last().map(place).transpose()? };
    Ok(Paged { rows: found, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_parts_of_a_name_as_people_write_them() {
        let found = words("Anna.Berg@Shop.example", ["Jean-Luc  O'Neill Ångström", "Jean Luc"]);
        let expected = ["anna.berg@shop.example", "jean", "jean-luc", "luc", "neill", "o'neill", "ångström"]
            .map(str::to_owned);
        assert_eq!(found, expected);
    }

    #[test]
    fn words_are_few_and_short_and_none_is_empty() {
        let long = "ö".repeat(100);
        let name = format!("- {long} 1 2 3 4 5 6 7 8 9");
        let found = words("a@b.example", [&name, "a b c d e f g h i j k"]);
        assert_eq!(found.len(), 2 * WORDS_MAX + 1, "{found:?}");
        assert!(found.iter().all(|word| !word.is_empty() && word.len() <= WORD_LEN_MAX), "{found:?}");
        assert!(found.iter().any(|word| word.starts_with('ö')), "{found:?}");
    }
}
