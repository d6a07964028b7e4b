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

use std::io::Write as _;

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

/// Runs the command of this process's command line. Wrong usage ends the process here with code 2.
pub(crate) fn run() -> Exit {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|why| why.exit());
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
