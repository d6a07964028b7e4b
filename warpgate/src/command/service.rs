//! `warpgate service install|uninstall`: a warpgate that starts with the machine.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command as Program;

use clap::{Args, Subcommand};
use warpgate::exit::Exit;
use warpgate::key::{self, Sources};
use warpgate::service::{self, Install as Plan, ServiceError, Step, Unit, settings};
use warpgate::upstream::Declared;
use zeroize::Zeroizing;

use super::last_words;

/// There is this directory only where systemd runs (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";

/// Install warpgate as a systemd service, or remove it.
#[derive(Debug, Args)]
pub(super) struct Service {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Install(Install),
    Uninstall(Uninstall),
}

/// Write a hardened systemd unit, keep the key for root alone, and start the service.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo warpgate service install --key-file key --upstream 3000
  sudo warpgate service install --name warpgate-shop --key - \\
      --upstream unix:/run/shop.sock --group shop

Writes /etc/systemd/system/NAME.service, /etc/warpgate/NAME.key (0600) and, if it is
not there yet, /etc/warpgate/NAME.toml. A file that warpgate did not write is never
overwritten.")]
struct Install {
    /// The connection key, or - to read it from standard input
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,

    /// A file that holds the connection key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// Where requests go; written into the file of settings; may be repeated
    #[arg(long = "upstream", value_name = "[NAME=]URL")]
    upstreams: Vec<String>,

    /// A group whose sockets the service may use, for unix: upstreams; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,

    /// The program, if it is not this one
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,

    #[command(flatten)]
    common: Common,
}

/// Stop the service and remove what install wrote.
#[derive(Debug, Args)]
struct Uninstall {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Name of the service
    #[arg(long, default_value = "warpgate")]
    name: String,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Work below this directory, the root of an image, and start nothing
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root: PathBuf,
}

impl Service {
    pub(super) fn run(self) -> Exit {
        key::hide(std::env::args_os());
        let done = match self.verb {
            Verb::Install(install) => install.run(),
            Verb::Uninstall(uninstall) => uninstall.run(),
        };
        match done {
            Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
                Ok(()) => Exit::Done,
                Err(_) => Exit::Failed,
            },
            Err((why, exit)) => last_words(&why, exit),
        }
    }
}

type Failed = (String, Exit);

fn refused(why: &ServiceError) -> Failed {
    let exit = if matches!(why, ServiceError::Io(..)) { Exit::Failed } else { Exit::Usage };
    (format!("{why}\n  next: {}", why.next()), exit)
}

impl Install {
    fn run(self) -> Result<String, Failed> {
        for upstream in &self.upstreams {
            upstream.parse::<Declared>().map_err(|why| {
                (format!("{why}\n  next: see: warpgate service install --help"), Exit::Usage)
            })?;
        }
        let found = Sources::from_environment(self.key_file, self.key).find(std::io::stdin());
        let found = found.map_err(|why| (format!("{why}\n  next: {}", why.next()), why.exit()))?;
        let program = match self.program {
            Some(program) => program,
            None => std::env::current_exe()
                .map_err(|why| (format!("where this program is, is not known: {why}"), Exit::Failed))?,
        };
        let name = self.common.name.clone();
        let plan = Plan {
            settings: settings(&name, &self.upstreams),
            unit: Unit { name: name.clone(), program, groups: self.groups },
            key: Zeroizing::new(found.key.reveal()),
            root: self.common.root.clone(),
        };
        if self.common.dry_run {
            let steps = plan.plan().map_err(|why| refused(&why))?;
            let (unit, text) = (plan.paths().unit, plan.unit.text());
            return Ok(format!("{}\n{}:\n{text}", told(&steps, Tense::Would), unit.display()));
        }
        let steps = plan.write().map_err(|why| refused(&why))?;
        let mut text = told(&steps, Tense::Did);
        text.push_str(&verified(&plan.paths().unit));
        let start = [vec!["daemon-reload"], vec!["enable", name.as_str()], vec!["restart", name.as_str()]];
        text.push_str(&self.common.systemctl(&start));
        Ok(format!("{text}Look at it: systemctl status {name}, warpgate status, journalctl -u {name}\n"))
    }
}

impl Uninstall {
    fn run(self) -> Result<String, Failed> {
        let name = self.common.name.clone();
        let fresh = |text: &str| service::is_untouched(&name, text);
        let steps = service::plan_removal(&self.common.root, &name, fresh).map_err(|why| refused(&why))?;
        if self.common.dry_run {
            return Ok(told(&steps, Tense::Would));
        }
        let mut text = self.common.systemctl(&[vec!["disable", "--now", name.as_str()]]);
        service::remove(&steps).map_err(|why| refused(&why))?;
        text.push_str(&told(&steps, Tense::Did));
        text.push_str(&self.common.systemctl(&[vec!["daemon-reload"]]));
        Ok(format!(
            "{text}Its certificate stays in /var/lib/warpgate/{name}; remove that if it is not coming back.\n"
        ))
    }
}

impl Common {
    /// Runs these where systemd runs; says what to run elsewhere.
    fn systemctl(&self, commands: &[Vec<&str>]) -> String {
        let line = |command: &[&str]| format!("systemctl {}", command.join(" "));
        if self.root != Path::new("/") || !Path::new(SYSTEMD).exists() {
            let all: Vec<_> = commands.iter().map(|command| line(command)).collect();
            return format!("systemd does not run here. Where it does, run: {}\n", all.join(" && "));
        }
        let run = |command: &Vec<&str>| match Program::new("systemctl").args(command).status() {
            Ok(status) if status.success() => format!("ran   {}\n", line(command)),
            Ok(status) => format!("note: {} ended with {status}\n", line(command)),
            Err(why) => format!("note: {} cannot be run: {why}\n", line(command)),
        };
        commands.iter().map(run).collect()
    }
}

/// What systemd thinks of the unit, where it can be asked.
fn verified(unit: &Path) -> String {
    let asked = Program::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output();
    match asked {
        Ok(output) if !output.status.success() => {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            format!("note: systemd-analyze verify says: {}\n", warpgate::output::clean(&words))
        }
        _ => String::new(),
    }
}

#[derive(Clone, Copy)]
enum Tense {
    Did,
    Would,
}

fn told(steps: &[Step], tense: Tense) -> String {
    let (wrote, kept, removed) = match tense {
        Tense::Did => ("wrote", "kept", "removed"),
        Tense::Would => ("would write", "would keep", "would remove"),
    };
    let line = |step: &Step| match step {
        Step::Wrote(path, mode) => format!("{wrote} {} ({mode:04o})\n", path.display()),
        Step::Kept(path) => format!("{kept} {}: it may hold what a person wrote\n", path.display()),
        Step::Removed(path) => format!("{removed} {}\n", path.display()),
    };
    steps.iter().map(line).collect()
}
