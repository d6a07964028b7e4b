//! Users of a directory: adding them, their password, their standing.
//!
//! What each change does to open sessions is decided here, once: a new password and a suspension end every
//! sign-in. Which roles there are is the store's business.

use std::collections::BTreeMap;

use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, UserId};
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::WriteError;
use mezusphere_store::primary::user::{self, UserChange, UserRow};
use mezusphere_store::primary::{Tx, sign_in};

use crate::factor::password::{self, PasswordHash};
use crate::history::{self, Outcome};
use crate::message::{Message, MessageKind};
use crate::sign_in::Place;

/// Longest e-mail address, in octets (RFC 5321 §4.5.3.1.3 less the brackets).
pub const EMAIL_LEN_MAX: usize = 254;

/// Longest name, in code points.
pub const NAME_LEN_MAX: usize = 200;

/// An e-mail address that a user may have: something, `@`, something, and nothing that could break a header or a line.
///
/// Whether it exists only a mail to it can tell. Kept as typed; compared whatever its case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

/// Why a user's fields are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Not an e-mail address.
    #[error("this is not an e-mail address; write it like ada@shop.example")]
    Email,
    /// Empty, too long, or with characters that cannot be shown.
    #[error("a name has 1 to {NAME_LEN_MAX} characters and no line breaks")]
    Name,
    /// Too long, or with characters that cannot be shown.
    #[error("a display name has up to {NAME_LEN_MAX} characters and no line breaks; empty takes it away")]
    DisplayName,
}

impl Email {
    /// Reads an address; spaces around it are dropped.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let text = text.trim();
        let Some((local, domain)) = text.rsplit_once('@') else { return Err(FieldError::Email) };
        let odd = |c: char| c.is_control() || c.is_whitespace() || "<>\",;:\\()[]".contains(c);
        let domain_ok = domain.split('.').all(|label| !label.is_empty()) && !domain.contains('@');
        if local.is_empty()
            || local.contains('@')
            || text.len() > EMAIL_LEN_MAX
            || text.contains(odd)
            || !domain_ok
        {
            return Err(FieldError::Email);
        }
        Ok(Self(text.to_owned()))
    }

    /// The address as typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the `@`.
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

/// The spelling under which attempts at a login are counted: what a person would take for the same address.
pub(crate) fn fold_login(login: &str) -> String {
    login.trim().to_lowercase()
}

/// A name: trimmed, one line, at most [`NAME_LEN_MAX`] code points.
pub fn check_name(text: &str) -> Result<&str, FieldError> {
    let text = text.trim();
    let ok = !text.is_empty() && text.chars().count() <= NAME_LEN_MAX && !text.chars().any(char::is_control);
    if ok { Ok(text) } else { Err(FieldError::Name) }
}

/// A name to show in the full one's place: like any name, or empty for none.
pub fn check_display_name(text: &str) -> Result<&str, FieldError> {
    if text.trim().is_empty() { Ok("") } else { check_name(text).map_err(|_| FieldError::DisplayName) }
}

/// A user to be added.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Where they will live.
    pub directory: DirectoryId,
    /// Their address, unique there.
    pub email: Email,
    /// Full name; empty: the part of the address before the `@`.
    pub name: String,
    /// What they are called where a name is shown; empty: by their name.
    pub display_name: String,
    /// Custom claims.
    pub claims: BTreeMap<String, serde_json::Value>,
    /// Their password, if one is set for them; otherwise give them a link of
    /// [`crate::flow::first_sign_in::create_link`].
    pub password: Option<PasswordHash>,
}

/// Why a user was not added or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// A field is not what it should be.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The store refused, for instance because the address is taken.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<mezusphere_store::StoreError> for AccountError {
    fn from(error: mezusphere_store::StoreError) -> Self {
        Self::Write(error.into())
    }
}

