//! The `warpgate` program: reads the command line, builds the runtime, runs one command.
//!
//! The only place that reads the wall clock, draws randomness and knows the process; everything else is in
//! the library.

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::run().into()
}
