//! `mezusphere directory`: where users live, what that allows and looks like.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand, ValueEnum};
use mezusphere_control::api::types::{Change, CreateDirectory, DirectoryChanges, SignUp};
use mezusphere_model::slug::Slug;
use serde_json::Value;

use super::{Context, YesArg, project_path, seconds, segment, span_text};
use crate::failure::{Failure, Kind};

/// Largest file read as a logo, in octets; the server takes fewer and says so.
const LOGO_LEN_MAX: u64 = 128 * 1024;

/// Shown below the long help of `set`.
const SET_EXAMPLES: &str = "\
Examples:
  Let a company's people sign up:
    mezusphere directory set shop --sign-up domains --domain shop.example
  Sign out after a working day, or as the installation says again:
    mezusphere directory set shop --session 8h --idle 30m
    mezusphere directory set shop --session none
  Look like the shop:
    mezusphere directory set shop --name 'The Shop' --colour '#0a7c5b'
    mezusphere directory set shop --logo logo.png";

/// Directories hold users. A project has one of its own, of its name, or shares one with others of its organization.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a directory that projects of an organization share: one sign-in serves all of them
    #[command(alias = "add")]
    Create {
        /// Its name.
        name: Slug,
        #[command(flatten)]
        owner: OwnerArg,
    },
    /// List an organization's directories
    List {
        #[command(flatten)]
        owner: OwnerArg,
    },
    /// Show a directory and its settings
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Change what a directory allows and looks like
    #[command(after_long_help = SET_EXAMPLES)]
    Set {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        changes: Box<Changes>,
    },
    /// Delete a directory that no project uses, with its users
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        owner: OwnerArg,
        #[command(flatten)]
        yes: YesArg,
    },
}

/// Whose directories.
#[derive(Debug, Args)]
pub(crate) struct OwnerArg {
    /// Their organization; the installation's own if left out.
    #[arg(long, default_value = "-", hide_default_value = true, value_name = "NAME")]
    organization: String,
}

impl OwnerArg {
    fn path(&self) -> String {
        format!("/organizations/{}/directories", segment(&self.organization))
    }
}

/// Which directory.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Its name; a project's own has the project's.
    #[arg(required_unless_present = "project")]
    directory: Option<String>,
    /// The one this project uses.
    #[arg(long, conflicts_with_all = ["directory", "organization"], value_name = "PROJECT")]
    project: Option<String>,
    #[command(flatten)]
    owner: OwnerArg,
}

impl Which {
    fn path(&self) -> String {
        match (&self.project, &self.directory) {
            (Some(project), _) => format!("{}/directory", project_path(project)),
            (None, name) => {
                format!("{}/{}", self.owner.path(), segment(name.as_deref().unwrap_or_default()))
            }
        }
    }
}

/// Who may add themselves.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Policy {
    /// Nobody: operators add users.
    Closed,
    /// Whoever was invited.
    Invitation,
    /// Whose address is of an allowed domain.
    Domains,
    /// Anybody with an address.
    Open,
}

/// What to change; what is left out stays.
#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// Who may add themselves.
    #[arg(long, value_enum)]
    sign_up: Option<Policy>,
    /// A domain whose addresses may, with --sign-up domains; may be repeated, and replaces those there were.
    #[arg(long = "domain", value_name = "DOMAIN")]
    domains: Vec<String>,
    /// A sign-in ends so long after it began: 12h, 30d; none: both limits as the installation says.
    #[arg(long, value_name = "TIME|none", value_parser = span)]
    session: Option<Change<u32>>,
    /// And after so long unused: 30m; never: for no idleness.
    #[arg(long, value_name = "TIME|never", value_parser = idle)]
    idle: Option<u32>,
    /// Name on pages and in mails; none: the project's.
    #[arg(long, value_name = "TEXT|none", value_parser = text)]
    name: Option<Change<String>>,
    /// Colour of buttons and links: #rrggbb, or none.
    #[arg(long, value_name = "COLOUR|none", value_parser = text)]
    colour: Option<Change<String>>,
    /// A PNG, WebP or JPEG picture of at most 64 KiB, or none.
    #[arg(long, value_name = "FILE|none")]
    logo: Option<PathBuf>,
    /// Where users find help: an e-mail address or an https address, or none.
    #[arg(long, value_name = "ADDRESS|none", value_parser = text)]
    support: Option<Change<String>>,
    /// Name beside the sender's address of mails; none: the name on pages.
    #[arg(long, value_name = "TEXT|none", value_parser = text)]
    mail_from_name: Option<Change<String>>,
    /// Where answers to mails go, or none.
    #[arg(long, value_name = "ADDRESS|none", value_parser = text)]
    mail_reply_to: Option<Change<String>>,
}

