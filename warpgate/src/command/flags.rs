//! The flags that `connect` and `check` share, and how they become settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, ValueEnum};
use warpgate::agent::Unusable;
use warpgate::config::{self, Given, Output as Form, Settings, Source, name};
use warpgate::key::{Found, KeyError, Sources};
use warpgate::output::{Format, Style};
use warpgate::upstream::{Declared, HealthCheck, Named, Pin, Protocol, Setting};

const UPSTREAM_HELP: &str = "Where requests go; may be repeated [default: http://127.0.0.1:8080]";

const UPSTREAM_LONG_HELP: &str = "Where requests go; may be repeated [default: http://127.0.0.1:8080]

Routes name an upstream; the one without a name is `default`. Examples: 3000, 127.0.0.1:3000,
docs=http://docs.internal:8081, https://10.0.0.5, h2c://127.0.0.1:50051, unix:/run/app.sock.";

/// What `connect` and `check` have in common.
#[derive(Clone, Debug, Args)]
pub(super) struct Flags {
    /// The connection key, or - to read it from standard input
    ///
    /// A key on the command line can be read by other users of this machine for a moment, until warpgate has
    /// started itself over without it. For services use --key-file or `WARPGATE_KEY`.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, help_heading = "Key")]
    pub(super) key: Option<String>,

    /// A file that holds the connection key
    #[arg(long, value_name = "FILE", help_heading = "Key")]
    key_file: Option<PathBuf>,

    /// A file with settings: TOML, with the names of these options
    #[arg(long, value_name = "FILE", env = "WARPGATE_CONFIG", hide_env = true, help_heading = "Settings")]
    config: Option<PathBuf>,

    #[arg(long = "upstream", value_name = "[NAME=]URL", help = UPSTREAM_HELP, long_help = UPSTREAM_LONG_HELP,
        env = "WARPGATE_UPSTREAM", hide_env = true, value_delimiter = ',', help_heading = "Upstreams")]
    upstreams: Vec<Declared>,

    /// Certificate authorities of an https upstream, PEM, in place of the system's
    #[arg(
        long,
        value_name = "[NAME=]FILE",
        env = "WARPGATE_UPSTREAM_CA",
        hide_env = true,
        value_delimiter = ',',
        help_heading = "Upstreams"
    )]
    upstream_ca: Vec<Named<PathBuf>>,

    /// The public key an https upstream must show, in place of any authority: sha256//BASE64
    #[arg(
        long,
        value_name = "[NAME=]PIN",
        env = "WARPGATE_UPSTREAM_PIN",
        hide_env = true,
        value_delimiter = ',',
        help_heading = "Upstreams"
    )]
    upstream_pin: Vec<Named<Pin>>,

    /// The name an https upstream must prove, in place of its host
    #[arg(
        long,
        value_name = "[NAME=]HOST",
        env = "WARPGATE_UPSTREAM_SERVER_NAME",
        hide_env = true,
        value_delimiter = ',',
        help_heading = "Upstreams"
    )]
    upstream_server_name: Vec<Named<String>>,

    /// What an https upstream is offered: auto (h2, then h1), h1 or h2
    #[arg(
        long,
        value_name = "[NAME=]PROTOCOL",
        env = "WARPGATE_UPSTREAM_PROTOCOL",
        hide_env = true,
        value_delimiter = ',',
        help_heading = "Upstreams"
    )]
    upstream_protocol: Vec<Named<Protocol>>,

    /// Ask an upstream for this path every 10 s; while it is bad, requests go to other warpgates
    #[arg(
        long,
        value_name = "[NAME=]PATH",
        env = "WARPGATE_HEALTH_CHECK",
        hide_env = true,
        help_heading = "Upstreams"
    )]
    health_check: Vec<Named<HealthCheck>>,

    /// Keep certificate and key here, so that a restart needs no control plane [default: in memory only]
    #[arg(long, value_name = "DIR", env = "WARPGATE_STATE_DIR", hide_env = true)]
    state_dir: Option<PathBuf>,

    /// The HTTP proxy on the way out, for TCP: `http://[USER:PASSWORD@]HOST:PORT` [default: what `HTTPS_PROXY` and
    /// `NO_PROXY` say]
    #[arg(long, value_name = "URL", env = "WARPGATE_PROXY", hide_env = true)]
    proxy: Option<String>,

    /// How to print [default: text; connect prints json where standard output is no terminal]
    #[arg(long, value_enum, env = "WARPGATE_OUTPUT", hide_env = true)]
    output: Option<Output>,

    /// Write a log to standard error: a level, or directives as `warpgate=debug`
    #[arg(long, value_name = "FILTER", env = "WARPGATE_LOG", hide_env = true)]
    log: Option<String>,
}

