//! `mezusphere ca`: the internal CA, seen, replaced, thrown out, and signed by a root that is kept elsewhere.
//!
//! How its state is shown is [`show`]'s; what a root's own machine does is [`root`]'s, which asks no server.

mod root;
mod show;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use mezusphere_control::api::types::{CaStatus, InstallCa, RotateCa};
use serde_json::{Value, json};

use super::{Context, seconds};
use crate::failure::{Failure, Kind};

/// Longest PEM file read, in octets: a certificate has about one thousand.
const FILE_LEN_MAX: u64 = 64 * 1024;

/// The internal CA: certificates between edges, control nodes and warpgates.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the CA, what comes next, how far a rotation is, and who holds what
    Status,
    /// Replace the issuing CA under live traffic; the old one's certificates are refused at the end
    Rotate(Rotate),
    /// Refuse the issuing CA at once, because its key is in other hands; everybody gets new certificates by themselves
    Taint {
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Make the request that a root kept elsewhere signs
    Request {
        /// Write it to this file; else it is printed.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Bring in the certificate that the root made of the request
    Install(Install),
    /// List certificates the CA issued, newest first
    Issued,
    /// The root, where its key is kept away from the server
    #[command(subcommand)]
    Root(root::Command),
}

/// How long a rotation waits for nodes.
#[derive(Debug, Args)]
struct Patience {
    /// Wait only for nodes that are here, and end old connections soon after.
    #[arg(long)]
    now: bool,
    /// How long each phase waits for nodes. (default: 24h, with --now 10m)
    #[arg(long, value_name = "SPAN", value_parser = seconds)]
    max_wait: Option<u64>,
}

/// `ca rotate`.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// Replace the root too; old connection keys and join tokens go on working.
    #[arg(long)]
    root: bool,
    /// Take back the rotation that runs, as long as the old CA is not retired.
    #[arg(long, conflicts_with_all = ["root", "now", "max_wait"])]
    abort: bool,
    #[command(flatten)]
    patience: Patience,
}

/// `ca install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// The issuing CA's certificate, PEM.
    #[arg(value_name = "FILE")]
    certificate: PathBuf,
    /// The new root's certificate, if the root is replaced too.
    #[arg(long, value_name = "FILE", requires = "cross")]
    root: Option<PathBuf>,
    /// The new root's certificate as the old root signed it.
    #[arg(long, value_name = "FILE", requires = "root")]
    cross: Option<PathBuf>,
    /// The key of the CA in use is in other hands: refuse it at once.
    #[arg(long, conflicts_with_all = ["root", "now", "max_wait"])]
    taint: bool,
    #[command(flatten)]
    patience: Patience,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let output = &context.output;
        match self {
            Self::Status => {
                let status = context.client.get("/ca").await?;
                output.json(&status)?;
                if !output.is_json() {
                    output.say(&show::status(&read(status)?))?;
                }
            }
            Self::Rotate(rotate) if rotate.abort => {
                let status = context.client.delete("/ca/rotation").await?;
                output.json(&status)?;
                output.say(&show::aborted(&read(status)?))?;
            }
            Self::Rotate(Rotate { root, patience, .. }) => {
                let body = RotateCa { root, now: patience.now, max_wait_s: patience.max_wait };
                let status = context.client.post("/ca/rotation", &body).await?;
                output.json(&status)?;
                output.say(&show::begun(&read(status)?))?;
            }
            Self::Taint { yes } => {
                if !yes {
                    confirm()?;
                }
                let status = context.client.post("/ca/taint", &json!({})).await?;
                output.json(&status)?;
                output.say(show::TAINTED)?;
            }
            Self::Request { out } => {
                let made = context.client.post("/ca/request", &json!({})).await?;
                let csr = made.get("csr_pem").and_then(Value::as_str).unwrap_or_default();
                output.json(&made)?;
                if let Some(path) = out {
                    write_file(&path, csr)?;
                    output.say(&format!(
                        "Wrote the request to {at}. It is no secret.\n  next: sign it where the root's key is, with\n        \
                         mezusphere ca root sign --root-key FILE --request {at} --out issuing.pem\n        \
                         then bring the certificate back: mezusphere ca install issuing.pem",
                        at = path.display()
                    ))?;
                } else {
                    output.say(csr.trim_end())?;
                }
            }
            Self::Install(install) => {
                let body = InstallCa {
                    certificate_pem: pem(&install.certificate)?,
                    root_pem: install.root.as_deref().map(pem).transpose()?,
                    cross_pem: install.cross.as_deref().map(pem).transpose()?,
                    taint: install.taint,
                    now: install.patience.now,
                    max_wait_s: install.patience.max_wait,
                };
                let status = context.client.post("/ca/install", &body).await?;
                output.json(&status)?;
                if body.taint {
                    output.say(show::TAINTED)?;
                } else {
                    output.say(&show::begun(&read(status)?))?;
                }
            }
            Self::Issued => {
                let items = context.client.list("/ca/certificates").await?;
                let columns = [
                    ("NAME", "/name"),
                    ("ISSUED", "/issued_at"),
                    ("UNTIL", "/not_after"),
                    ("CA", "/ca"),
                    ("SHA-256", "/sha256"),
                ];
                output.list_as(&items, show::issued, &columns, "Nothing was issued lately.")?;
            }
            Self::Root(command) => command.run(context).await?,
        }
        Ok(())
    }
}

/// Asks on a terminal; elsewhere `--yes` is needed.
fn confirm() -> Result<(), Failure> {
    let refused = |why: &str| {
        Failure::new(Kind::Usage, why).next("say --yes to do it without being asked; nothing was changed")
    };
    if !io::stdin().is_terminal() {
        return Err(refused("every certificate the CA issued would be refused at once"));
    }
    write!(
        io::stderr(),
        "Every certificate the CA issued is refused at once: all tunnels and links end, and come back with new ones.\n\
         Type taint to go on: "
    )?;
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    if typed.trim() == "taint" { Ok(()) } else { Err(refused("the CA was not tainted")) }
}

fn read(status: Value) -> Result<CaStatus, Failure> {
    serde_json::from_value(status).map_err(|why| {
        Failure::new(Kind::Unexpected, format!("the server's answer cannot be read: {why}"))
            .next("use the mezusphere of the server's version")
    })
}

/// A PEM file, small enough to be one.
pub(crate) fn pem(path: &Path) -> Result<String, Failure> {
    let failed = |why: String| {
        Failure::new(Kind::Files, format!("cannot read {}: {why}", path.display()))
            .next("name the file that the step before wrote")
    };
    let length = std::fs::metadata(path).map_err(|why| failed(why.to_string()))?.len();
    if length > FILE_LEN_MAX {
        return Err(failed(format!(
            "it has {length} octets, and a PEM file of this kind at most {FILE_LEN_MAX}"
        )));
    }
    std::fs::read_to_string(path).map_err(|why| failed(why.to_string()))
}

/// Writes what is no secret.
fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|why| {
        Failure::new(Kind::Files, format!("cannot write {}: {why}", path.display()))
            .next("name another file with --out")
    })
}
