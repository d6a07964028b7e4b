//! The server binary and admin CLI: composes edge and control by role, and asks the admin API what people type.
//!
//! Holds no logic of its own: a verb is parsed, sent, printed ([`command`]); `serve` puts the parts together
//! ([`node`]).

mod client;
mod command;
mod failure;
mod node;
mod output;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mezusphere_model::Entropy;

use crate::client::{Client, Reach};
use crate::command::Context;
use crate::failure::{Failure, Kind};
use crate::output::Output;

/// Name of the admin socket within the data directory.
pub(crate) const ADMIN_SOCKET: &str = "admin.sock";

/// Publish private HTTP workloads with TLS, sign-in and authorization done at the edge.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = AFTER_HELP)]
struct Cli {
    /// The server's data directory; admin commands find its socket there.
    #[arg(long, global = true, env = "MEZUSPHERE_DATA", value_name = "DIR", default_value_os_t = command::default_data())]
    data: PathBuf,
    /// The console's address, to administer from another machine: `https://console.example.com`
    #[arg(long, global = true, env = "MEZUSPHERE_API", value_name = "URL")]
    api: Option<http::Uri>,
    /// Root certificates to trust with --api, PEM; the system's if left out.
    #[arg(long, global = true, env = "MEZUSPHERE_CA", value_name = "FILE", requires = "api")]
    ca: Option<PathBuf>,
    /// Print JSON for scripts.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Admin commands talk to the server on this machine through the socket in its data directory. From elsewhere give --api
and an operator's key in MEZUSPHERE_API_KEY.

Exit codes: 0 done, 1 unexpected, 2 usage, 3 not found, 4 exists or in use, 5 not allowed, 6 server unreachable,
7 value rejected, 10 data directory in use, 11 files unreadable or unwritable, 12 data from a newer version,
13 address taken";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(Box<command::serve::Serve>),
    /// Organizations: who owns projects
    #[command(subcommand)]
    Organization(command::organization::Command),
    /// Projects: tenants with their environments, routes and users
    #[command(subcommand)]
    Project(command::project::Command),
    /// Environments: where routes live and warpgates connect
    #[command(subcommand)]
    Environment(command::environment::Command),
    /// Custom domains of an environment
    #[command(subcommand)]
    Host(command::host::Command),
    /// Routes: what is published, and for whom
    #[command(subcommand)]
    Route(command::route::Command),
    /// Users of a project
    #[command(subcommand)]
    User(command::user::Command),
    /// Roles and their permissions
    #[command(subcommand)]
    Role(command::role::Command),
    /// Service accounts: machines of a project
    #[command(subcommand)]
    ServiceAccount(command::service_account::Command),
    /// API keys and connection keys
    #[command(subcommand)]
    ApiKey(command::api_key::Command),
    /// Warpgates and their tunnels
    #[command(subcommand)]
    Warpgate(command::warpgate::Command),
    /// Edges of a cluster
    #[command(subcommand)]
    Edge(command::edge::Command),
    /// Where state is kept
    #[command(subcommand)]
    Store(command::store::Command),
    /// People who administer
    #[command(subcommand)]
    Operator(command::operator::Command),
    /// The audit log
    #[command(subcommand)]
    Audit(command::audit::Command),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(failure) => {
            // Standard error may be closed; the exit code still tells.
            let (Ok(()) | Err(_)) = writeln!(std::io::stderr(), "{failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    if let Command::Serve(serve) = cli.command {
        return serve.run(cli.data, cli.json);
    }
    let context =
        Context { client: Client::new(reach(&cli)?), output: Output::new(cli.json), entropy: entropy() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(administer(cli.command, &context))?;
    Ok(ExitCode::SUCCESS)
}

async fn administer(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Serve(_) => Ok(()), // run() took it
        Command::Organization(command) => command.run(context).await,
        Command::Project(command) => command.run(context).await,
        Command::Environment(command) => command.run(context).await,
        Command::Host(command) => command.run(context).await,
        Command::Route(command) => command.run(context).await,
        Command::User(command) => command.run(context).await,
        Command::Role(command) => command.run(context).await,
        Command::ServiceAccount(command) => command.run(context).await,
        Command::ApiKey(command) => command.run(context).await,
        Command::Warpgate(command) => command.run(context).await,
        Command::Edge(command) => command.run(context).await,
        Command::Store(command) => command.run(context).await,
        Command::Operator(command) => command.run(context).await,
        Command::Audit(command) => command.run(context).await,
    }
}

fn reach(cli: &Cli) -> Result<Reach, Failure> {
    let Some(url) = &cli.api else {
        return Ok(Reach::Socket(cli.data.join(ADMIN_SOCKET)));
    };
    if url.scheme_str() != Some("https") || url.host().is_none() {
        return Err(Failure::new(Kind::Usage, format!("{url} is not an https address"))
            .next("write it as https://console.example.com"));
    }
    let key = std::env::var("MEZUSPHERE_API_KEY").map_err(|_| {
        Failure::new(Kind::Usage, "--api needs an operator's key in MEZUSPHERE_API_KEY")
            .next("make one on the server: mezusphere operator create-key NAME")
    })?;
    Ok(Reach::Https { url: url.clone(), key, roots: cli.ca.clone() })
}

/// The operating system's randomness, for everything below.
pub(crate) fn entropy() -> Entropy {
    Entropy::new(|buffer| {
        #[expect(clippy::disallowed_methods, reason = "the one place this program draws randomness")]
        let drawn = aws_lc_rs::rand::fill(buffer);
        // Going on without randomness would hand out guessable secrets.
        drawn.expect("the operating system gives randomness");
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
