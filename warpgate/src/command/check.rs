//! `warpgate check`: a table of what a connect needs, before the first connect or when something is wrong.

use std::io::Write as _;

use clap::{ArgMatches, Args};
use warpgate::check::{Check as Look, Report, Row, run};
use warpgate::config::Settings;
use warpgate::exit::{EXIT_CODES_HELP, Exit};
use warpgate::key;
use warpgate::limits::BLOCKING_THREADS_MAX;
use warpgate::output::{Format, Style};
use warpgate::tunnel::{Network, ProxySettings};

use super::flags::{Flags, RunFlags, format};
use super::{clock, hostname, last_words, width};

fn after_help() -> String {
    format!(
        "\
Examples:
  warpgate check --key-file key --upstream 3000
  warpgate check --config /etc/warpgate/warpgate.toml --output json

Nothing is made or changed: control is asked what an enrollment would find, edges
are dialled up to the point where they ask for a certificate. Ends with the code of
the first failure on the way to the platform, else 15.

{EXIT_CODES_HELP}"
    )
}

/// Look at everything a connect needs: names, network, clock, key, certificate, upstreams.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(super) struct Check {
    #[command(flatten)]
    flags: Flags,
}

impl Check {
    pub(super) fn run(&self, matches: &ArgMatches) -> Exit {
        key::hide(std::env::args_os());
        let given = self.flags.given(&RunFlags::default(), matches);
        let asked = given.output;
        let settings = match self.flags.reader(given)() {
            Ok(settings) => settings,
            Err(why) => return last_words(&format!("{}\n  next: {}", why.message, why.next), Exit::Usage),
        };
        // A table is for reading; only who asks for JSON gets it, whatever standard output is.
        let form = match settings.output.or(asked) {
            Some(warpgate::config::Output::Json) => Format::Json,
            _ => match format(Some(warpgate::config::Output::Text)) {
                Format::Json => Format::Text(Style::Plain),
                text @ Format::Text(_) => text,
            },
        };
        let report = match self.look(&settings) {
            Ok(report) => report,
            Err((why, exit)) => return last_words(&why, exit),
        };
        let text = match form {
            Format::Json => report.json(),
            Format::Text(style) => report.text(style, width()),
        };
        match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => report.exit(),
            Err(_) => Exit::Failed,
        }
    }

    fn look(&self, settings: &Settings) -> Result<Report, (String, Exit)> {
        let variable = |name: &str| std::env::var(name).ok();
        let proxy = ProxySettings::find(settings.proxy.as_deref(), variable)
            .map_err(|why| (format!("{why}\n  next: {}", why.next()), Exit::Usage))?;
        let found = match self.flags.find_key(settings) {
            Ok(found) => found,
            // No key at all is wrong usage; a bad one is what a check is for.
            Err(why) if why.exit() == Exit::Usage => {
                return Err((format!("{why}\n  next: {}", why.next()), Exit::Usage));
            }
            Err(why) => {
                let row = Row::fail("key", "", why.to_string(), &why.next(), why.exit());
                return Ok(Report { rows: vec![row.coded("key.unusable")] });
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()
            .map_err(|why| (why.to_string(), Exit::Failed))?;
        let report = runtime.block_on(async {
            let network = Network::open().map_err(|why| (format!("no UDP socket: {why}"), Exit::Failed))?;
            let look = Look {
                key: found.key,
                key_hint: found.hint,
                key_source: found.source.to_string(),
                upstreams: settings.upstreams.clone(),
                state_dir: settings.state_dir.clone(),
                network: Network { proxy, ..network },
                clock: clock(),
                hostname: hostname(),
            };
            Ok(run(look).await)
        });
        runtime.shutdown_background();
        report
    }
}
