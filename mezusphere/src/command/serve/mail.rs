//! The flags of `mezusphere serve` that say how mail leaves, and where the mail server's password is read.
//!
//! A password never stands on the command line, where every user of the machine reads it.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use mezusphere_control::{MailConfig, MailConfigError, MailSender, MailWay};
use mezusphere_model::Host;

use crate::failure::{Failure, Kind};

/// Variable with the mail server's password.
const PASSWORD: &str = "MEZUSPHERE_MAIL_PASSWORD";

/// The systemd credential with it.
const CREDENTIAL: &str = "mezusphere-mail-password";

/// Longest file with a password or with authorities, in octets.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// How mail leaves.
#[derive(Debug, Args)]
#[command(next_help_heading = "Mail (roles all and control)")]
pub(super) struct MailFlags {
    /// Where mail goes: `smtp://user@host:587` (STARTTLS; `?tls=opportunistic` or `?tls=none` where it must be),
    /// `smtps://user@host:465`, or `log` to show whole mails in the log, for development. Without it no mail is sent, and
    /// what needs mail is not offered.
    #[arg(long, env = "MEZUSPHERE_MAIL", hide_env_values = true, value_name = "URL")]
    mail: Option<String>,
    /// From whom mail comes: `Shop <no-reply@shop.example>`. (default: no-reply@BASE)
    #[arg(long, env = "MEZUSPHERE_MAIL_FROM", value_name = "SENDER", requires = "mail")]
    mail_from: Option<MailSender>,
    /// File with the mail server's password. Also `MEZUSPHERE_MAIL_PASSWORD` or the systemd credential
    /// `mezusphere-mail-password`.
    #[arg(long, value_name = "FILE", requires = "mail")]
    mail_password_file: Option<PathBuf>,
    /// Authorities that the mail server's certificate may come from besides the system's, PEM.
    #[arg(long, value_name = "FILE", requires = "mail")]
    mail_ca: Option<PathBuf>,
}

impl MailFlags {
    /// What control is told; `None`: no mail.
    pub(super) fn config(self, base: &Host) -> Result<Option<MailConfig>, Failure> {
        let Some(url) = self.mail else { return Ok(None) };
        if MailWay::holds_password(&url) && on_the_command_line(&url) {
            return Err(Failure::new(
                Kind::Usage,
                "a password on the command line can be read by every user of this machine",
            )
            .next(
                "give the URL without it and --mail-password-file FILE, or the whole URL in MEZUSPHERE_MAIL",
            ));
        }
        let roots = self.mail_ca.as_deref().map(read).transpose()?.unwrap_or_default();
        let password = password(self.mail_password_file.as_deref(), &url)?;
        let way = MailWay::parse(&url, password, roots).map_err(|why| refused(&why))?;
        let sender = match self.mail_from {
            Some(sender) => sender,
            None => MailSender::of_platform(base).map_err(|why| {
                Failure::new(Kind::Usage, why)
                    .next("give --mail-from, an address of a domain you send mail for")
            })?,
        };
        Ok(Some(MailConfig::new(way, sender)))
    }
}

fn refused(why: &MailConfigError) -> Failure {
    let next = match why {
        MailConfigError::HalfCredentials => {
            "give the user's password with --mail-password-file FILE, or name no user in the URL"
        }
        MailConfigError::Password => "check --mail-password-file: the password is its only line",
        _ => "write it as smtp://user@host:587, smtps://user@host:465, or log; docs/operations/mail.md",
    };
    Failure::new(Kind::Usage, format!("--mail: {why}")).next(next)
}

fn on_the_command_line(url: &str) -> bool {
    std::env::args_os().any(|argument| contains(&argument, url))
}

fn contains(argument: &OsStr, url: &str) -> bool {
    argument.to_string_lossy().contains(url)
}

/// The password, from the first place that has one; `None`: it stands in the URL, or there is none. Where no user is
/// named, none is looked for, because a variable meant for another server must not stop this one.
fn password(file: Option<&Path>, url: &str) -> Result<Option<String>, Failure> {
    if let Some(file) = file {
        return line(file).map(Some);
    }
    if !url.contains('@') || MailWay::holds_password(url) {
        return Ok(None);
    }
    if let Ok(password) = std::env::var(PASSWORD) {
        return Ok(Some(password));
    }
    if let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let credential = Path::new(&dir).join(CREDENTIAL);
        if credential.exists() {
            return line(&credential).map(Some);
        }
    }
    Ok(None)
}

/// A file's only line.
fn line(path: &Path) -> Result<String, Failure> {
    let text = String::from_utf8(read(path)?).map_err(|_| {
        Failure::new(Kind::Files, format!("{} is not text", path.display()))
            .next("check --mail-password-file")
    })?;
    Ok(text
        .strip_suffix('\n')
        .map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line))
        .to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |why: std::io::Error| {
        Failure::new(Kind::Files, format!("cannot read {}: {why}", path.display()))
            .next("check --mail-password-file and --mail-ca")
    };
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_LEN_MAX).read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_files_only_line_as_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        for (content, password) in [("p q%41 \n", "p q%41 "), ("p", "p"), ("p\r\n", "p")] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(line(&file).unwrap(), password);
        }
        assert_eq!(line(&dir.path().join("none")).unwrap_err().kind, Kind::Files);
    }

    #[test]
    fn a_user_without_a_password_is_told_where_a_password_goes() {
        let told = refused(&MailWay::parse("smtps://ada@mail.example", None, Vec::new()).unwrap_err());
        assert!(told.next.as_ref().unwrap().contains("--mail-password-file"), "{told}");
        let told = refused(&MailWay::parse("nonsense", None, Vec::new()).unwrap_err());
        assert!(told.next.as_ref().unwrap().contains("smtps://"), "{told}");
    }

    #[test]
    fn r25_a_url_is_found_in_both_spellings_of_a_flag() {
        let url = "smtp://ada:p@mail.example";
        for argument in [url.to_owned(), format!("--mail={url}")] {
            assert!(contains(OsStr::new(&argument), url));
        }
        assert!(!contains(OsStr::new("--mail"), url));
    }
}
