//! `warpgate completions` and `warpgate man`: what shells and `man` show, made from the command line itself.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};
use warpgate::exit::Exit;

use super::{Cli, last_words};

/// Print a script that completes commands and options in a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bash   warpgate completions bash > /etc/bash_completion.d/warpgate
  zsh    warpgate completions zsh > \"${fpath[1]}/_warpgate\"
  fish   warpgate completions fish > ~/.config/fish/completions/warpgate.fish")]
pub(super) struct Completions {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Exit {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "warpgate", &mut script);
        match io::stdout().write_all(&script) {
            Ok(()) => Exit::Done,
            Err(_) => Exit::Failed,
        }
    }
}

/// Print the manual page, or write it and those of all commands into a directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warpgate man | man -l -
  warpgate man --dir /usr/local/share/man/man1")]
pub(super) struct Man {
    /// Write warpgate.1, warpgate-connect.1 and so on here
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(&self) -> Exit {
        let written = match &self.dir {
            Some(directory) => clap_mangen::generate_to(Cli::command(), directory),
            None => page(Cli::command()).and_then(|page| io::stdout().write_all(&page)),
        };
        match written {
            Ok(()) => Exit::Done,
            Err(why) => {
                let next = "give a directory that exists and that this user may write to";
                last_words(&format!("the manual pages cannot be written: {why}\n  next: {next}"), Exit::Usage)
            }
        }
    }
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(page)
}
