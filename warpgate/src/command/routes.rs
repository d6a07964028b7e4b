//! `warpgate routes`: what is published, and where it leads.

use std::io::Write as _;

use clap::Args;
use warpgate::exit::Exit;
use warpgate::local::Ask;
use warpgate::local::report::RoutesReport;
use warpgate::output::{Event, plain};

use super::local::{Which, unanswered};

/// Show what a running warpgate publishes: each route with its upstream, and how that answers right now.
#[derive(Debug, Args)]
pub(super) struct Routes {
    #[command(flatten)]
    which: Which,
}

impl Routes {
    pub(super) fn run(&self) -> Exit {
        let instance = match self.which.find("routes") {
            Ok(instance) => instance,
            Err(exit) => return exit,
        };
        let report: RoutesReport = match instance.ask(&Ask::Routes) {
            Ok(report) => report,
            Err(why) => return unanswered(&why),
        };
        let text = match report.revision {
            _ if self.which.is_json() => serde_json::to_string(&report).unwrap_or_default() + "\n",
            Some(revision) => plain(&Event::Routes { revision, routes: report.routes }),
            None => "No routes are known yet: the control plane has not answered.\n".to_owned(),
        };
        match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => Exit::Done,
            Err(_) => Exit::Failed,
        }
    }
}
