//! `warpgate logs`: what a running warpgate told lately, and what it tells next.

use std::io::{self, Write as _};

use clap::Args;
use warpgate::exit::Exit;
use warpgate::local::Ask;
use warpgate::local::client::AskError;

use super::local::{Which, unanswered};

/// Show what a running warpgate told lately; with --follow, go on with what comes.
#[derive(Debug, Args)]
pub(super) struct Logs {
    #[command(flatten)]
    which: Which,

    /// Go on with what comes, until Ctrl-C
    #[arg(long, short)]
    follow: bool,

    /// How many of the newest lines
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100, value_parser = count)]
    lines: usize,
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("'{text}' is not a whole number"))
}

impl Logs {
    pub(super) fn run(&self) -> Exit {
        let instance = match self.which.find("logs") {
            Ok(instance) => instance,
            Err(exit) => return exit,
        };
        let ask = Ask::Logs { lines: self.lines, follow: self.follow, text: !self.which.is_json() };
        let mut out = io::stdout();
        let mut write_failed = false;
        let shown = instance.lines(&ask, |line| {
            let written = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
            write_failed = written.is_err();
            written
        });
        match shown {
            Ok(()) => Exit::Done,
            // Whoever read along, `head` for one, has enough.
            Err(AskError::Io(why)) if write_failed && why.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Err(why) => unanswered(&why),
        }
    }
}