/// Adds an active user.
pub async fn create(
    tx: &mut Tx,
    entropy: &Entropy,
    now: Timestamp,
    new: NewUser,
) -> Result<UserRow, AccountError> {
    let name = if new.name.trim().is_empty() {
        new.email.as_str().split('@').next().unwrap_or_default()
    } else {
        &new.name
    };
    let row = UserRow {
        id: UserId::random(entropy),
        directory: new.directory,
        name: check_name(name)?.to_owned(),
        display_name: check_display_name(&new.display_name)?.to_owned(),
        email: new.email.0,
        email_verified_at: None,
        status: Status::Active,
        claims: new.claims,
        version: 1,
        sessions_valid_from: Timestamp::default(),
        signed_in_at: None,
        created_at: now,
        updated_at: now,
    };
    user::insert(tx, &row).await?;
    if let Some(hash) = new.password {
        mezusphere_store::primary::password::put(tx, row.directory, &hash.into_row(row.id, now)).await?;
    }
    Ok(row)
}

/// Sets a user's password for an operator at `place`, and ends every sign-in of theirs: whoever knew the old one is out
/// (R12). Returns what to mail: nobody's password changes behind their back.
pub async fn set_password(
    tx: &mut Tx,
    user: &UserRow,
    hash: PasswordHash,
    place: &Place,
) -> Result<Vec<Message>, WriteError> {
    password::set(tx, user.directory, user.id, hash).await?;
    history::record(tx, user, Outcome::PasswordChanged, None, place).await?;
    let kind = MessageKind::PasswordChanged { at: tx.now(), place: place.clone() };
    // It was read when it was stored.
    let to = Email(user.email.clone());
    Ok(vec![Message::new(user.directory, to, user.shown_name(), kind)])
}

/// Lets a user act, or stops them. Anything but active ends every sign-in of theirs.
pub async fn set_status(
    tx: &mut Tx,
    directory: DirectoryId,
    user: UserId,
    status: Status,
) -> Result<(), WriteError> {
    let change = UserChange { status: Some(status), ..UserChange::default() };
    user::update(tx, directory, user, &change).await?;
    if status != Status::Active {
        sign_in::end_all(tx, directory, user, None).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_e_mail_address_is_one_line_with_an_at_sign() {
        for text in [
            "ada@shop.example",
            " ada@shop.example ",
            "Ada.L+x@sub.shop.example",
            "zoë@exämple.de",
            "root@localhost",
        ] {
            assert_eq!(Email::parse(text).unwrap().as_str(), text.trim(), "{text}");
        }
        let long = format!("{}@shop.example", "a".repeat(EMAIL_LEN_MAX));
        for text in [
            "",
            "@",
            "ada",
            "ada@",
            "@shop.example",
            "a@b@c",
            "a b@c.example",
            "a@b..c",
            "a@.c",
            "a@c.",
            "a\r\nbcc:eve@evil.example@c",
            "\"a\"@c.example",
            "<ada@shop.example>",
            &long,
        ] {
            assert_eq!(Email::parse(text), Err(FieldError::Email), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(check_name(" Ada Lovelace "), Ok("Ada Lovelace"));
        assert_eq!(check_name("Zoë 🦉"), Ok("Zoë 🦉"));
        for text in ["", "  ", "a\nb", "a\u{7}"] {
            assert_eq!(check_name(text), Err(FieldError::Name), "{text:?}");
        }
    }

    #[test]
    fn a_display_name_is_a_name_or_none() {
        assert_eq!(check_display_name(" Zoë 🦉 "), Ok("Zoë 🦉"));
        assert_eq!((check_display_name(""), check_display_name("  ")), (Ok(""), Ok("")));
        for text in ["a\nb".to_owned(), "a\u{7}".to_owned(), "ö".repeat(NAME_LEN_MAX + 1)] {
            assert_eq!(check_display_name(&text), Err(FieldError::DisplayName), "{text:?}");
        }
    }
}