impl Changes {
    fn request(self) -> Result<DirectoryChanges, Failure> {
        let session_absolute_s = self.session.unwrap_or_default();
        Ok(DirectoryChanges {
            sign_up: self.sign_up.map(|policy| match policy {
                Policy::Closed => SignUp::Closed,
                Policy::Invitation => SignUp::Invitation,
                Policy::Domains => SignUp::Domains,
                Policy::Open => SignUp::Open,
            }),
            domains: (!self.domains.is_empty()).then_some(self.domains),
            session_absolute_s,
            session_idle_s: self.idle.map_or(Change::Keep, Change::Set),
            brand_name: self.name.unwrap_or_default(),
            colour: self.colour.unwrap_or_default(),
            logo: self.logo.as_deref().map(logo).transpose()?.unwrap_or_default(),
            support: self.support.unwrap_or_default(),
            mail_from_name: self.mail_from_name.unwrap_or_default(),
            mail_reply_to: self.mail_reply_to.unwrap_or_default(),
        })
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { name, owner } => {
                let body = CreateDirectory { name: name.clone() };
                let made = context.client.post(&owner.path(), &body).await?;
                context.output.json(&made)?;
                context.output.say(&format!(
                    "Created directory {name}.\n  next: mezusphere project create PROJECT --directory {name}"
                ))?;
            }
            Self::List { owner } => {
                let items = context.client.list(&owner.path()).await?;
                let columns = [
                    ("DIRECTORY", "/name"),
                    ("PROJECTS", "/projects"),
                    ("USERS", "/users"),
                    ("SIGN-UP", "/sign_up"),
                    ("CREATED", "/created_at"),
                    ("ID", "/id"),
                ];
                context.output.list(&items, &columns, "No directories yet. Every new project gets one.")?;
            }
            Self::Show { which } => show(context, &context.client.get(&which.path()).await?)?,
            Self::Set { which, changes } => {
                let changes = changes.request()?;
                if changes == DirectoryChanges::default() {
                    return Err(Failure::new(Kind::Usage, "nothing to change was given")
                        .next("mezusphere directory set --help shows what can be"));
                }
                let answer = context.client.patch(&which.path(), &changes).await;
                show(context, &answer.map_err(in_flags)?)?;
            }
            Self::Delete { name, owner, yes } => {
                yes.confirm(&format!("deleting {name} takes its users along"), &name)?;
                let path = format!("{}/{}", owner.path(), segment(&name));
                context.output.json(&context.client.delete(&path).await?)?;
                context.output.say(&format!("Deleted directory {name}."))?;
            }
        }
        Ok(())
    }
}