/// What only `connect` has.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct RunFlags {
    /// Answer /healthz, /readyz and /metrics on this loopback address
    #[arg(long, value_name = "ADDRESS:PORT", env = "WARPGATE_HEALTH", hide_env = true)]
    health: Option<SocketAddr>,

    /// End when the platform cannot be reached, instead of trying for ever
    #[arg(long, value_name = "BOOL", env = "WARPGATE_EXIT_ON_FAILURE", hide_env = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    exit_on_failure: Option<bool>,

    /// End if an upstream that a route leads to does not answer at the start
    #[arg(long, value_name = "BOOL", env = "WARPGATE_REQUIRE_ORIGIN", hide_env = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    require_origin: Option<bool>,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl From<Output> for Form {
    fn from(output: Output) -> Self {
        match output {
            Output::Text => Self::Text,
            Output::Json => Self::Json,
        }
    }
}

/// How to print on this standard output.
pub(super) fn format(asked: Option<Form>) -> Format {
    use std::io::IsTerminal as _;
    let terminal = std::io::stdout().is_terminal();
    match asked {
        Some(Form::Json) => Format::Json,
        None if !terminal => Format::Json,
        _ if terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) => {
            Format::Text(Style::Coloured)
        }
        _ => Format::Text(Style::Plain),
    }
}

/// Reads all settings, as often as one likes: the flags, and the file as it is then.
pub(super) type Read = Arc<dyn Fn() -> Result<Settings, Unusable> + Send + Sync>;

impl Flags {
    /// What the command line and the environment say.
    pub(super) fn given(&self, run: &RunFlags, matches: &ArgMatches) -> Given {
        let mut given = Given {
            key_file: self.key_file.clone(),
            upstreams: self.upstreams.clone(),
            said: Vec::new(),
            state_dir: self.state_dir.clone(),
            output: self.output.map(Form::from),
            health: run.health,
            exit_on_failure: run.exit_on_failure,
            require_origin: run.require_origin,
            log: self.log.clone(),
            proxy: self.proxy.clone(),
            sources: std::collections::BTreeMap::new(),
        };
        let said = &mut given.said;
        said.extend(self.upstream_ca.iter().cloned().map(|one| (one.name, Setting::Ca(one.value))));
        said.extend(self.upstream_pin.iter().cloned().map(|one| (one.name, Setting::Pin(one.value))));
        let names = self.upstream_server_name.iter().cloned();
        said.extend(names.map(|one| (one.name, Setting::ServerName(one.value))));
        let protocols = self.upstream_protocol.iter().cloned();
        said.extend(protocols.map(|one| (one.name, Setting::Protocol(one.value))));
        said.extend(self.health_check.iter().cloned().map(|one| (one.name, Setting::Health(one.value))));
        for (id, name) in [
            ("upstreams", name::UPSTREAM),
            ("upstream_ca", name::UPSTREAM_CA),
            ("upstream_pin", name::UPSTREAM_PIN),
            ("upstream_server_name", name::UPSTREAM_SERVER_NAME),
            ("upstream_protocol", name::UPSTREAM_PROTOCOL),
            ("health_check", name::HEALTH_CHECK),
            ("state_dir", name::STATE_DIR),
            ("output", name::OUTPUT),
            ("log", name::LOG),
            ("proxy", name::PROXY),
            ("health", name::HEALTH),
            ("exit_on_failure", name::EXIT_ON_FAILURE),
            ("require_origin", name::REQUIRE_ORIGIN),
        ] {
            let known = matches.try_contains_id(id).is_ok();
            if known && matches.value_source(id) == Some(ValueSource::EnvVariable) {
                given.sources.insert(name, Source::Environment);
            }
        }
        given
    }

    /// How the settings are read.
    pub(super) fn reader(&self, flags: Given) -> Read {
        let path = self.config.clone();
        Arc::new(move || {
            let file = match path.as_deref().map(config::read).transpose() {
                Ok(file) => file.unwrap_or_default(),
                Err(why) => return Err(Unusable { message: why.to_string(), next: why.next }),
            };
            config::merge(&flags, &file).map_err(|why| Unusable {
                message: why.to_string(),
                next: "see: warpgate connect --help".to_owned(),
            })
        })
    }

    /// The key: what the file of settings names comes after everything else.
    pub(super) fn find_key(&self, settings: &Settings) -> Result<Found, KeyError> {
        match Sources::from_environment(self.key_file.clone(), self.key.clone()).find(std::io::stdin()) {
            Err(KeyError::Missing) if settings.key_file.is_some() => {
                let file = settings.key_file.clone();
                Sources { file, ..Sources::default() }.find(std::io::empty())
            }
            found => found,
        }
    }
}
