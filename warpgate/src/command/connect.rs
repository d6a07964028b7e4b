//! `warpgate connect`: the whole job.

use std::io::{IsTerminal as _, Write as _};

use clap::{ArgMatches, Args};
use mezusphere_model::{Clock, Entropy};
use mezusphere_telemetry::{LogConfig, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use warpgate::agent::{self, Config, NO_LOG, Reload};
use warpgate::config::{Settings, Shown, Source};
use warpgate::exit::{EXIT_CODES_HELP, Exit};
use warpgate::key::{self, Found, Source as KeySource};
use warpgate::limits::BLOCKING_THREADS_MAX;
use warpgate::local::place::Places;
use warpgate::notify::Notify;
use warpgate::output::{Event, Reporter};
use warpgate::state::{StateDir, StateError};
use warpgate::tunnel::ProxySettings;
use warpgate::upstream::DEFAULT_URL;

use super::flags::{Flags, Read, RunFlags, format};
use super::{clock, entropy, hostname};

/// What `warpgate connect --help` says after the options.
fn after_help() -> String {
    format!(
        "\
Examples:
  warpgate connect --key-file key --upstream 3000
  warpgate connect --config /etc/warpgate/warpgate.toml
  warpgate connect --key-file key --upstream unix:/run/app.sock --health-check /up

Where the key comes from, first match wins:
  --key-file FILE, WARPGATE_KEY, WARPGATE_KEY_FILE, standard input (--key -),
  $CREDENTIALS_DIRECTORY/warpgate-key (systemd: LoadCredential=warpgate-key:FILE),
  --key KEY, key-file in the file of settings

Every other option may be an environment variable (WARPGATE_STATE_DIR) or a line of
the file of settings (state-dir = \"...\"). Option wins over variable, variable over
file.

Signals:
  Ctrl-C or SIGTERM stops taking requests, lets running ones finish for 30 s, and
  exits with 0. A second one stops at once.
  SIGHUP reads the file of settings again: upstreams, health checks and log change
  without a lost request.

{EXIT_CODES_HELP}"
    )
}

/// Connect to the platform and forward requests to local upstreams, until stopped.
///
/// One key says where to connect, whom to trust and which environment to serve.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(super) struct Connect {
    #[command(flatten)]
    flags: Flags,

    #[command(flatten)]
    run: RunFlags,
}

/// How a start fails, before there is anything to run.
struct Failed {
    exit: Exit,
    code: &'static str,
    message: String,
    next: String,
}

impl Failed {
    fn new(exit: Exit, code: &'static str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { exit, code, message: message.into(), next: next.into() }
    }
}

impl Connect {
    pub(super) fn run(&self, matches: &ArgMatches) -> Exit {
        // Before anything else, so that the key is on the command line as briefly as possible.
        key::hide(std::env::args_os());
        let (clock, entropy) = (clock(), entropy());
        let given = self.flags.given(&self.run, matches);
        let asked = given.output;
        let read = self.flags.reader(given);
        let settings = read();
        let format = format(settings.as_ref().map_or(asked, |settings| settings.output));
        let started = Reporter::start(format, clock.clone(), std::io::stdout(), std::io::stderr());
        let (reporter, console) = match started {
            Ok(started) => started,
            Err(why) => return super::last_words(&format!("no thread for the output: {why}"), Exit::Failed),
        };
        let settings =
            settings.map_err(|why| Failed::new(Exit::Usage, "usage.settings", why.message, why.next));
        let exit = settings
            .and_then(|settings| self.prepare(settings, read, &reporter))
            .and_then(|prepared| prepared.run(clock, entropy, &reporter));
        let exit = exit.unwrap_or_else(|Failed { exit, code, message, next }| {
            reporter.tell(Event::Error { code: code.to_owned(), message, next, exit: exit.code() });
            exit
        });
        drop(reporter);
        console.finish();
        exit
    }

    fn prepare(&self, mut settings: Settings, read: Read, reporter: &Reporter) -> Result<Prepared, Failed> {
        let log = LogConfig {
            filter: settings.log.clone().unwrap_or_else(|| NO_LOG.to_owned()),
            format: LogFormat::Text,
        };
        let log = mezusphere_telemetry::log::init_adjustable(&log).map_err(|why| {
            Failed::new(Exit::Usage, "usage.log", why.to_string(), "use a level: --log debug")
        })?;
        let variable = |name: &str| std::env::var(name).ok();
        let proxy = ProxySettings::find(settings.proxy.as_deref(), variable)
            .map_err(|why| Failed::new(Exit::Usage, "usage.proxy", why.to_string(), why.next()))?;
        if self.flags.key.as_deref() == Some("-") && std::io::stdin().is_terminal() {
            writeln!(std::io::stderr(), "Paste the connection key, then press Enter:")
                .map_err(|why| Failed::new(Exit::Failed, "key.prompt", why.to_string(), ""))?;
        }
        let found = self.flags.find_key(&settings);
        let found =
            found.map_err(|why| Failed::new(why.exit(), "key.unusable", why.to_string(), why.next()))?;
        let mut notes = found.notes.clone();
        let state = match settings.state_dir.as_deref().map(StateDir::open).transpose() {
            Ok(state) => state,
            // A start must not fail because the process before still drains, and both can work.
            Err(why @ StateError::InUse(_)) => {
                notes.push(format!("{why}; this one is a warpgate of its own and keeps nothing"));
                None
            }
            Err(why) => {
                let next = "give a directory that this user owns, or leave --state-dir out";
                return Err(Failed::new(Exit::Usage, "state.unusable", why.to_string(), next));
            }
        };
        let places = Places::find(|name| std::env::var_os(name));
        let socket = match places.socket(state.as_ref().map(StateDir::path)) {
            Ok(path) => Some(path),
            Err(why) => {
                notes.push(format!(
                    "no place for a control socket ({why}), so `warpgate status` will not find this one; set {}",
                    warpgate::local::place::VARIABLE
                ));
                None
            }
        };
        if settings.is_default_upstream {
            notes.push(format!("no --upstream given: requests go to {DEFAULT_URL}"));
        }
        for text in notes {
            reporter.tell(Event::Note { text });
        }
        show_the_rest(&mut settings.shown, &found, &proxy);
        let Found { key, hint, source, .. } = found;
        let config = Config {
            state,
            health: settings.health,
            exit_on_failure: settings.exit_on_failure,
            require_origin: settings.require_origin,
            proxy,
            key_source: source.to_string(),
            settings: settings.shown,
            socket,
            notify: Notify::from_environment(|name| std::env::var_os(name)),
            ..Config::new(key, hint, settings.upstreams, hostname())
        };
        Ok(Prepared { config, read, log })
    }
}

/// What the settings do not know: the key, and a proxy of the environment. Neither shows a secret.
fn show_the_rest(shown: &mut Vec<Shown>, found: &Found, proxy: &ProxySettings) {
    let named = |row: &&Shown| row.name == warpgate::config::name::KEY_FILE && !row.value.is_empty();
    let source = match found.source {
        KeySource::Argument | KeySource::Stdin => Source::Flag,
        KeySource::Variable | KeySource::Credential(_) => Source::Environment,
        // Named by a flag, by a variable, or by the file of settings if neither names one.
        KeySource::File(_) => shown.iter().find(named).map_or(Source::Environment, |row| row.source),
    };
    let value = format!("…{} (from {})", found.hint, found.source);
    shown.insert(0, Shown { name: "key".to_owned(), value, source });
    if let Some(row) = shown.iter_mut().find(|row| row.name == warpgate::config::name::PROXY)
        && row.source == Source::Default
        && let Some(by_environment) = proxy.shown()
    {
        (row.value, row.source) = (by_environment, Source::Environment);
    }
}

/// Everything a start needs.
struct Prepared {
    config: Config,
    read: Read,
    log: mezusphere_telemetry::LogLevel,
}

impl Prepared {
    fn run(self, clock: Clock, entropy: Entropy, reporter: &Reporter) -> Result<Exit, Failed> {
        let Self { mut config, read, log } = self;
        // One thread for all I/O: with more, the same work takes twice the CPU.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()
            .map_err(|why| Failed::new(Exit::Failed, "runtime", why.to_string(), ""))?;
        let exit = runtime.block_on(async {
            let signals =
                signals().map_err(|why| Failed::new(Exit::Failed, "signals", why.to_string(), ""))?;
            config.reload = Some(Reload { asked: signals.reload, again: read, log: Some(log) });
            Ok(Box::pin(agent::run(config, clock, entropy, reporter.clone(), signals.stop)).await)
        });
        // A name that is still being looked up must not hold the end.
        runtime.shutdown_background();
        exit
    }
}

/// How many signals of each kind have come.
struct Signals {
    stop: watch::Receiver<u32>,
    reload: watch::Receiver<u32>,
}

/// Counts signals. The task ends with the runtime.
fn signals() -> std::io::Result<Signals> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    let has_terminal = || std::fs::File::open("/dev/tty").is_ok();
    let began_on_one = has_terminal();
    let (ending, stops) = watch::channel(0);
    let (again, reloads) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            let counter = tokio::select! {
                _ = interrupt.recv() => &ending,
                _ = terminate.recv() => &ending,
                // The same signal says that the terminal was closed; then nobody is left to stop us otherwise.
                _ = hang_up.recv() => if began_on_one && !has_terminal() { &ending } else { &again },
            };
            counter.send_modify(|count| *count += 1);
        }
    });
    Ok(Signals { stop: stops, reload: reloads })
}
