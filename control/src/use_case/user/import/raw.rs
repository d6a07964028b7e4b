//! A user as a file has them, and the checks that make one of ours of it.

use std::collections::{BTreeSet, HashMap};

use mezusphere_identity::account::{Email, check_display_name, check_name};
use mezusphere_identity::factor::password::PasswordHash;
use mezusphere_model::id::{DirectoryId, UserId};
use mezusphere_model::slug::Name;
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::primary::password::PasswordRow;
use mezusphere_store::primary::user::{IMPORTED_MAX, ImportedUser, UserRow};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::claims;
use crate::api::types::{Claims, ImportProblem, UserStatus};

/// Why plain passwords are not taken.
pub(super) const NO_PASSWORDS: &str = "plain passwords are not taken: give Argon2id hashes as password_hash, or leave \
                                       them out and let users choose one (user invite, or a password reset)";

/// Most mistakes that are told; all are counted.
const PROBLEMS_MAX: usize = 1_000;

/// The file cannot be read from here on.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) line: u64,
    pub(super) why: String,
}

/// A user as a file has them.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) email: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) display_name: Option<String>,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) verified: Option<bool>,
    #[serde(default)]
    pub(super) claims: Option<Claims>,
    #[serde(default)]
    pub(super) password_hash: Option<String>,
    #[serde(default)]
    password: Option<IgnoredAny>,
}

/// What an import has found so far.
pub(super) struct Checked {
    directory: DirectoryId,
    roles: BTreeSet<Name>,
    now: Timestamp,
    entropy: Entropy,
    /// The users, each with its line.
    pub(super) users: Vec<(u64, ImportedUser)>,
    /// The line of each address, folded.
    lines: HashMap<String, u64>,
    /// How many mistakes there are.
    pub(super) errors: usize,
    /// The first of them.
    pub(super) problems: Vec<ImportProblem>,
}

impl Checked {
    pub(super) fn new(
        directory: DirectoryId,
        roles: BTreeSet<Name>,
        now: Timestamp,
        entropy: Entropy,
    ) -> Self {
        let (users, lines, problems) = Default::default();
        Self { directory, roles, now, entropy, users, lines, errors: 0, problems }
    }

    /// Takes a mistake down.
    pub(super) fn wrong(&mut self, line: u64, reason: impl Into<String>) {
        self.errors += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(ImportProblem { line, reason: reason.into() });
        }
    }

    /// Takes a user of the file in.
    ///
    /// # Errors
    /// Past [`IMPORTED_MAX`] users, so that what is held has a bound.
    pub(super) fn take(&mut self, line: u64, raw: Result<Raw, String>) -> Result<(), Unreadable> {
        if self.users.len() == IMPORTED_MAX {
            let why = format!("more than {IMPORTED_MAX} users in one file; make several of it");
            return Err(Unreadable { line, why });
        }
        match raw.and_then(|raw| self.user(line, raw)) {
            Ok(user) => self.users.push((line, user)),
            Err(why) => self.wrong(line, why),
        }
        Ok(())
    }

    fn user(&mut self, line: u64, raw: Raw) -> Result<ImportedUser, String> {
        if raw.password.is_some() {
            return Err(NO_PASSWORDS.to_owned());
        }
        let email = Email::parse(&raw.email).map_err(|why| format!("email: {why}"))?;
        let email = email.as_str();
        if let Some(first) = self.lines.insert(email.to_lowercase(), line) {
            return Err(format!("email: the same address as on line {first}"));
        }
        let name = raw.name.as_deref().unwrap_or_else(|| email.split('@').next().unwrap_or_default());
        let name = check_name(name).map_err(|why| format!("name: {why}"))?;
        let display_name = check_display_name(raw.display_name.as_deref().unwrap_or_default())
            .map_err(|why| format!("display_name: {why}"))?;
        let status = match raw.status.as_deref() {
            None | Some("active") => UserStatus::Active,
            Some("suspended") => UserStatus::Suspended,
            Some("deactivated") => UserStatus::Deactivated,
            Some(_) => return Err("status: write active, suspended or deactivated".to_owned()),
        };
        let mut roles = BTreeSet::new();
        for role in &raw.roles {
            // What is no name at all is not repeated: it may be anything.
            let name = Name::parse(role).map_err(|_| "roles: one of them cannot be the name of a role")?;
            if !self.roles.contains(&name) {
                return Err(format!("roles: {name} is not a role of this project"));
            }
            roles.insert(name);
        }
        let claims = raw.claims.unwrap_or_default();
        claims::check(&claims)?;
        let id = UserId::random(&self.entropy);
        let password = match raw.password_hash.as_deref().map(PasswordHash::imported).transpose() {
            Ok(hash) => hash.map(|hash| PasswordRow {
                user: id,
                hash: hash.phc().to_owned(),
                pepper_version: hash.pepper_version(),
                changed_at: self.now,
            }),
            Err(why) => return Err(format!("password_hash: {why}")),
        };
        let row = UserRow {
            id,
            directory: self.directory,
            email: email.to_owned(),
            email_verified_at: raw.verified.unwrap_or(false).then_some(self.now),
            name: name.to_owned(),
            display_name: display_name.to_owned(),
            status: super::super::status(status),
            claims,
            version: 1,
            sessions_valid_from: Timestamp::default(),
            signed_in_at: None,
            created_at: self.now,
            updated_at: self.now,
        };
        Ok(ImportedUser { row, roles: roles.into_iter().collect(), password })
    }
}
