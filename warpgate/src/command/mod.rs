//! The command line: one file for each command.

mod connect;
mod version;

use clap::{Parser, Subcommand};
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
    Connect(connect::Connect),
    Version(version::Version),
}

/// Runs the command of this process's command line. Wrong usage ends the process here with code 2.
pub(crate) fn run() -> Exit {
    match Cli::parse().command {
        Command::Connect(command) => command.run(),
        Command::Version(command) => command.run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

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
}
