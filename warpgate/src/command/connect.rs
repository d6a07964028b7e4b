//! `warpgate connect`: the whole job.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mezusphere_model::{Clock, Entropy};
use mezusphere_telemetry::{LogConfig, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use warpgate::agent::{self, Config};
use warpgate::exit::{EXIT_CODES_HELP, Exit};
use warpgate::key::{self, Found, Sources};
use warpgate::limits::BLOCKING_THREADS_MAX;
use warpgate::output::{Event, Format, Reporter, Style};
use warpgate::state::{StateDir, StateError};
use warpgate::tunnel::ProxySettings;
use warpgate::upstream::{DEFAULT_URL, Declared, Upstreams};

const UPSTREAM_HELP: &str = "Where requests go; may be repeated [default: http://127.0.0.1:8080]";

const UPSTREAM_LONG_HELP: &str = "Where requests go; may be repeated [default: http://127.0.0.1:8080]

Routes name an upstream; the one without a name is `default`. Examples: 3000, 127.0.0.1:3000,
docs=http://docs.internal:8081.";

/// What `warpgate connect --help` says after the options.
fn after_help() -> String {
    format!(
        "\
Where the key comes from, first match wins:
  --key-file FILE, WARPGATE_KEY, WARPGATE_KEY_FILE, standard input (--key -),
  $CREDENTIALS_DIRECTORY/warpgate-key (systemd LoadCredential=warpgate-key:FILE), --key KEY

Signals:
  Ctrl-C or SIGTERM stops taking requests, lets running ones finish for 30 s, and exits with 0.
  A second one stops at once.

{EXIT_CODES_HELP}"
    )
}

/// Connect to the platform and forward requests to local upstreams, until stopped.
///
/// One key says where to connect, whom to trust and which environment to serve.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(super) struct Connect {
    /// The connection key, or - to read it from standard input
    ///
    /// A key on the command line can be read by other users of this machine for a moment, until warpgate has
    /// started itself over without it. For services use --key-file or `WARPGATE_KEY`.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,

    /// A file that holds the connection key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    #[arg(long = "upstream", value_name = "[NAME=]URL", help = UPSTREAM_HELP, long_help = UPSTREAM_LONG_HELP)]
    upstreams: Vec<Declared>,

    /// Keep certificate and key here, so that a restart needs no control plane [default: in memory only]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// How to print [default: text on a terminal, json otherwise]
    #[arg(long, value_enum)]
    output: Option<Output>,

    /// Answer /healthz, /readyz and /metrics on this loopback address
    #[arg(long, value_name = "ADDRESS:PORT")]
    health: Option<SocketAddr>,

    /// End when the platform cannot be reached, instead of trying for ever
    #[arg(long)]
    exit_on_failure: bool,

    /// Write a log to standard error: a level, or directives as `warpgate=debug`
    #[arg(long, value_name = "FILTER", env = "WARPGATE_LOG")]
    log: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Connect {
    pub(super) fn run(self) -> Exit {
        // Before anything else, so that the key is on the command line as briefly as possible.
        key::hide(std::env::args_os());
        let (clock, entropy) = (clock(), entropy());
        let started = Reporter::start(self.format(), clock.clone(), std::io::stdout(), std::io::stderr());
        let (reporter, console) = match started {
            Ok(started) => started,
            Err(why) => return last_words(&format!("no thread for the output: {why}")),
        };
        let exit = self.run_with(&clock, entropy, &reporter);
        drop(reporter);
        console.finish();
        exit
    }

    fn run_with(self, clock: &Clock, entropy: Entropy, reporter: &Reporter) -> Exit {
        let fail = |exit: Exit, code: &str, message: String, next: String| {
            reporter.tell(Event::Error { code: code.to_owned(), message, next, exit: exit.code() });
            exit
        };
        if let Some(filter) = &self.log {
            let config = LogConfig { filter: filter.clone(), format: LogFormat::Text };
            if let Err(why) = mezusphere_telemetry::log::init(&config) {
                return fail(
                    Exit::Usage,
                    "usage.log",
                    why.to_string(),
                    "use a level: --log debug".to_owned(),
                );
            }
        }
        let is_default = self.upstreams.is_empty();
        let upstreams = match Upstreams::new(self.upstreams) {
            Ok(upstreams) => upstreams,
            Err(why) => {
                let next = "see: warpgate connect --help".to_owned();
                return fail(Exit::Usage, "usage.upstream", why.to_string(), next);
            }
        };
        let from_terminal = self.key.as_deref() == Some("-") && std::io::stdin().is_terminal();
        if from_terminal
            && let Err(why) = writeln!(std::io::stderr(), "Paste the connection key, then press Enter:")
        {
            return fail(Exit::Failed, "key.prompt", why.to_string(), String::new());
        }
        let found = Sources::from_environment(self.key_file, self.key).find(std::io::stdin());
        let Found { key, hint, mut notes, .. } = match found {
            Ok(found) => found,
            Err(why) => return fail(why.exit(), "key.unusable", why.to_string(), why.next()),
        };
        let state = match self.state_dir.as_deref().map(StateDir::open).transpose() {
            Ok(state) => state,
            // A start must not fail because the process before still drains, and both can work.
            Err(why @ StateError::InUse(_)) => {
                notes.push(format!("{why}; this one is a warpgate of its own and keeps nothing"));
                None
            }
            Err(why) => {
                let next = "give a directory that this user owns, or leave --state-dir out".to_owned();
                return fail(Exit::Usage, "state.unusable", why.to_string(), next);
            }
        };
        for text in notes {
            reporter.tell(Event::Note { text });
        }
        if is_default {
            reporter.tell(Event::Note { text: format!("no --upstream given: requests go to {DEFAULT_URL}") });
        }
        let config = Config {
            state,
            health: self.health,
            exit_on_failure: self.exit_on_failure,
            ..Config::new(key, hint, upstreams, hostname())
        };
        // One thread for all I/O: with more, the same work takes twice the CPU.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(why) => return fail(Exit::Failed, "runtime", why.to_string(), String::new()),
        };
        let exit = runtime.block_on(async {
            match signals() {
                Ok(signals) => agent::run(config, clock.clone(), entropy, reporter.clone(), signals).await,
                Err(why) => fail(Exit::Failed, "signals", why.to_string(), String::new()),
            }
        });
        // A name that is still being looked up must not hold the end.
        runtime.shutdown_background();
        exit
    }

    fn format(&self) -> Format {
        let terminal = std::io::stdout().is_terminal();
        match self.output {
            Some(Output::Json) => Format::Json,
            None if !terminal => Format::Json,
            _ if terminal && std::env::var_os("NO_COLOR").is_none() => Format::Text(Style::Coloured),
            _ => Format::Text(Style::Plain),
        }
    }
}

/// Counts the signals to stop. The task ends with the runtime.
fn signals() -> std::io::Result<watch::Receiver<u32>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(counted)
}

#[expect(clippy::disallowed_methods, reason = "main is where the wall clock comes in")]
fn clock() -> Clock {
    Clock::new(std::time::SystemTime::now)
}

#[expect(clippy::disallowed_methods, reason = "main is where randomness comes in")]
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

fn last_words(why: &str) -> Exit {
    // Nothing is left to do if this cannot be written either.
    drop(writeln!(std::io::stderr(), "error: {why}"));
    Exit::Failed
}
