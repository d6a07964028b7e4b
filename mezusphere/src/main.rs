//! The server binary and admin CLI: composes edge and control by role, and asks the admin API what people type.
//!
//! Holds no logic of its own: a verb is parsed, sent, printed ([`command`]); `serve` puts the parts together
//! ([`node`]).

mod client;
mod command;
mod failure;
mod hint;
mod node;
mod output;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use mezusphere_model::Entropy;

use crate::client::{Client, Reach};
use crate::command::Context;
use crate::failure::{Failure, Kind};
use crate::hint::Hints;
use crate::output::Output;

/// Name of the admin socket within the data directory.
pub(crate) const ADMIN_SOCKET: &str = "admin.sock";

/// Variable with the operator's key that `--api` needs.
const API_KEY: &str = "MEZUSPHERE_API_KEY";

/// Place of the flags that every command has: below a command's own in its help, above `--help`.
const GLOBAL: usize = 900;

/// Publish private HTTP workloads with TLS, sign-in and authorization done at the edge.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100, after_help = after_help())]
struct Cli {
    /// The server's data directory; admin commands find its socket there.
    #[arg(long, global = true, env = "MEZUSPHERE_DATA", value_name = "DIR", default_value_os_t = command::default_data(), display_order = GLOBAL)]
    data: PathBuf,
    /// The console's address, to administer from another machine: `https://console.example.com`
    #[arg(long, global = true, env = "MEZUSPHERE_API", value_name = "URL", display_order = GLOBAL)]
    api: Option<http::Uri>,
    /// Root certificates to trust with --api, PEM; the system's if left out.
    #[arg(long, global = true, env = "MEZUSPHERE_CA", value_name = "FILE", requires = "api", display_order = GLOBAL)]
    ca: Option<PathBuf>,
    /// Print JSON for scripts.
    #[arg(long, global = true, display_order = GLOBAL)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

fn after_help() -> String {
    let codes = failure::EXIT_CODES_HELP;
    format!(
        "Admin commands talk to the server on this machine through the socket in its data\n\
         directory. From elsewhere give --api and an operator's key in MEZUSPHERE_API_KEY.\n\n{codes}"
    )
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    #[command(arg = not_for_serve("api"), arg = not_for_serve("ca"))]
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
    /// Public certificates: where they come from, what failed, what comes next
    #[command(subcommand)]
    Certificate(command::certificate::Command),
    /// Routes: what is published, and for whom
    #[command(subcommand)]
    Route(command::route::Command),
    Explain(command::explain::Explain),
    /// Directories: where users live, what that allows and looks like
    #[command(subcommand)]
    Directory(command::directory::Command),
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
    /// The internal CA: replacing it, throwing it out, a root kept elsewhere
    #[command(subcommand)]
    Ca(command::ca::Command),
    /// Keys that seal what is kept, and keys that sign assertions
    #[command(subcommand)]
    Key(command::key::Command),
    /// Where state is kept
    #[command(subcommand)]
    Store(command::store::Command),
    /// Mail: what waits, trying again, whether it works
    #[command(subcommand)]
    Mail(command::mail::Command),
    /// People who administer
    #[command(subcommand)]
    Operator(command::operator::Command),
    /// The audit log
    #[command(subcommand)]
    Audit(command::audit::Command),
}

/// A flag of admin commands, hidden from the help of `serve`, which reads none of them.
fn not_for_serve(name: &'static str) -> clap::Arg {
    // Of the same type as the one it stands for: clap hands values from one to the other.
    let arg = clap::Arg::new(name).long(name).hide(true);
    if name == "api" {
        arg.value_parser(clap::value_parser!(http::Uri))
    } else {
        arg.value_parser(clap::value_parser!(PathBuf))
    }
}

/// The names of all commands.
pub(crate) fn verbs() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(why) => return misused(&why),
    };
    let (json, hints) = (cli.json, hints(&cli));
    match run(cli, &hints) {
        Ok(code) => code,
        Err(failure) if failure.kind == Kind::ReaderGone => failure.exit_code(),
        Err(failure) => {
            let failure = failure.completed(&hints);
            let text = if json { failure.json().to_string() } else { failure.to_string() };
            // Standard error may be closed; the exit code still tells.
            let (Ok(()) | Err(_)) = writeln!(std::io::stderr(), "{text}");
            failure.exit_code()
        }
    }
}

