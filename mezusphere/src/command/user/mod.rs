//! `mezusphere user`: people of a project's directory.

mod import;
mod lists;
mod password;

use clap::{Subcommand, ValueEnum};
use mezusphere_control::api::types::{Claims, CreateUser, InviteUser, SetPassword, SetRoles, UpdateUser};
use mezusphere_model::slug::Name;
use serde_json::{Value, json};

use self::password::{Password, password};
use super::{Context, project_path, segment};
use crate::failure::{Failure, Kind};
use crate::output::{Column, Secret};

/// Shown below the long help of `set`.
const SET_EXAMPLES: &str = "\
Examples:
  Call her otherwise:  mezusphere user set shop ada@shop.example --name 'Ada King'
  Claims for routes:   mezusphere user set shop ada@shop.example --claim plan=pro --claim seats=3";

/// Whether a user may sign in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Status {
    /// May.
    Active,
    /// May not until activated again.
    Suspended,
    /// May not any more.
    Deactivated,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deactivated => "deactivated",
        }
    }
}

/// What is shown of a user.
const FIELDS: [Column; 11] = [
    ("EMAIL", "/email"),
    ("VERIFIED", "/verified"),
    ("NAME", "/name"),
    ("DISPLAY NAME", "/display_name"),
    ("STATUS", "/status"),
    ("PASSWORD SET", "/has_password"),
    ("ROLES", "/roles"),
    ("CLAIMS", "/claims"),
    ("LAST SIGN-IN", "/signed_in_at"),
    ("CREATED", "/created_at"),
    ("ID", "/id"),
];

/// Users sign in; their roles decide which routes they may use.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a user and print a password made for them
    Create {
        /// The project.
        project: String,
        /// E-mail address.
        email: String,
        /// Full name.
        #[arg(long)]
        name: Option<String>,
        /// What they are called on pages, in mails and to workloads; by their name if left out.
        #[arg(long, value_name = "NAME")]
        display_name: Option<String>,
        /// A role; may be repeated.
        #[arg(long = "role", value_name = "NAME")]
        roles: Vec<Name>,
        /// Read the password from standard input instead of making one.
        #[arg(long)]
        password_stdin: bool,
    },
    /// List a project's users, or those of whom all that is given is true
    List {
        /// The project.
        project: String,
        /// Words, each of which begins the address or a word of a name of theirs.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// A role they hold in the project.
        #[arg(long, value_name = "NAME")]
        role: Option<Name>,
        /// Whether they may sign in.
        #[arg(long, value_enum)]
        status: Option<Status>,
    },
    /// Change a user's address, names or claims
    #[command(after_long_help = SET_EXAMPLES)]
    Set {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
        /// A new e-mail address; it is not verified.
        #[arg(long)]
        email: Option<String>,
        /// Full name.
        #[arg(long)]
        name: Option<String>,
        /// What they are called on pages, in mails and to workloads; '' for their name.
        #[arg(long, value_name = "NAME")]
        display_name: Option<String>,
        /// A custom claim, its value as JSON or plain text; may be repeated, and replaces all there were.
        #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
        claims: Vec<(String, Value)>,
        /// Take all custom claims away.
        #[arg(long, conflicts_with = "claims")]
        no_claims: bool,
    },
    /// Note that a user's e-mail address is known to be theirs
    Verify {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
    },
    /// Ask somebody in by mail, with the roles they will have
    Invite {
        /// The project.
        project: String,
        /// E-mail address.
        email: String,
        /// What they are called, if that is known.
        #[arg(long)]
        name: Option<String>,
        /// A role; may be repeated.
        #[arg(long = "role", value_name = "NAME")]
        roles: Vec<Name>,
        /// Who invites, as the mail says; the project's name if left out.
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// List invitations that are open
    Invitations {
        /// The project.
        project: String,
    },
    /// Take an invitation back
    Uninvite {
        /// The project.
        project: String,
        /// The invitation's id.
        id: String,
    },
    /// Add the users of a CSV or JSON file: all of them, or none
    Import(import::Import),
    /// Show where a user is signed in
    Sessions {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
    },
    /// End a user's sessions, or one of them
    SignOut {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
        /// Only this one, by the id `user sessions` shows.
        #[arg(long, value_name = "ID")]
        session: Option<String>,
    },
    /// Show what happened to a user's account, newest first
    History {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
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
    /// Stop a user for good and keep what they were; end their sessions
    Deactivate {
        /// The project.
        project: String,
        /// Id or e-mail address.
        user: String,
    },
    /// Delete a user for good
    #[command(alias = "remove")]
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
            Self::Create { project, email, name, display_name, roles, password_stdin } => {
                let password = password(context, password_stdin)?;
                let body = CreateUser {
                    email: email.clone(),
                    name,
                    display_name,
                    password: Some(password.text.clone()),
                    roles,
                    verified: false,
                    claims: Claims::default(),
                };
                let made = context.client.post(&all(&project), &body).await?;
                print(context, made, &format!("Created {email} in {project}."), &password)
            }
            Self::List { project, search, role, status } => {
                let asked = [
                    search.map(|text| format!("search={}", segment(&text))),
                    role.map(|name| format!("role={}", segment(name.as_str()))),
                    status.map(|status| format!("status={}", status.as_str())),
                ];
                lists::users(context, &project, asked.into_iter().flatten().collect()).await
            }
            Self::Show { project, user } => {
                let found = context.client.get(&one(&project, &user)).await?;
                Ok(context.output.show(&found, &FIELDS)?)
            }
            Self::Set { project, user, email, name, display_name, claims, no_claims } => {
                let claims: Claims = claims.into_iter().collect();
                let claims = (no_claims || !claims.is_empty()).then_some(claims);
                if email.is_none() && name.is_none() && display_name.is_none() && claims.is_none() {
                    return Err(Failure::new(Kind::Usage, "nothing to change was given")
                        .next("mezusphere user set --help shows what can be"));
                }
                let body = UpdateUser { email, name, display_name, verified: None, claims };
                let changed = context.client.patch(&one(&project, &user), &body).await?;
                Ok(context.output.show(&changed, &FIELDS)?)
            }
            Self::Verify { project, user } => {
                let body = UpdateUser { verified: Some(true), ..UpdateUser::default() };
                let changed = context.client.patch(&one(&project, &user), &body).await?;
                done(context, &changed, &format!("Noted that the address of {user} is verified."))
            }
            Self::Invite { project, email, name, roles, by } => {
                let path = format!("{}/invitations", project_path(&project));
                let body = InviteUser { email: email.clone(), name, roles, by };
                let made = context.client.post(&path, &body).await?;
                let until = made.get("expires_at").and_then(Value::as_str).unwrap_or_default().to_owned();
                done(
                    context,
                    &made,
                    &format!("Invited {email} to {project}. The link is good until {until}."),
                )
            }
            Self::Invitations { project } => lists::invitations(context, &project).await,
            Self::Uninvite { project, id } => {
                let path = format!("{}/invitations/{}", project_path(&project), segment(&id));
                let gone = context.client.delete(&path).await?;
                done(context, &gone, "Took the invitation back. Its link no longer works.")
            }
            Self::Import(import) => import.run(context).await,
            Self::Sessions { project, user } => lists::sessions(context, &one(&project, &user), &user).await,
            Self::SignOut { project, user, session } => {
                sign_out(context, &one(&project, &user), &user, session).await
            }
            Self::History { project, user } => lists::history(context, &one(&project, &user), &user).await,
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
                set_password(context, &one(&project, &user), &user, password_stdin).await
            }
            Self::Suspend { project, user } => {
                let said = format!("Suspended {user}. Their sessions have ended.");
                stand(context, &one(&project, &user), "suspend", &said).await
            }
            Self::Activate { project, user } => {
                stand(context, &one(&project, &user), "activate", &format!("Activated {user}.")).await
            }
            Self::Deactivate { project, user } => {
                let said = format!("Deactivated {user}. Their sessions have ended.");
                stand(context, &one(&project, &user), "deactivate", &said).await
            }
            Self::Delete { project, user } => {
                let changed = context.client.delete(&one(&project, &user)).await?;
                done(context, &changed, &format!("Deleted {user}."))
            }
        }
    }
}

