//! The verbs, one file each: what a command takes, what it asks the admin API, what it prints.

pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod ca;
pub(crate) mod certificate;
pub(crate) mod directory;
pub(crate) mod edge;
pub(crate) mod environment;
pub(crate) mod explain;
pub(crate) mod host;
pub(crate) mod key;
mod log_line;
pub(crate) mod mail;
pub(crate) mod operator;
pub(crate) mod organization;
pub(crate) mod project;
pub(crate) mod role;
pub(crate) mod route;
pub(crate) mod serve;
pub(crate) mod service_account;
pub(crate) mod store;
pub(crate) mod user;
pub(crate) mod warpgate;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use mezusphere_model::Entropy;
use mezusphere_model::platform::PRODUCTION;

use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::output::{Output, SecretFile};

/// What every admin command is given.
pub(crate) struct Context {
    /// The admin API.
    pub(crate) client: Client,
    /// Where the result goes.
    pub(crate) output: Output,
    /// For passwords made here.
    pub(crate) entropy: Entropy,
}

/// Which environment of a project.
#[derive(Debug, clap::Args)]
pub(crate) struct EnvironmentArg {
    /// The environment.
    #[arg(long, short, default_value = PRODUCTION, value_name = "NAME")]
    pub(crate) environment: String,
}

impl EnvironmentArg {
    /// Its path in the API.
    pub(crate) fn path(&self, project: &str) -> String {
        format!("/projects/{}/environments/{}", segment(project), segment(&self.environment))
    }
}

/// Where a secret is kept.
#[derive(Debug, clap::Args)]
pub(crate) struct OutArg {
    /// Write the secret to this new file, for its owner alone (0600); one that exists is left as it is.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl OutArg {
    /// Makes the file, before anything is asked of the server.
    pub(crate) fn create(&self) -> Result<Option<SecretFile>, Failure> {
        self.path().map(SecretFile::create).transpose()
    }

    /// The file's path.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.out.as_deref()
    }
}

/// Saying that something may be deleted with all it holds.
#[derive(Debug, clap::Args)]
pub(crate) struct YesArg {
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

impl YesArg {
    /// Asks for the object's name on a terminal; elsewhere `--yes` is needed. `what`: the sentence that says what is lost.
    pub(crate) fn confirm(&self, what: &str, name: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let refused =
            |why: &str| Failure::new(Kind::Usage, why).next("say --yes to delete it without being asked");
        if !io::stdin().is_terminal() {
            return Err(refused(what));
        }
        write!(io::stderr(), "{what}\nType {name} to delete it: ")?;
        let mut typed = String::new();
        io::stdin().lock().read_line(&mut typed)?;
        if typed.trim() == name { Ok(()) } else { Err(refused("nothing was deleted")) }
    }
}

/// A project's path in the API.
pub(crate) fn project_path(project: &str) -> String {
    format!("/projects/{}", segment(project))
}

/// Writes what people typed as one path segment (RFC 3986 §3.3).
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Where a server keeps its state unless it is told otherwise.
pub(crate) fn default_data() -> PathBuf {
    PathBuf::from("/var/lib/mezusphere")
}

/// A time span as people write it: `90s`, `15m`, `12h`, `30d`.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let unit = text.chars().last().ok_or("give a number and a unit: 90s, 15m, 12h, 30d")?;
    let scale: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(format!("'{text}' has no unit: write 90s, 15m, 12h or 30d")),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u64 = number.parse().map_err(|_| format!("'{number}' is not a whole number"))?;
    number.checked_mul(scale).filter(|total| *total > 0).ok_or_else(|| format!("'{text}' is out of range"))
}

/// A time span as it is written: `90s`, `15m`, `12h`, `30d`, in the largest unit it is a whole number of.
pub(crate) fn span_text(seconds: u64) -> String {
    mezusphere_model::span_text(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_number_and_a_unit() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30d"), Ok(2_592_000));
        for bad in ["", "90", "0s", "d", "-1h", "1.5h", "99999999999999999999d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_span_is_shown_as_it_is_written() {
        for text in ["45s", "90s", "15m", "36h", "12h", "30d"] {
            assert_eq!(span_text(seconds(text).unwrap()), text);
        }
    }

    #[test]
    fn what_is_typed_stays_one_path_segment() {
        assert_eq!(segment("shop"), "shop");
        assert_eq!(segment("../admin?x"), "..%2Fadmin%3Fx");
    }
}