/// Says what is wrong with the command line, in clap's words, and where it is explained.
fn misused(why: &clap::Error) -> ExitCode {
    if !why.use_stderr() {
        // Help and version; standard output may be closed.
        let (Ok(()) | Err(_)) = why.print();
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let json = words.iter().any(|word| word == "--json");
    if why.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !json {
        // The help itself is the next step.
        let (Ok(()) | Err(_)) = why.print();
        return Failure::new(Kind::Usage, "").exit_code();
    }
    let next = format!("{} --help", named(&words));
    let text = if json {
        let rendered = why.render().to_string();
        // Its first paragraph; what follows is usage and tips.
        let first = rendered.split("\n\n").next().unwrap_or_default();
        let first = first.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let what = first.strip_prefix("error: ").unwrap_or("a command is missing");
        Failure::new(Kind::Usage, what).next(next).json().to_string()
    } else {
        let rendered = if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            why.render().ansi().to_string()
        } else {
            why.render().to_string()
        };
        let said = rendered.split("\n\nFor more information").next().unwrap_or_default().trim_end();
        format!("{said}\n  next: {next}")
    };
    let (Ok(()) | Err(_)) = writeln!(std::io::stderr(), "{text}");
    Failure::new(Kind::Usage, "").exit_code()
}

/// The command these words name, as far as they name one: `mezusphere route add`.
fn named(words: &[String]) -> String {
    let mut at = &Cli::command();
    let mut name = at.get_name().to_owned();
    for word in words {
        if let Some(found) = at.find_subcommand(word) {
            at = found;
            name.push(' ');
            name.push_str(at.get_name());
        }
    }
    name
}

/// What commands in advice need to reach the same server.
fn hints(cli: &Cli) -> Hints {
    match (&cli.command, &cli.api) {
        // Commands that an edge names are for a control node, whose data directory it does not know.
        (Command::Serve(serve), _) if serve.is_edge() => Hints::default(),
        (Command::Serve(_), _) | (_, None) => Hints::of_data(&cli.data),
        // Without a key nothing is reached from here; the advice is for the server's own machine.
        (_, Some(_)) if std::env::var_os(API_KEY).is_none() => Hints::default(),
        (_, Some(url)) => Hints::of_api(url.to_string().trim_end_matches('/'), cli.ca.as_deref()),
    }
}

fn run(cli: Cli, hints: &Hints) -> Result<ExitCode, Failure> {
    if let Command::Serve(serve) = cli.command {
        return serve.run(cli.data, cli.json);
    }
    let output = Output::new(cli.json, hints.clone());
    let context = Context { client: Client::new(reach(&cli)?), output, entropy: entropy() };
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
        Command::Certificate(command) => command.run(context).await,
        Command::Route(command) => command.run(context).await,
        Command::Explain(command) => command.run(context).await,
        Command::Directory(command) => command.run(context).await,
        Command::User(command) => command.run(context).await,
        Command::Role(command) => command.run(context).await,
        Command::ServiceAccount(command) => command.run(context).await,
        Command::ApiKey(command) => command.run(context).await,
        Command::Warpgate(command) => command.run(context).await,
        Command::Edge(command) => command.run(context).await,
        Command::Ca(command) => command.run(context).await,
        Command::Key(command) => command.run(context).await,
        Command::Store(command) => command.run(context).await,
        Command::Mail(command) => command.run(context).await,
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
    let key = std::env::var(API_KEY).map_err(|_| {
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
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_leads_to_the_help_of_its_command() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(named(&words("--data /x route add shop /*")), "mezusphere route add");
        assert_eq!(named(&words("service-account delete")), "mezusphere service-account delete");
        assert_eq!(named(&words("nonsense")), "mezusphere");
    }

    #[test]
    fn the_help_of_a_command_begins_with_its_own_flags() {
        let mut command = Cli::command();
        command.build();
        let add = command.find_subcommand_mut("api-key").unwrap().find_subcommand_mut("create").unwrap();
        let help = add.render_help().to_string();
        let at = |flag: &str| help.find(flag).unwrap();
        let order = ["--out", "--data", "--json", "-h,"].map(at);
        assert!(order.is_sorted(), "{help}");
    }

    #[test]
    fn the_help_of_serve_names_no_flag_of_admin_commands() {
        let mut command = Cli::command();
        command.build();
        let serve = command.find_subcommand_mut("serve").unwrap().render_long_help().to_string();
        assert!(serve.contains("--listen") && serve.contains("--data"), "{serve}");
        assert!(!serve.contains("--api ") && !serve.contains("--ca "), "{serve}");
        let list = command.find_subcommand_mut("project").unwrap().render_long_help().to_string();
        assert!(list.contains("--api "), "{list}");
    }
}