async fn set_password(context: &Context, path: &str, user: &str, from_stdin: bool) -> Result<(), Failure> {
    let password = password(context, from_stdin)?;
    let body = SetPassword { password: password.text.clone() };
    let changed = context.client.put(&format!("{path}/password"), &body).await?;
    let said = format!("Set a new password for {user}. Their sessions have ended.");
    print(context, changed, &said, &password)
}

async fn sign_out(context: &Context, path: &str, user: &str, session: Option<String>) -> Result<(), Failure> {
    let all = format!("{path}/sessions");
    if let Some(id) = session {
        let gone = context.client.delete(&format!("{all}/{}", segment(&id))).await?;
        return done(context, &gone, &format!("Ended one session of {user}."));
    }
    let ended = context.client.delete(&all).await?;
    let said = match ended.get("ended").and_then(Value::as_u64).unwrap_or_default() {
        0 => format!("{user} was not signed in."),
        1 => format!("Signed {user} out in one place."),
        count => format!("Signed {user} out in {count} places."),
    };
    done(context, &ended, &said)
}

/// Changes whether a user may sign in.
async fn stand(context: &Context, path: &str, verb: &str, said: &str) -> Result<(), Failure> {
    let changed = context.client.post(&format!("{path}/{verb}"), &json!({})).await?;
    done(context, &changed, said)
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

/// `NAME=VALUE`; a value that is not JSON is text.
fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_json_or_text() {
        assert_eq!(claim("plan=pro"), Ok(("plan".to_owned(), json!("pro"))));
        assert_eq!(claim("seats=3"), Ok(("seats".to_owned(), json!(3))));
        assert_eq!(claim("teams=[\"a=b\"]"), Ok(("teams".to_owned(), json!(["a=b"]))));
        assert!(claim("plan").is_err());
    }
}
