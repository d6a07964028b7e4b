//! `mezusphere user`: people of a project's directory.

use std::io::Read as _;

use clap::Subcommand;
use mezusphere_control::api::types::{CreateUser, SetPassword, SetRoles};
use mezusphere_model::Entropy;
use mezusphere_model::slug::Name;
use serde_json::{Value, json};

use super::{Context, project_path, segment};
use crate::failure::{Failure, Kind};
use crate::output::Secret;

/// Characters of a password made here: no two look alike. 20 of 54 give 115 bits.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Longest password read from standard input, in octets.
const PASSWORD_LEN_MAX: u64 = 4096;

/// Users sign in; their roles decide which routes they may use.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a user and print a password made for them
    Create {
        /// The project.
        project: String,
        /// E-mail address.
        email: String,
        /// Name to show.
        #[arg(long)]
        name: Option<String>,
        /// A role; may be repeated.
        #[arg(long = "role", value_name = "NAME")]
        roles: Vec<Name>,
        /// Read the password from standard input instead of making one.
        #[arg(long)]
        password_stdin: bool,
    },
    /// List a project's users
    List {
        /// The project.
        project: String,
    },
    /// Show a user
    Show {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
    },
    /// Replace a user's roles
    SetRoles {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
        /// A role; may be repeated. None takes all roles away.
        #[arg(long = "role", value_name = "NAME")]
        roles: Vec<Name>,
    },
    /// Set a new password and end every session of the user
    SetPassword {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
        /// Read the password from standard input instead of making one.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Keep a user from signing in and end their sessions
    Suspend {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
    },
    /// Let a suspended user sign in again
    Activate {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
    },
    /// Delete a user for good
    Delete {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let all = |project: &str| format!("{}/users", project_path(project));
        let one = |project: &str, user: &str| format!("{}/{}", all(project), segment(user));
        match self {
            Self::Create { project, email, name, roles, password_stdin } => {
                let password = password(context, password_stdin)?;
                let body =
                    CreateUser { email: email.clone(), name, password: Some(password.text.clone()), roles };
                let made = context.client.post(&all(&project), &body).await?;
                print(context, made, &format!("Created {email} in {project}."), &password)
            }
            Self::List { project } => {
                let items = context.client.list(&all(&project)).await?;
                let columns = [
                    ("EMAIL", "/email"),
                    ("NAME", "/name"),
                    ("STATUS", "/status"),
                    ("ROLES", "/roles"),
                    ("CREATED", "/created_at"),
                    ("ID", "/id"),
                ];
                let empty = format!("No users yet. Create one: mezusphere user create {project} EMAIL");
                Ok(context.output.list(&items, &columns, &empty)?)
            }
            Self::Show { project, user } => {
                let found = context.client.get(&one(&project, &user)).await?;
                let fields = [
                    ("EMAIL", "/email"),
                    ("NAME", "/name"),
                    ("STATUS", "/status"),
                    ("PASSWORD SET", "/has_password"),
                    ("ROLES", "/roles"),
                    ("CREATED", "/created_at"),
                    ("ID", "/id"),
                ];
                Ok(context.output.show(&found, &fields)?)
            }
            Self::SetRoles { project, user, roles } => {
                let path = format!("{}/roles", one(&project, &user));
                let changed = context.client.put(&path, &SetRoles { roles }).await?;
                done(
                    context,
                    &changed,
                    &format!("Set the roles of {user}. They hold from the next request on."),
                )
            }
            Self::SetPassword { project, user, password_stdin } => {
                let password = password(context, password_stdin)?;
                let path = format!("{}/password", one(&project, &user));
                let changed =
                    context.client.put(&path, &SetPassword { password: password.text.clone() }).await?;
                print(
                    context,
                    changed,
                    &format!("Set a new password for {user}. Their sessions have ended."),
                    &password,
                )
            }
            Self::Suspend { project, user } => {
                let changed =
                    context.client.post(&format!("{}/suspend", one(&project, &user)), &json!({})).await?;
                done(context, &changed, &format!("Suspended {user}. Their sessions have ended."))
            }
            Self::Activate { project, user } => {
                let changed =
                    context.client.post(&format!("{}/activate", one(&project, &user)), &json!({})).await?;
                done(context, &changed, &format!("Activated {user}."))
            }
            Self::Delete { project, user } => {
                let changed = context.client.delete(&one(&project, &user)).await?;
                done(context, &changed, &format!("Deleted {user}."))
            }
        }
    }
}

struct Password {
    text: String,
    made_here: bool,
}

fn password(context: &Context, from_stdin: bool) -> Result<Password, Failure> {
    if !from_stdin {
        return Ok(Password { text: make(&context.entropy), made_here: true });
    }
    let mut text = String::new();
    std::io::stdin()
        .take(PASSWORD_LEN_MAX)
        .read_to_string(&mut text)
        .map_err(|why| Failure::new(Kind::Usage, format!("cannot read the password: {why}")))?;
    let text = text.trim_end_matches(['\n', '\r']).to_owned();
    if text.is_empty() {
        return Err(Failure::new(Kind::Usage, "standard input is empty")
            .next("pipe the password in: printf %s PASSWORD | mezusphere user … --password-stdin"));
    }
    Ok(Password { text, made_here: false })
}

fn make(entropy: &Entropy) -> String {
    let count = u64::try_from(ALPHABET.len()).unwrap_or(1);
    let letter = || usize::try_from(entropy.below(count)).ok().and_then(|at| ALPHABET.get(at)).copied();
    let groups = (0..4).map(|_| (0..5).filter_map(|_| letter()).map(char::from).collect::<String>());
    groups.collect::<Vec<_>>().join("-")
}

fn print(context: &Context, mut answer: Value, said: &str, password: &Password) -> Result<(), Failure> {
    if password.made_here {
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("password".to_owned(), password.text.clone().into());
        }
        let (said, then) = (said.to_owned(), String::new());
        let secret = Secret { field: "password", text: &password.text, said, then };
        return context.output.secret(&answer, &secret, None);
    }
    done(context, &answer, said)
}

fn done(context: &Context, answer: &Value, said: &str) -> Result<(), Failure> {
    context.output.json(answer)?;
    context.output.say(said)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_made_here_meets_the_rule_for_passwords() {
        let entropy = Entropy::counting();
        let (one, two) = (make(&entropy), make(&entropy));
        assert_eq!(one.chars().count(), 23);
        assert_ne!(one, two);
    }
}
