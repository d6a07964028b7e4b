//! The command line: one file for each command.

mod check;
mod completions;
mod connect;
mod flags;
mod local;
mod logs;
mod routes;
mod service;
mod status;
mod version;

use std::io::{IsTerminal as _, Write as _};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use mezusphere_model::{Clock, Entropy};
use warpgate::exit::{EXIT_CODES_HELP, Exit};

/// Publish a private HTTP workload through Mezusphere, without opening a port.
#[derive(Debug, Parser)]
#[command(name = "warpgate", version, after_help = EXIT_CODES_HELP, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Connect(Box<connect::Connect>),
    Check(Box<check::Check>),
    Status(status::Status),
    Routes(routes::Routes),
    Logs(logs::Logs),
    Service(service::Service),
    Completions(completions::Completions),
    Man(completions::Man),
    Version(version::Version),
}

/// Runs the command of this process's command line.
pub(crate) fn run() -> Exit {
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((matches, cli))
    });
    let (matches, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(why) => return misused(&why),
    };
    // A command without arguments of its own has matches too.
    let of_command = matches.subcommand().map_or(&matches, |(_, of_command)| of_command);
    match cli.command {
        Command::Connect(command) => command.run(of_command),
        Command::Check(command) => command.run(of_command),
        Command::Status(command) => command.run(),
        Command::Routes(command) => command.run(),
        Command::Logs(command) => command.run(),
        Command::Service(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
        Command::Version(command) => command.run(),
    }
}

/// Help and version as they are asked for; else what is wrong with the command line, in clap's words, and where it is
/// explained.
fn misused(why: &clap::Error) -> Exit {
    let exit = if why.use_stderr() { Exit::Usage } else { Exit::Done };
    if exit == Exit::Done || why.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // The help itself is the next step. Nothing is left to do if it cannot be written.
        drop(why.print());
        return exit;
    }
    let rendered = why.render();
    let is_coloured =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let text = if is_coloured { rendered.ansi().to_string() } else { rendered.to_string() };
    let said = text.split("\n\nFor more information").next().unwrap_or_default().trim_end();
    drop(writeln!(std::io::stderr(), "{said}\n  next: {} --help", named(std::env::args().skip(1))));
    exit
}

/// The command these words name, as far as they name one: `warpgate service install`.
fn named(words: impl Iterator<Item = String>) -> String {
    let mut at = &Cli::command();
    let mut name = at.get_name().to_owned();
    for word in words {
        let Some(found) = at.find_subcommand(&word) else { break };
        at = found;
        name = format!("{name} {word}");
    }
    name
}

#[expect(clippy::disallowed_methods, reason = "here is where the wall clock comes in")]
fn clock() -> Clock {
    Clock::new(std::time::SystemTime::now)
}

#[expect(clippy::disallowed_methods, reason = "here is where randomness comes in")]
fn entropy() -> Entropy {
    Entropy::new(|buffer| {
        // A buffer that was not filled must never be used.
        if aws_lc_rs::rand::fill(buffer).is_err() {
            std::process::abort();
        }
    })
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.chars().take(64).collect() }
}

/// Columns of the terminal, or what a line of a file should not exceed. `COLUMNS` is what a person may set against it.
fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let of_terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    asked.or_else(of_terminal).unwrap_or(100).clamp(60, 160)
}

fn last_words(why: &str, exit: Exit) -> Exit {
    // Nothing is left to do if this cannot be written either.
    drop(writeln!(std::io::stderr(), "error: {why}"));
    exit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_leads_to_the_help_of_its_command() {
        let of = |text: &str| named(text.split(' ').map(str::to_owned));
        assert_eq!(of("connect --upstraem 3"), "warpgate connect");
        assert_eq!(of("service install --key x"), "warpgate service install");
        assert_eq!(of("conect check"), "warpgate");
    }

    #[test]
    fn help_tells_the_exit_codes_and_where_a_key_comes_from() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("Exit codes:"), "{help}");
        let mut command = Cli::command();
        let connect = command.find_subcommand_mut("connect").unwrap().render_long_help().to_string();
        for word in
            ["WARPGATE_KEY", "--key-file", "CREDENTIALS_DIRECTORY", "Exit codes:", "http://127.0.0.1:8080"]
        {
            assert!(connect.contains(word), "{word} is missing: {connect}");
        }
    }

    #[test]
    fn every_flag_of_connect_has_a_name_in_the_file_of_settings() {
        let mut command = Cli::command();
        let connect = command.find_subcommand_mut("connect").unwrap();
        let mut flags: Vec<&str> = connect.get_arguments().filter_map(clap::Arg::get_long).collect();
        // The key itself never is in the file, and a file does not name another.
        flags.retain(|flag| !["key", "config", "help"].contains(flag));
        let mut names = warpgate::config::NAMES.to_vec();
        flags.sort_unstable();
        names.sort_unstable();
        assert_eq!(flags, names);
    }
}
