//! What `status`, `routes` and `logs` share: which running warpgate is meant.

use std::path::PathBuf;

use clap::Args;
use warpgate::exit::Exit;
use warpgate::local::client::{AskError, Choice, Found, Instance};
use warpgate::local::place::Places;
use warpgate::output::clean;

use super::flags::Output;
use super::last_words;

/// Which one, and how to print.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The one with this process id, or whose id ends so
    #[arg(long, value_name = "PID|ID")]
    instance: Option<String>,

    /// The one that keeps its state here
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// How to print [default: text]
    #[arg(long, value_enum)]
    output: Option<Output>,
}

impl Which {
    pub(super) fn is_json(&self) -> bool {
        self.output == Some(Output::Json)
    }

    /// The one that is meant.
    ///
    /// # Errors
    /// How the program ends; it was told why.
    pub(super) fn find(&self, verb: &str) -> Result<Instance, Exit> {
        self.look(verb).map_err(|(why, exit)| last_words(&why, exit))
    }

    /// The same, told nobody yet.
    ///
    /// # Errors
    /// Why there is none, and how the program ends.
    pub(super) fn look(&self, verb: &str) -> Result<Instance, (String, Exit)> {
        let mut found = Found::look(&Places::find(|name| std::env::var_os(name)), self.state_dir.as_deref());
        let all = found.running.len();
        found.choose(&Choice { instance: self.instance.clone(), state_dir: self.state_dir.clone() });
        match found.running.len() {
            0 => Err((nobody(all, found.closed), Exit::NotRunning)),
            1 => found.running.pop().ok_or((String::new(), Exit::NotRunning)),
            several => {
                let mut lines =
                    vec![format!("{several} warpgates run on this machine; say which one is meant")];
                for one in &found.running {
                    let status = &one.status;
                    let project = status.key.project.as_deref().unwrap_or("");
                    let kept = status.state_dir.as_deref().unwrap_or("in memory");
                    let id = status.instance.as_deref().unwrap_or("not enrolled");
                    let line =
                        format!("  {:<8} {id}  {project}  {kept}  {}", status.pid, status.phase.as_str());
                    lines.push(clean(&line));
                }
                let first = found.running.first().map_or(0, |one| one.status.pid);
                lines.push(format!("  next: warpgate {verb} --instance {first}"));
                Err((lines.join("\n"), Exit::Usage))
            }
        }
    }
}

fn nobody(all: usize, closed: usize) -> String {
    let next = if closed > 0 {
        "one of another user may run: try again as that user or as root (sudo)"
    } else {
        "start one: warpgate connect --key-file FILE, or: systemctl start warpgate"
    };
    match all {
        0 => format!("no running warpgate was found on this machine\n  next: {next}"),
        _ => "no running warpgate is the one that was named\n  next: leave --instance and --state-dir out to see which run"
            .to_owned(),
    }
}

/// That a running warpgate did not answer.
pub(super) fn unanswered(why: &AskError) -> Exit {
    last_words(&format!("{why}\n  next: try again; if it stays, restart that warpgate"), Exit::Failed)
}