fn show(context: &Context, found: &Value) -> Result<(), Failure> {
    let fields = [
        ("DIRECTORY", "/name"),
        ("SHARED", "/shared"),
        ("PROJECTS", "/projects"),
        ("USERS", "/users"),
        ("SIGN-UP", "/sign_up"),
        ("DOMAINS", "/domains"),
        ("SESSION", "/session"),
        ("IDLE", "/idle"),
        ("BRAND NAME", "/brand_name"),
        ("COLOUR", "/colour"),
        ("LOGO", "/logo/media_type"),
        ("SUPPORT", "/support"),
        ("MAIL FROM NAME", "/mail_from_name"),
        ("MAIL REPLY-TO", "/mail_reply_to"),
        ("CREATED", "/created_at"),
        ("ID", "/id"),
    ];
    if context.output.is_json() {
        return Ok(context.output.json(found)?);
    }
    let mut told = found.clone();
    if let Some(row) = told.as_object_mut() {
        row.insert("session".to_owned(), limit(found, "/session_absolute_s").into());
        row.insert("idle".to_owned(), limit(found, "/session_idle_s").into());
    }
    Ok(context.output.show(&told, &fields)?)
}

/// A limit of sessions, written as it is given.
fn limit(found: &Value, at: &str) -> String {
    match found.pointer(at).and_then(Value::as_u64) {
        None => "as the installation says".to_owned(),
        Some(0) => "never".to_owned(),
        Some(s) => span_text(s),
    }
}

/// The same failure, with the flag's name where the server gave its field's.
fn in_flags(mut failure: Failure) -> Failure {
    const FLAGS: [(&str, &str); 10] = [
        ("session_absolute_s", "--session"),
        ("session_idle_s", "--idle"),
        ("sign_up", "--sign-up"),
        ("domains", "--domain"),
        ("brand_name", "--name"),
        ("colour", "--colour"),
        ("logo", "--logo"),
        ("support", "--support"),
        ("mail_from_name", "--mail-from-name"),
        ("mail_reply_to", "--mail-reply-to"),
    ];
    for (field, flag) in FLAGS {
        if let Some(rest) = failure.what.strip_prefix(field).filter(|rest| rest.starts_with(": ")) {
            failure.what = format!("{flag}{rest}");
            break;
        }
    }
    failure
}

#[expect(clippy::unnecessary_wraps, reason = "the shape clap asks of a parser")]
fn text(text: &str) -> Result<Change<String>, String> {
    Ok(if text == "none" { Change::Clear } else { Change::Set(text.to_owned()) })
}

fn span(text: &str) -> Result<Change<u32>, String> {
    if text == "none" {
        return Ok(Change::Clear);
    }
    let span = seconds(text)?;
    u32::try_from(span).map(Change::Set).map_err(|_| format!("'{text}' is out of range"))
}

fn idle(text: &str) -> Result<u32, String> {
    if text == "never" {
        return Ok(0);
    }
    u32::try_from(seconds(text)?).map_err(|_| format!("'{text}' is out of range"))
}

fn logo(path: &Path) -> Result<Change<String>, Failure> {
    use std::io::Read as _;

    if path.as_os_str() == "none" {
        return Ok(Change::Clear);
    }
    let unreadable = |why: std::io::Error| {
        Failure::new(Kind::Files, format!("cannot read {}: {why}", path.display())).next("check --logo")
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(LOGO_LEN_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Change::Set(STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_refused_is_called_by_its_flag() {
        let told = |what: &str| in_flags(Failure::new(Kind::Invalid, what)).what;
        assert_eq!(told("session_idle_s: a minute at least"), "--idle: a minute at least");
        assert_eq!(told("name: as it came"), "name: as it came");
    }

    #[test]
    fn words_take_a_setting_back() {
        assert_eq!(span("none"), Ok(Change::Clear));
        assert_eq!(span("8h"), Ok(Change::Set(28_800)));
        assert_eq!(idle("never"), Ok(0));
        assert_eq!(idle("30m"), Ok(1800));
        assert_eq!(text("none"), Ok(Change::Clear));
        let found = serde_json::json!({ "session_absolute_s": 28_800, "session_idle_s": 0 });
        assert_eq!(["/session_absolute_s", "/session_idle_s"].map(|at| limit(&found, at)), ["8h", "never"]);
        assert_eq!(limit(&found, "/none"), "as the installation says");
        assert!(span("200000000d").is_err() && idle("0s").is_err());
    }
}
